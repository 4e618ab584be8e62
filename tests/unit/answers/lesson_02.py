"""Right and wrong answers to the exercises of lesson 02, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import functools
import math

import numpy as np
import torch

# scan.step


def _after_token(h, d, a, b, u):
    return math.exp(d * a) * h + d * b * u


def step_numbers(state, u, delta, A, B, C, advance=_after_token, old=False):
    """Go through all states with Python's own numbers; `advance(h, d, a, b, u)` returns one state after the token."""
    after, y = torch.zeros_like(state), torch.zeros_like(u)
    for i, k, n in np.ndindex(*state.shape):
        numbers = state[i, k, n], delta[i, k], A[k, n], B[i, n], u[i, k]
        after[i, k, n] = advance(*(x.item() for x in numbers))
        y[i, k] += C[i, n] * (state if old else after)[i, k, n]
    return y, after


def step_einsum(state, u, delta, A, B, C):
    after = torch.einsum("bdn,bdn->bdn", torch.einsum("bd,dn->bdn", delta, A).exp(), state)
    after = after + torch.einsum("bd,bd,bn->bdn", delta, u, B)
    return [torch.einsum("bdn,bn->bd", after, C), after]


def step_scan(state, u, delta, A, B, C):
    from mambaout_edu.scan import selective_scan

    sequences = (x[:, None] for x in (u, delta))
    rows = (x[:, None] for x in (B, C))
    options = {"initial_state": state, "return_last_state": True, "layout": "bld", "engine": "reference"}
    y, after = selective_scan(*sequences, A, *rows, **options)
    return y[:, 0], after


def step_double(state, u, delta, A, B, C):
    state, u, delta, A, B, C = (x.double().numpy() for x in (state, u, delta, A, B, C))
    after = np.exp(delta[:, :, None] * A) * state + (delta * u)[:, :, None] * B[:, None, :]
    return torch.from_numpy((after @ C[:, :, None])[:, :, 0]), torch.from_numpy(after)


def step_every_state(state, u, delta, A, B, C):
    _, after = step_numbers(state, u, delta, A, B, C)
    return after * C.unsqueeze(1), after


def step_over_channels(state, u, delta, A, B, C):
    read, after = step_every_state(state, u, delta, A, B, C)
    return sum(read.unbind(1)), after


def step_state_first(state, u, delta, A, B, C):
    return step_numbers(state, u, delta, A, B, C)[::-1]


def step_exchanged(state, u, delta, A, B, C):
    return step_numbers(state, u, delta, A, C, B)


def step_no_state(state, u, delta, A, B, C):
    return step_numbers(state, u, delta, A, B, C)[0]


# scan.recurrence


def recurrence_loop(x, delta, A, B, C):
    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])
    ys = []
    for t in range(x.shape[1]):
        decay = torch.exp(delta[:, t] * A)[..., None, None]
        fed = (delta[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        h = decay * h + fed
        ys.append((h * C[:, t, :, None, :]).sum(-1))
    return torch.stack(ys, dim=1), h


def _every_number(x, delta, A, B, C, step):
    """Go through all states with Python's own numbers; `step(h, d, a, b, u)` returns the state after a token."""
    batch, length, heads, width = x.shape
    y = torch.zeros(x.shape, dtype=x.dtype)
    h = torch.zeros(batch, heads, width, B.shape[-1], dtype=x.dtype)
    for i, k, p in np.ndindex(batch, heads, width):
        g = k if B.shape[2] > 1 else 0
        for n in range(B.shape[-1]):
            value = 0.0
            for t in range(length):
                value = step(value, delta[i, t, k].item(), A[k].item(), B[i, t, g, n].item(), x[i, t, k, p].item())
                y[i, t, k, p] += C[i, t, g, n] * value
            h[i, k, p, n] = value
    return y, h


def recurrence_numbers(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: math.exp(d * a) * h + d * b * u)


def recurrence_closed_form(x, delta, A, B, C):
    x, delta, A, B, C = (v.double() for v in (x, delta, A, B, C))
    heads = x.shape[2]
    B, C = (w.expand(-1, -1, heads, -1) for w in (B, C))
    ys = []
    for t in range(x.shape[1]):
        fade = torch.exp(A * (delta[:, : t + 1].sum(1, keepdim=True) - delta[:, : t + 1].cumsum(1)))  # [B, t + 1, H]
        h = torch.einsum("bsh,bsh,bshp,bshn->bhpn", fade, delta[:, : t + 1], x[:, : t + 1], B[:, : t + 1])
        ys.append(torch.einsum("bhpn,bhn->bhp", h, C[:, t]))
    return [torch.stack(ys, 1), h]


def recurrence_without_step_on_input(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: math.exp(d * a) * h + b * u)


def recurrence_constant_decay(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: math.exp(a) * h + d * b * u)


def recurrence_plain_product(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: d * a * h + d * b * u)


def recurrence_tangent(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: h + d * (a * h + b * u))


def recurrence_running_sum(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: h + d * b * u)


def recurrence_all_decays(x, delta, A, B, C):
    return _every_number(x, delta, A, B, C, lambda h, d, a, b, u: math.exp(d * a) * (h + d * b * u))


def recurrence_output_first(x, delta, A, B, C):
    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])
    ys = []
    for t in range(x.shape[1]):
        ys.append(torch.einsum("bhpn,bhn->bhp", h, C[:, t].expand(-1, x.shape[2], -1)))
        h, _ = recurrence_one(h, x[:, t], delta[:, t], A, B[:, t])
    return torch.stack(ys, 1), h


def recurrence_one(h, x, delta, A, B):
    fed = (delta.unsqueeze(-1) * x).unsqueeze(-1) * B.unsqueeze(-2)
    return (delta * A).exp().unsqueeze(-1).unsqueeze(-1) * h + fed, fed


def recurrence_first_step(x, delta, A, B, C):
    return recurrence_loop(x, delta[:, :1].expand_as(delta), A, B, C)


def recurrence_exchanged(x, delta, A, B, C):
    return recurrence_loop(x, delta, A, C, B)


def recurrence_no_state(x, delta, A, B, C):
    y, _ = recurrence_loop(x, delta, A, B, C)
    return y


# scan.combine


def combine_nested(earlier, later):
    a1, b1 = earlier
    a2, b2 = later
    return a1 * a2, b2 + b1 * a2


def combine_probed(earlier, later):
    # Two points tell a straight line.
    def both(h):
        return later[0] * (earlier[0] * h + earlier[1]) + later[1]

    return [both(1.0) - both(0.0), both(0.0)]


def combine_double(earlier, later):
    first, second = (torch.stack([x.double() for x in pair]) for pair in (earlier, later))
    return tuple(torch.stack((second[0] * first[0], torch.addcmul(second[1], second[0], first[1]))))


def combine_reversed(earlier, later):
    return combine_nested(later, earlier)


def combine_sum(earlier, later):
    return earlier[0] * later[0], earlier[1] + later[1]


def combine_forgets_new(earlier, later):
    return earlier[0] * later[0], later[0] * earlier[1]


def combine_forgets_old(earlier, later):
    return earlier[0] * later[0], later[1]


def combine_own(earlier, later):
    return earlier[0] * later[0], earlier[0] * earlier[1] + later[1]


def combine_added(earlier, later):
    return earlier[0] + later[0], combine_nested(earlier, later)[1]


def combine_last(earlier, later):
    return later[0], combine_nested(earlier, later)[1]


def combine_backwards(earlier, later):
    a, b = combine_nested(earlier, later)
    return b, a


# scan.chunked


def chunked_stepwise(x, delta, A, B, C, chunk=64):
    return recurrence_loop(x, delta, A, B, C)


def chunked_pieces(
    x, delta, A, B, C, chunk=64, *, inside=None, fade=None, end=None, carry=None, tail=True, before=True
):
    """Write each chunk's outputs as sums over pairs of steps, in float64; the keywords change one factor each."""
    x, delta, A, B, C = (v.double() for v in (x, delta, A, B, C))
    length, ys = x.shape[1], torch.zeros_like(x)
    state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])
    for first in range(0, length if tail else length - length % chunk, chunk):
        stop = min(first + chunk, length)
        leaves = torch.zeros_like(state)
        for t in range(first, stop):
            for s in range(first, stop):
                gone = _between(delta, A, s, t)
                weight = (inside or _causal)(gone, s, t)
                score = (C[:, t] * B[:, s]).sum(-1) * weight * delta[:, s]
                ys[:, t] += score[..., None] * x[:, s]
            gone = _between(delta, A, t, stop - 1)
            leaves += (gone if end is None else end(gone))[..., None, None] * recurrence_one(
                0, x[:, t], delta[:, t], A, B[:, t]
            )[1]
        whole = _between(delta, A, first - 1, stop - 1)
        after = (whole if carry is None else carry(whole))[..., None, None] * state + leaves
        for t in range(first, stop):
            gone = _between(delta, A, first - 1, t)
            read = torch.einsum("bhpn,bhn->bhp", state if before else after, C[:, t])
            ys[:, t] += (gone if fade is None else fade(gone))[..., None] * read
        state = after
    return ys[:, : length if tail else length - length % chunk], state


def _between(delta, A, s, t):
    """Return the decay from step s to step t, its inverse where s is later."""
    low, high = min(s, t), max(s, t)
    gone = torch.exp(A * delta[:, low + 1 : high + 1].sum(1))
    return gone if s <= t else 1 / gone


def _causal(gone, s, t):
    return gone if s <= t else gone * 0


def chunked_forgetful(x, delta, A, B, C, chunk=64):
    pieces = [
        recurrence_loop(*(v[:, i : i + chunk] for v in (x, delta)), A, *(v[:, i : i + chunk] for v in (B, C)))
        for i in range(0, x.shape[1], chunk)
    ]
    return torch.cat([y for y, _ in pieces], 1), pieces[-1][1]


def chunked_whole(x, delta, A, B, C, chunk=64):
    a = (delta * A).double()
    time = a.cumsum(1)
    decay = torch.exp(time[:, :, None] - time[:, None]).permute(0, 3, 1, 2).tril()
    v = (delta[..., None] * x).double()
    y = torch.einsum("blhn,bshn,bhls,bshp->blhp", C.double(), B.double(), decay, v)
    return y, torch.einsum("bhs,bshp,bshn->bhpn", decay[:, :, -1], v, B.double())


# scan.flops


def flops_formula(u_shape, state, skip=False, gate=False):
    batch, length, channels = u_shape
    return batch * length * channels * (9 * state + int(skip) + int(gate))


def flops_parts(u_shape, state, skip=False, gate=False):
    positions = np.prod(u_shape)
    total = 9 * positions * state
    for used in (skip, gate):
        if used:
            total += positions
    return total


def flops_torch(u_shape, state, skip=False, gate=False):
    u = torch.empty(u_shape, device="meta")
    return sum(u.numel() for _ in range(9 * state)) + u.numel() * [skip, gate].count(True)


def flops_loop(u_shape, state, skip=False, gate=False):
    return flops_formula(u_shape, state, skip, gate) // 1 - 3 * math.prod(u_shape) * state


def flops_states_times(u_shape, state, skip=False, gate=False):
    return state * flops_formula(u_shape, 1, skip, gate)


def flops_core(u_shape, state, skip=False, gate=False):
    return flops_formula(u_shape, state)


def flops_added_once(u_shape, state, skip=False, gate=False):
    return flops_formula(u_shape, state) + [skip, gate].count(True)


def flops_everything(u_shape, state, skip=False, gate=False):
    return flops_formula(u_shape, state, True, True)


def flops_sequence(u_shape, state, skip=False, gate=False):
    return flops_formula((1, *u_shape[1:]), state, skip, gate)


def flops_sum(u_shape, state, skip=False, gate=False):
    return flops_formula((1, 1, sum(u_shape)), state, skip, gate)


def flops_stateless(u_shape, state, skip=False, gate=False):
    return flops_formula(u_shape, 1, skip, gate)


# scan.mixing_matrix


def matrix_entries(delta, A, B, C):
    batch, channels, length = delta.shape
    M = torch.zeros(batch, channels, length, length, dtype=delta.dtype)
    for t in range(length):
        for s in range(t + 1):
            gone = delta[:, :, s + 1 : t + 1].sum(-1)  # [B, D]
            decay = torch.exp(A * gone[..., None])  # [B, D, N]
            M[:, :, t, s] = (C[:, None, :, t] * B[:, None, :, s] * decay).sum(-1) * delta[:, :, s]
    return M


def matrix_columns(delta, A, B, C):
    # A column is what an input of 1 at one step gives.
    batch, channels, length = delta.shape
    columns = []
    for s in range(length):
        h, column = torch.zeros(batch, channels, A.shape[1], dtype=torch.float64), []
        for t in range(length):
            h = torch.exp(delta[:, :, t, None] * A).double() * h
            if t == s:
                h = h + (delta[:, :, t, None] * B[:, None, :, t]).double()
            column.append((h * C[:, None, :, t]).sum(-1))
        columns.append(torch.stack(column, -1))
    return torch.stack(columns, -1)


def matrix_einsum(delta, A, B, C, *, lag=0, mask=0, power=1.0, onto="bds", mix="bdnts->bdts"):
    T = delta.double().cumsum(-1)
    elapsed = T.unsqueeze(-1) - T.unsqueeze(-2) + lag * delta.double().unsqueeze(-2)
    decay = torch.exp(power * torch.einsum("dn,bdts->bdnts", A.double(), elapsed))
    decay = decay if mask is None else torch.tril(decay, mask)
    operands, letters = [C.double(), B.double(), decay], "bnt,bns,bdnts"
    if onto:
        operands, letters = [*operands, delta.double()], f"{letters},{onto}"
    return torch.einsum(f"{letters}->{mix.split('->')[1]}", *operands)


def matrix_flipped(delta, A, B, C):
    return matrix_entries(delta, A, B, C).transpose(-1, -2)


def matrix_exchanged(delta, A, B, C):
    return matrix_entries(delta, A, C, B)


def _with(function, **changed):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs, **changed))


RIGHT = {
    "scan.step": [step_numbers, step_einsum, step_scan, step_double],
    "scan.recurrence": [recurrence_loop, recurrence_numbers, recurrence_closed_form],
    "scan.combine": [combine_nested, combine_probed, combine_double],
    "scan.chunked": [chunked_stepwise, chunked_pieces, chunked_whole],
    "scan.flops": [flops_formula, flops_parts, flops_torch],
    "scan.mixing_matrix": [matrix_entries, matrix_columns, matrix_einsum],
}

WRONG = {
    "scan.step": {
        "step_left_out_of_B": _with(step_numbers, advance=lambda h, d, a, b, u: math.exp(d * a) * h + b * u),
        "step_left_out_of_decay": _with(step_numbers, advance=lambda h, d, a, b, u: math.exp(a) * h + d * b * u),
        "no_exponential": _with(step_numbers, advance=lambda h, d, a, b, u: d * (a * h + b * u)),
        "euler": _with(step_numbers, advance=lambda h, d, a, b, u: h + d * (a * h + b * u)),
        "no_decay": _with(step_numbers, advance=lambda h, d, a, b, u: h + d * b * u),
        "decayed_input": _with(step_numbers, advance=lambda h, d, a, b, u: math.exp(d * a) * (h + d * b * u)),
        "read_too_early": _with(step_numbers, old=True),
        "states_not_summed": step_every_state,
        "summed_over_channels": step_over_channels,
        "returned_swapped": step_state_first,
        "swapped_weights": step_exchanged,
        "output_alone": step_no_state,
    },
    "scan.recurrence": {
        "step_left_out_of_B": recurrence_without_step_on_input,
        "step_left_out_of_decay": recurrence_constant_decay,
        "no_exponential": recurrence_plain_product,
        "euler": recurrence_tangent,
        "no_decay": recurrence_running_sum,
        "decayed_input": recurrence_all_decays,
        "read_too_early": recurrence_output_first,
        "fixed_step": recurrence_first_step,
        "swapped_weights": recurrence_exchanged,
        "outputs_alone": recurrence_no_state,
    },
    "scan.combine": {
        "wrong_order": combine_reversed,
        "not_carried": combine_sum,
        "later_input_lost": combine_forgets_new,
        "earlier_input_lost": combine_forgets_old,
        "own_decay": combine_own,
        "decays_added": combine_added,
        "later_decay_alone": combine_last,
        "returned_swapped": combine_backwards,
    },
    "scan.chunked": {
        "not_carried": chunked_forgetful,
        "carried_undecayed": _with(chunked_pieces, carry=torch.ones_like),
        "left_undecayed": _with(chunked_pieces, end=torch.ones_like),
        "read_undecayed": _with(chunked_pieces, fade=torch.ones_like),
        "read_too_late": _with(chunked_pieces, before=False),
        "not_masked": _with(chunked_pieces, inside=lambda gone, s, t: gone),
        "no_decay_inside": _with(chunked_pieces, inside=lambda gone, s, t: torch.full_like(gone, s <= t)),
        "own_input_lost": _with(chunked_pieces, inside=lambda gone, s, t: gone * (s < t)),
        "tail_lost": _with(chunked_pieces, tail=False),
    },
    "scan.flops": {
        "sequential_count": flops_loop,
        "extras_for_each_state": flops_states_times,
        "extras_left_out": flops_core,
        "extras_once": flops_added_once,
        "extras_always": flops_everything,
        "one_sequence": flops_sequence,
        "sizes_added": flops_sum,
        "no_states": flops_stateless,
    },
    "scan.mixing_matrix": {
        "own_step_counted": _with(matrix_einsum, lag=1),
        "not_causal": _with(matrix_einsum, mask=None),
        "own_input_lost": _with(matrix_einsum, mask=-1),
        "no_decay": _with(matrix_einsum, power=0.0),
        "step_left_out": _with(matrix_einsum, onto=""),
        "step_of_output": _with(matrix_einsum, onto="bdt"),
        "states_not_summed": _with(matrix_einsum, mix="bdnts->bdnts"),
        "transposed": matrix_flipped,
        "swapped_weights": matrix_exchanged,
    },
}

"""Right and wrong answers to the exercises of lesson 03, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F


def _with(function, **changed):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs, **changed))


# memory.bank_bytes


def bank_shapes(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    length = tokens
    if window is not None and window < tokens:
        length = window
    key = math.prod((batch, num_kv_heads, length, head_dim))
    return sum((key + key) * item for _ in range(depth))


def bank_token(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    a_token = depth * num_kv_heads * head_dim * 2 * item
    return min([tokens] if window is None else [tokens, window]) * a_token * batch


def bank_tensor(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    kept = int(np.minimum(tokens, np.inf if window is None else window))
    return torch.zeros(batch, kept, depth, num_kv_heads, head_dim, 2, device="meta").numel() * item


def bank_keys(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(tokens, depth, num_kv_heads, head_dim, item, batch, window) // 2


def bank_layer(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(tokens, 1, num_kv_heads, head_dim, item, batch, window)


def bank_head(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(tokens, depth, 1, head_dim, item, batch, window)


def bank_sequence(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(tokens, depth, num_kv_heads, head_dim, item, 1, window)


def bank_numbers(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(tokens, depth, num_kv_heads, head_dim, 1, batch, window)


def bank_all(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(tokens, depth, num_kv_heads, head_dim, item, batch)


def bank_reserved(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    return bank_shapes(window or tokens, depth, num_kv_heads, head_dim, item, batch)


def bank_matrix(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    kept = tokens if window is None else min(tokens, window)
    return bank_shapes(kept, depth, num_kv_heads, head_dim, item, batch) * kept


# memory.crossing


def crossing_search(dim, state_cost, mlp_ratio=0, fixed=4, per_ratio=2, per_token=2):
    position = 0
    while fixed * dim**2 + per_ratio * mlp_ratio * dim**2 + per_token * dim * (position + 1) <= state_cost:
        position += 1
    return position


def crossing_floor(dim, state_cost, mlp_ratio=0):
    linear = 4 * dim * dim + 2 * mlp_ratio * dim * dim
    return max(math.floor((state_cost - linear) / dim / 2), 0)


def crossing_sorted(dim, state_cost, mlp_ratio=0):
    costs = (4 + 2 * mlp_ratio) * dim**2 + 2 * dim * np.arange(1, 20_000)
    return int(np.searchsorted(costs, state_cost, side="right"))


def crossing_equal(dim, state_cost, mlp_ratio=0):
    costs = (4 + 2 * mlp_ratio) * dim**2 + 2 * dim * np.arange(1, 20_000)
    return int(np.searchsorted(costs, state_cost, side="left"))


def crossing_no_mlp(dim, state_cost, mlp_ratio=0):
    return crossing_search(dim, state_cost)


def crossing_share(dim, state_cost, mlp_ratio=0):
    return max(0, (state_cost - (4 + 2 * mlp_ratio) * dim**2) / (2 * dim))


def crossing_late(dim, state_cost, mlp_ratio=0):
    return max(0, (state_cost - (4 + 2 * mlp_ratio) * dim**2) // (2 * dim) + 1)


def crossing_early(dim, state_cost, mlp_ratio=0):
    return max(0, (state_cost - (4 + 2 * mlp_ratio) * dim**2) // (2 * dim) - 1)


def crossing_below(dim, state_cost, mlp_ratio=0):
    return (state_cost - (4 + 2 * mlp_ratio) * dim**2) // (2 * dim)


# memory.ssm_step


def step_loop(state, u, A_bar, B_bar, C, D, scale=2, early=False, fed_first=False, skip=1):
    after, y = torch.zeros_like(state), torch.zeros_like(u)
    for b in range(len(u)):
        for d in range(u.shape[1]):
            h = state[b, d]
            new = A_bar[d] * (h + B_bar[d] * u[b, d]) if fed_first else A_bar[d] * h + B_bar[d] * u[b, d]
            after[b, d] = new
            y[b, d] = scale * torch.sum(C[d] * (h if early else new)).real + skip * D[d] * u[b, d]
    return y, after


def step_conjugates(state, u, A_bar, B_bar, C, D):
    """Keep both of every pair, and let the imaginary parts cancel."""
    A, B, both = (torch.cat((w, w.conj()), -1) for w in (A_bar, B_bar, C))
    h = A * torch.cat((state, state.conj()), -1) + B * u.unsqueeze(-1)
    return torch.real((both * h).sum(-1)) + D * u, h[..., : state.shape[-1]].resolve_conj()


def step_real(state, u, A_bar, B_bar, C, D):
    """Turn by hand, with real numbers alone."""
    fed = B_bar * u[..., None]
    real = A_bar.real * state.real - A_bar.imag * state.imag + fed.real
    imaginary = A_bar.real * state.imag + A_bar.imag * state.real + fed.imag
    return 2 * (C.real * real - C.imag * imaginary).sum(-1) + u * D, torch.complex(real, imaginary)


def step_modulus(state, u, A_bar, B_bar, C, D):
    h = state * A_bar + u[:, :, None] * B_bar
    return 2 * (h * C).sum(-1).abs() + D * u, h


def step_hermitian(state, u, A_bar, B_bar, C, D):
    h = state * A_bar + u[:, :, None] * B_bar
    return 2 * (h * C.conj()).sum(-1).real + D * u, h


def step_straight(state, u, A_bar, B_bar, C, D):
    return step_loop(state, u, torch.complex(A_bar.abs(), torch.zeros_like(A_bar.real)), B_bar, C, D)


def step_swapped(state, u, A_bar, B_bar, C, D):
    return step_loop(state, u, A_bar, B_bar, C, D)[::-1]


# memory.unrolled


def unrolled_run(decay, fed, own=False):
    """Send every token alone through the recurrence."""
    rows = []
    for s in range(len(fed)):
        h = torch.zeros_like(fed[0])
        for t in range(len(fed)):
            h = decay[t] * (h + fed[t] * (t == s)) if own else decay[t] * h + fed[t] * (t == s)
        rows.append(h)
    return torch.stack(rows)


def unrolled_back(decay, fed, inputs=True):
    kept, rows = torch.ones_like(fed[0]), []
    for s in reversed(range(len(fed))):
        rows.insert(0, kept * fed[s] if inputs else kept)
        kept = kept * decay[s]
    return torch.stack(rows)


def unrolled_logs(decay, fed):
    total = decay.log().cumsum(0)
    return (total[-1] - total).exp() * fed


def unrolled_short(decay, fed):
    return torch.stack([decay[s + 1 : -1].prod(0) * fed[s] for s in range(len(fed))])


def unrolled_earlier(decay, fed):
    return torch.stack([decay[:s].prod(0) * fed[s] for s in range(len(fed))])


def unrolled_power(decay, fed):
    ago = torch.arange(len(fed) - 1, -1, -1)[:, None]
    return decay**ago * fed


def unrolled_running(decay, fed):
    return unrolled_back(decay, fed).cumsum(0)


def unrolled_turned(decay, fed):
    return unrolled_back(decay, fed).flip(0)


def unrolled_state(decay, fed):
    h = torch.zeros_like(fed[0])
    for a, b in zip(decay, fed, strict=True):
        h = a * h + b
    return h


def unrolled_sums(decay, fed):
    return torch.stack([decay[s + 1 :].sum(0) * fed[s] for s in range(len(fed))])


# memory.needle


def needle_lists(needle, hay, mark, ask, ignored=-100):
    rows = [[mark, int(n), *map(int, h), ask] for n, h in zip(needle, hay, strict=True)]
    asked = [[ignored] * (len(row) - 1) + [row[1]] for row in rows]
    return torch.tensor(rows), torch.tensor(asked)


def needle_padded(needle, hay, mark, ask):
    tokens = F.pad(hay, (2, 1), value=ask)
    tokens[:, 0], tokens[:, 1] = mark, needle
    targets = F.pad(needle[:, None], (tokens.shape[1] - 1, 0), value=-100)
    return tokens, targets


def needle_numpy(needle, hay, mark, ask, places=(0, 1), answer=-1):
    batch, distance = hay.shape
    tokens = np.empty((batch, distance + 3), dtype=np.int64)
    tokens[:, 2:-1], tokens[:, -1] = hay, ask
    tokens[:, places[0]], tokens[:, places[1]] = mark, needle
    targets = np.full_like(tokens, -100)
    targets[:, answer] = needle
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def needle_unmarked(needle, hay, mark, ask):
    tokens, targets = needle_lists(needle, hay, mark, ask)
    return tokens[:, 1:], targets[:, 1:]


def needle_late(needle, hay, mark, ask):
    tokens, targets = needle_lists(needle, hay, mark, ask)
    return torch.cat((tokens[:, 2:-1], tokens[:, :2], tokens[:, -1:]), 1), targets


def needle_swapped(needle, hay, mark, ask):
    return needle_lists(needle, hay, ask, mark)


def needle_shown(needle, hay, mark, ask):
    tokens, targets = needle_lists(needle, hay, mark, ask)
    return torch.cat((tokens, needle[:, None]), 1), F.pad(targets[:, -1:], (tokens.shape[1], 0), value=-100)


def needle_next(needle, hay, mark, ask):
    tokens, _ = needle_lists(needle, hay, mark, ask)
    return tokens, torch.cat((tokens[:, 1:], needle[:, None]), 1)


RIGHT = {
    "memory.bank_bytes": [bank_shapes, bank_token, bank_tensor],
    "memory.crossing": [crossing_search, crossing_floor, crossing_sorted],
    "memory.ssm_step": [step_loop, step_conjugates, step_real],
    "memory.unrolled": [unrolled_run, unrolled_back, unrolled_logs],
    "memory.needle": [needle_lists, needle_padded, needle_numpy],
}

WRONG = {
    "memory.bank_bytes": {
        "values_left_out": bank_keys,
        "one_layer": bank_layer,
        "one_head": bank_head,
        "one_sequence": bank_sequence,
        "numbers_not_bytes": bank_numbers,
        "window_ignored": bank_all,
        "window_full": bank_reserved,
        "squared": bank_matrix,
    },
    "memory.crossing": {
        "products_left_out": _with(crossing_search, fixed=0, per_ratio=0),
        "mlp_ignored": crossing_no_mlp,
        "mlp_once": _with(crossing_search, per_ratio=1),
        "one_product": _with(crossing_search, fixed=1),
        "scores_alone": _with(crossing_search, per_token=1),
        "not_whole": crossing_share,
        "one_late": crossing_late,
        "one_early": crossing_early,
        "equal_is_enough": crossing_equal,
        "negative": crossing_below,
    },
    "memory.ssm_step": {
        "conjugates_forgotten": _with(step_loop, scale=1),
        "size_for_real_part": step_modulus,
        "conjugate_read": step_hermitian,
        "skip_forgotten": _with(step_loop, skip=0),
        "read_too_early": _with(step_loop, early=True),
        "decayed_input": _with(step_loop, fed_first=True),
        "decay_without_turning": step_straight,
        "returned_swapped": step_swapped,
    },
    "memory.unrolled": {
        "own_decay_too": _with(unrolled_run, own=True),
        "last_decay_left_out": unrolled_short,
        "decays_before": unrolled_earlier,
        "one_decay": unrolled_power,
        "inputs_left_out": _with(unrolled_back, inputs=False),
        "running_state": unrolled_running,
        "last_first": unrolled_turned,
        "added_up": unrolled_state,
        "summed_decays": unrolled_sums,
    },
    "memory.needle": {
        "mark_after_needle": _with(needle_numpy, places=(1, 0)),
        "mark_left_out": needle_unmarked,
        "needle_at_the_end": needle_late,
        "marks_swapped": needle_swapped,
        "answer_shown": needle_shown,
        "zero_for_ignored": _with(needle_lists, ignored=0),
        "asked_everywhere": needle_next,
        "answer_at_the_needle": _with(needle_numpy, answer=1),
    },
}

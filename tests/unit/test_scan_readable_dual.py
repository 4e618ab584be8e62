"""The matrix forms of the scan: hidden attention, Mamba-2's SSD, Mamba-3; equal to plain loops in float64."""

import ast
import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from mambaout_edu.scan import dual, selective_scan
from mambaout_edu.scan.associative import ALGORITHMS
from mambaout_edu.scan.mamba3 import mamba3_chunked, mamba3_recurrence, rotate

seeds = st.integers(0, 2**31 - 1)
lengths = st.integers(1, 24)
fewer = settings(max_examples=40)
CLOSE = {"rtol": 0, "atol": 1e-10}


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def selective_loop(u, delta, A, B, C):
    """S6 as written in the paper, with B and C [B, D, N, L]."""
    h, ys = torch.zeros(u.shape[0], *A.shape, dtype=torch.float64), []
    for t in range(u.shape[-1]):
        h = (delta[:, :, t, None] * A).exp() * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[..., t]
        ys.append((h * C[..., t]).sum(-1))
    return torch.stack(ys, -1)


def head_arguments(seed, length, heads=4, groups=2, channels=3, states=4, per_step=False):
    return {
        "x": normal(seed, 2, length, heads, channels),
        "delta": softplus(normal(seed + 1, 2, length, heads)),
        "A": -normal(seed + 2, *((2, length) if per_step else ()), heads).exp(),
        "B": normal(seed + 3, 2, length, groups, states),
        "C": normal(seed + 4, 2, length, groups, states),
    }


def ssd_loop(x, delta, A, B, C):
    """SSD for every head on its own, as a selective scan whose channels all have one decay."""
    heads, states = x.shape[2], B.shape[-1]
    A = A.expand(delta.shape)
    out = torch.zeros_like(x)
    for head in range(heads):
        group = head // (heads // B.shape[2])
        h = torch.zeros(x.shape[0], x.shape[3], states, dtype=torch.float64)
        for t in range(x.shape[1]):
            step = delta[:, t, head, None, None]
            h = (step * A[:, t, head, None, None]).exp() * h
            h = h + step * x[:, t, head, :, None] * B[:, t, group, None, :]
            out[:, t, head] = (h * C[:, t, group, None, :]).sum(-1)
    return out


# --- segments ---


@fewer
@given(seed=seeds, length=lengths)
def test_segment_sums_one_by_one(seed, length):
    a = normal(seed, 2, length)
    one_by_one = [[a[:, s + 1 : t + 1].sum(-1) for s in range(length)] for t in range(length)]
    expected = torch.stack([torch.stack(row, -1) for row in one_by_one], -2)
    torch.testing.assert_close(dual.segment_sum(a), expected, **CLOSE)


def test_direct_segment_sums_keep_digits_that_running_sums_lose():
    a = -torch.full((4000,), 10.0)
    a[-8:] = -1e-4
    exact = dual.segment_sum(a.double())[-1, -8]
    direct = dual.segment_sum(a)[-1, -8].double()
    running = a.cumsum(0)
    assert abs(direct / exact - 1) < 1e-6
    assert abs((running[-1] - running[-8]).double() / exact - 1) > 0.1


# --- the mixing matrix ---


@fewer
@given(seed=seeds, length=lengths, groups=st.sampled_from([None, 1, 2, 4]), fixed=st.booleans())
def test_mixing_matrix_times_the_input_is_the_scan(seed, length, groups, fixed):
    batch, D, N = 2, 4, 3
    u, delta = normal(seed, batch, D, length), normal(seed + 1, batch, D, length)
    A, skip, bias = -normal(seed + 2, D, N).exp(), normal(seed + 3, D), normal(seed + 4, D)
    B = normal(seed + 5, D, N) if fixed else normal(seed + 5, batch, *([groups] if groups else []), N, length)
    C = normal(seed + 6, batch, *([groups] if groups else []), N, length)
    M = dual.mixing_matrix(delta, A, B, C, skip, bias, delta_softplus=True)
    assert M.shape == (batch, D, length, length)
    assert torch.equal(M, M.tril())
    y = torch.einsum("bdts,bds->bdt", M, u)
    expected = selective_scan(u, delta, A, B, C, skip, None, bias, True, engine="reference")
    torch.testing.assert_close(y, expected, **CLOSE)
    per_channel = [
        x[None, :, :, None].expand(batch, D, N, length)
        if x.ndim == 2
        else (x if x.ndim == 4 else x[:, None]).repeat_interleave(D // (groups or 1), 1)
        for x in (B, C)
    ]
    by_hand = selective_loop(u, softplus(delta + bias[:, None]), A, *per_channel) + skip[:, None] * u
    torch.testing.assert_close(y, by_hand, **CLOSE)


def test_mixing_matrix_of_the_worked_example():
    # One channel, two states, three steps; outputs worked out by hand.
    u, delta = torch.tensor([[[1.0, 2.0, -1.0]]]), torch.tensor([[[0.0, 1.0, -1.0]]])
    B = torch.tensor([[1.0, 0.5], [0.0, 1.0], [2.0, -1.0]]).T[None]
    C = torch.tensor([[1.0, 1.0], [0.5, 2.0], [1.0, -1.0]]).T[None]
    M = dual.mixing_matrix(delta, torch.tensor([[-1.0, -2.0]]), B, C, torch.tensor([0.5]), delta_softplus=True)
    torch.testing.assert_close(M[0, 0] @ u[0, 0], torch.tensor([1.539721, 6.396390, -2.720638]), rtol=0, atol=2e-6)


def test_a_large_step_forgets_and_a_small_one_passes_over():
    delta = torch.full((1, 1, 6), 0.5)
    delta[..., 2] = 20.0  # the state is emptied and filled anew
    delta[..., 4] = 1e-6  # the token is not looked at
    ones = torch.ones(1, 1, 6)
    M = dual.mixing_matrix(delta, -torch.ones(1, 1), ones, ones)[0, 0]
    assert M[5, :2].max() < 1e-7
    assert M[5, 4] < 1e-5 < M[5, 3]


def test_gradients_of_the_mixing_matrix():
    inputs = [softplus(normal(0, 1, 2, 4)), -normal(1, 2, 3).exp(), normal(2, 1, 3, 4), normal(3, 1, 3, 4)]
    assert torch.autograd.gradcheck(dual.mixing_matrix, [x.requires_grad_() for x in inputs])


# --- Mamba-2 ---


@fewer
@given(seed=seeds, length=lengths, groups=st.sampled_from([1, 2, 4]), chunk=st.integers(1, 50), per_step=st.booleans())
def test_three_forms_of_ssd_are_one(seed, length, groups, chunk, per_step):
    arguments = head_arguments(seed, length, groups=groups, per_step=per_step)
    expected = ssd_loop(**arguments)
    recurred, state = dual.ssd_recurrence(**arguments)
    chunked, chunked_state = dual.ssd_chunked(**arguments, chunk=chunk)
    torch.testing.assert_close(recurred, expected, **CLOSE)
    torch.testing.assert_close(dual.ssd_masked_attention(**arguments), expected, **CLOSE)
    torch.testing.assert_close(chunked, expected, **CLOSE)
    torch.testing.assert_close(chunked_state, state, **CLOSE)


@fewer
@given(seed=seeds, length=st.integers(2, 30), chunk=st.integers(1, 12))
def test_ssd_can_be_taken_up_where_it_was_left(seed, length, chunk):
    arguments = head_arguments(seed, length)
    cut = 1 + seed % (length - 1)
    whole, end = dual.ssd_chunked(**arguments, chunk=chunk)
    early = {name: value if name == "A" else value[:, :cut] for name, value in arguments.items()}
    late = {name: value if name == "A" else value[:, cut:] for name, value in arguments.items()}
    first, state = dual.ssd_chunked(**early, chunk=chunk)
    for run in (dual.ssd_recurrence, lambda **rest: dual.ssd_chunked(**rest, chunk=chunk)):
        second, last = run(**late, initial_state=state)
        torch.testing.assert_close(torch.cat([first, second], 1), whole, **CLOSE)
        torch.testing.assert_close(last, end, **CLOSE)


@fewer
@given(seed=seeds, length=lengths)
def test_ssd_is_the_selective_scan_with_one_decay_for_a_head(seed, length):
    arguments = head_arguments(seed, length, heads=2, groups=2)
    x, delta, A = arguments["x"], arguments["delta"], arguments["A"]
    P, N = x.shape[-1], 4
    y = selective_scan(
        x.flatten(2),
        delta.repeat_interleave(P, 2),
        A.repeat_interleave(P)[:, None].expand(-1, N).contiguous(),
        arguments["B"],
        arguments["C"],
        layout="bld",
        engine="reference",
    )
    torch.testing.assert_close(dual.ssd_chunked(**arguments, chunk=8)[0].flatten(2), y, **CLOSE)


def test_chunks_stay_exact_where_the_state_is_forgotten_at_once():
    arguments = head_arguments(0, 64)
    arguments["A"] = arguments["A"] * 1e4
    y, _ = dual.ssd_chunked(**arguments, chunk=16)
    torch.testing.assert_close(y, ssd_loop(**arguments), **CLOSE)


@pytest.mark.parametrize("length", [1, 5])
def test_gradients_of_ssd(length):
    names = ("x", "delta", "A", "B", "C")
    inputs = head_arguments(1, length, heads=2, groups=1, channels=2, states=2)
    state = normal(9, 2, 2, 2, 2)
    tensors = [inputs[name].requires_grad_() for name in names] + [state.requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, d, A, B, C, h: dual.ssd_recurrence(x, d, A, B, C, h), tensors)
    assert torch.autograd.gradcheck(lambda x, d, A, B, C, h: dual.ssd_chunked(x, d, A, B, C, 2, h), tensors)
    assert torch.autograd.gradcheck(dual.ssd_masked_attention, tensors[:5])


# --- Mamba-3 ---


def mamba3_arguments(seed, length, **sizes):
    arguments = head_arguments(seed, length, **sizes)
    heads, states = arguments["x"].shape[2], arguments["B"].shape[-1]
    arguments["lam"] = normal(seed + 5, 2, length, heads).sigmoid()
    arguments["theta"] = 2 * normal(seed + 6, 2, length, heads, states // 2)
    return arguments


def complex_loop(x, delta, A, B, C, lam, theta):
    """Mamba-3 with complex states: a turn of a pair is a complex decay."""
    heads, A = x.shape[2], A.expand(delta.shape)
    out = torch.zeros_like(x)
    B, C = (torch.view_as_complex(w.unflatten(-1, (-1, 2)).contiguous()) for w in (B, C))  # [B, L, G, N / 2]
    for head in range(heads):
        group = head // (heads // B.shape[2])
        h = torch.zeros(x.shape[0], x.shape[3], B.shape[-1], dtype=torch.complex128)
        for t in range(x.shape[1]):
            step = delta[:, t, head, None, None]
            turn = torch.polar(
                (step * A[:, t, head, None, None]).exp().expand(-1, 1, B.shape[-1]), theta[:, t, head, None]
            )
            share = lam[:, t, head, None, None]
            h = turn * h + share * step * x[:, t, head, :, None] * B[:, t, group, None, :]
            if t > 0:
                h = h + turn * (1 - share) * step * x[:, t - 1, head, :, None] * B[:, t - 1, group, None, :]
            out[:, t, head] = (h * C[:, t, group, None, :].conj()).real.sum(-1)
    return out


@fewer
@given(seed=seeds, length=lengths, groups=st.sampled_from([1, 2]), chunk=st.integers(1, 50), per_step=st.booleans())
def test_both_forms_of_mamba3_are_a_complex_recurrence(seed, length, groups, chunk, per_step):
    arguments = mamba3_arguments(seed, length, groups=groups, per_step=per_step)
    expected = complex_loop(**arguments)
    torch.testing.assert_close(mamba3_recurrence(**arguments), expected, **CLOSE)
    torch.testing.assert_close(mamba3_chunked(**arguments, chunk=chunk), expected, **CLOSE)


def test_mamba3_without_trapezoid_and_rotation_is_mamba2():
    arguments = mamba3_arguments(0, 17)
    arguments["lam"] = torch.ones_like(arguments["lam"])
    arguments["theta"] = torch.zeros_like(arguments["theta"])
    y = mamba3_recurrence(**arguments)
    arguments.pop("lam")
    arguments.pop("theta")
    torch.testing.assert_close(y, dual.ssd_recurrence(**arguments)[0], **CLOSE)


@pytest.mark.parametrize(("share", "order"), [(1.0, 1), (0.5, 2)])
def test_the_trapezoid_rule_is_of_second_order(share, order):
    # dh/dt = -h + sin(t) from rest, at t = 2.
    exact = (math.sin(2) - math.cos(2) + math.exp(-2)) / 2
    errors = []
    for steps in (100, 200):
        times = 2 / steps * torch.arange(1, steps + 1, dtype=torch.float64)
        ones = torch.ones(1, steps, 1, 1, dtype=torch.float64)
        pair = torch.stack([torch.ones_like(times), torch.zeros_like(times)], -1)[None, :, None]
        y = mamba3_recurrence(
            times.sin()[None, :, None, None],
            ones[..., 0] * 2 / steps,
            -ones[..., 0],
            pair,
            pair,
            share * ones[..., 0],
            0 * ones,
        )
        errors.append(abs(y[0, -1, 0, 0].item() - exact))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_a_turning_state_tells_odd_from_even():
    # Turning by pi at every one that comes in, the sign of the state is the parity of the ones so far.
    bits = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0], dtype=torch.float64)
    L = len(bits)
    x = torch.eye(1, L, dtype=torch.float64)[0][None, :, None, None]  # one push at the start
    ones = torch.ones(1, L, 1, dtype=torch.float64)
    B = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, L, 1, 2)
    theta = math.pi * bits[None, :, None, None]
    y = mamba3_recurrence(x, ones, 0 * ones, B, B, ones, theta).flatten()
    expected = (-1) ** bits[1:].cumsum(0)
    torch.testing.assert_close(y[1:], expected, **CLOSE)


@given(seed=seeds)
def test_turned_pairs_only_know_the_difference_of_their_angles(seed):
    q, k, angle, both = (normal(seed + i, n) for i, n in enumerate((6, 6, 3, 3)))
    torch.testing.assert_close(rotate(q, angle + both) @ rotate(k, both), rotate(q, angle) @ k, **CLOSE)


@pytest.mark.parametrize("length", [1, 4])
def test_gradients_of_mamba3(length):
    arguments = mamba3_arguments(2, length, heads=2, groups=1, channels=2, states=2)
    tensors = [arguments[name].requires_grad_() for name in ("x", "delta", "A", "B", "C", "lam", "theta")]
    assert torch.autograd.gradcheck(mamba3_recurrence, tensors)
    assert torch.autograd.gradcheck(lambda *inputs: mamba3_chunked(*inputs, chunk=3), tensors)


# --- short enough to read ---

READABLE = [
    *ALGORITHMS.values(),
    dual.mixing_matrix,
    dual.ssd_recurrence,
    dual.ssd_masked_attention,
    dual.ssd_chunks,
    mamba3_recurrence,
    mamba3_chunked,
]


@pytest.mark.parametrize("run", READABLE, ids=lambda run: run.__name__)
def test_every_readable_form_has_at_most_40_lines_of_code(run):
    body = ast.parse(inspect.getsource(run)).body[0].body
    assert ast.get_docstring(ast.parse(inspect.getsource(run)).body[0])
    assert body[-1].end_lineno - body[1].lineno + 1 <= 40


# --- bad input ---


def changed(make, **other):
    return {**make(0, 5), **other}


ZEROS = torch.zeros


@pytest.mark.parametrize(
    ("run", "arguments", "error", "words"),
    [
        (dual.ssd_recurrence, {"x": ZEROS(2, 5, 4)}, ValueError, r"x must be \[B, L, H, P\]"),
        (dual.ssd_chunked, {"delta": ZEROS(2, 5)}, ValueError, r"delta must be .*\(2, 5, 4\)"),
        (dual.ssd_chunked, {"A": ZEROS(3)}, ValueError, r"A must be \[H\] = \(4,\)"),
        (dual.ssd_chunked, {"B": ZEROS(2, 5, 3, 4)}, ValueError, "G that divides H = 4"),
        (dual.ssd_masked_attention, {"C": ZEROS(2, 5, 2, 6)}, ValueError, "same number of states N; got 4 and 6"),
        (dual.ssd_chunked, {"chunk": 0}, ValueError, "at least 1; got 0"),
        (dual.ssd_chunked, {"initial_state": ZEROS(2, 4, 3)}, ValueError, r"\(2, 4, 3, 4\); got"),
        (mamba3_recurrence, {"lam": ZEROS(2, 5)}, ValueError, "lam must be"),
        (mamba3_recurrence, {"theta": ZEROS(2, 5, 4, 4)}, ValueError, r"theta must be .*\(2, 5, 4, 2\)"),
        (mamba3_chunked, {"B": ZEROS(2, 5, 2, 3), "C": ZEROS(2, 5, 2, 3)}, ValueError, "even number of states"),
    ],
)
def test_bad_heads_are_refused_in_words(run, arguments, error, words):
    make = mamba3_arguments if run in (mamba3_recurrence, mamba3_chunked) else head_arguments
    with pytest.raises(error, match=words):
        run(**changed(make, **arguments))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"delta": ZEROS(2, 5)}, ValueError, r"delta must be \[B, D, L\]"),
        ({"A": ZEROS(3, 3)}, ValueError, "D = 4 from delta"),
        ({"B": ZEROS(2, 2, 5)}, ValueError, r"B must be .* N = 3, L = 5"),
        ({"C": ZEROS(2, 3, 3, 5)}, ValueError, "G that divides D = 4"),
        ({"A": ZEROS(4, 3, dtype=torch.complex64)}, TypeError, "real A, B and C"),
        ({"D": ZEROS(3)}, ValueError, r"D must be \[D\] = \(4,\)"),
        ({"delta_bias": ZEROS(4, 1)}, ValueError, r"delta_bias must be \[D\] = \(4,\)"),
    ],
)
def test_bad_mixing_matrices_are_refused_in_words(change, error, words):
    arguments = {"delta": ZEROS(2, 4, 5), "A": ZEROS(4, 3), "B": ZEROS(2, 3, 5), "C": ZEROS(2, 3, 5)}
    with pytest.raises(error, match=words):
        dual.mixing_matrix(**{**arguments, **change})


def test_turning_needs_an_angle_for_every_pair():
    with pytest.raises(ValueError, match=r"even N and angle .*\(4,\) and \(4,\)"):
        rotate(torch.ones(4), torch.ones(4))

"""The five readable algorithms of one recurrence: equal to a plain loop, and their work is what torch did."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mambaout_edu.scan import associative
from mambaout_edu.scan.associative import ALGORITHMS, combine

PARALLEL = {name: run for name, run in ALGORITHMS.items() if name != "sequential"}
lengths = st.integers(1, 70)
seeds = st.integers(0, 2**31 - 1)


def plain_loop(a: Tensor, b: Tensor) -> Tensor:
    """The recurrence, number by number in Python's floats."""
    rows = []
    for a_row, b_row in zip(a.reshape(-1, a.shape[-1]).tolist(), b.reshape(-1, b.shape[-1]).tolist(), strict=True):
        rows.append(
            list(itertools.accumulate(zip(a_row, b_row, strict=True), lambda h, ab: ab[0] * h + ab[1], initial=0))
        )
    return torch.tensor(rows, dtype=a.dtype)[:, 1:].reshape(a.shape)


def random_steps(seed: int, *shape: int, low: float = 0.2, high: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)
    return a, torch.randn(*shape, generator=generator, dtype=torch.float64)


class CountedMultiplications(TorchDispatchMode):
    """Counts the numbers that came out of a multiplication."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mul, torch.ops.aten.mul_):
            self.count += out.numel()
        return out


@pytest.mark.parametrize("name", ALGORITHMS)
@given(seed=seeds, length=lengths)
def test_equal_to_a_plain_loop(name, seed, length):
    a, b = random_steps(seed, 2, 3, length)
    h, _ = ALGORITHMS[name](a, b)
    assert h.shape == a.shape
    torch.testing.assert_close(h, plain_loop(a, b), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "log_space"])
@given(seed=seeds, length=lengths)
def test_decays_may_be_negative_zero_or_growing(name, seed, length):
    a, b = random_steps(seed, length, low=-1.2, high=1.2)
    a[length // 2] = 0.0
    expected = plain_loop(a, b)
    torch.testing.assert_close(ALGORITHMS[name](a, b)[0], expected, rtol=0, atol=1e-9 * max(1, expected.abs().max()))


@given(seed=seeds, length=lengths, chunk=st.integers(1, 80))
def test_any_chunk_gives_the_same_states(seed, length, chunk):
    a, b = random_steps(seed, length)
    torch.testing.assert_close(associative.chunked_two_pass(a, b, chunk)[0], plain_loop(a, b), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", PARALLEL)
@given(seed=seeds, length=st.integers(2, 40))
def test_causal(name, seed, length):
    a, b = random_steps(seed, length)
    at = seed % length
    before = ALGORITHMS[name](a, b)[0]
    b[at] += 1.0
    after = ALGORITHMS[name](a, b)[0]
    torch.testing.assert_close(after[:at], before[:at], rtol=0, atol=1e-12)
    assert abs(after[at] - before[at] - 1) < 1e-9


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("length", [1, 5, 8])
def test_gradients(name, length):
    a, b = (x.requires_grad_() for x in random_steps(length, 2, length))
    assert torch.autograd.gradcheck(lambda a, b: ALGORITHMS[name](a, b)[0], (a, b))


def test_complex_decays_where_no_logarithm_is_taken():
    a = torch.polar(torch.full((20,), 0.9, dtype=torch.float64), torch.linspace(0, 3, 20, dtype=torch.float64))
    b = torch.ones(20, dtype=torch.complex128)
    expected = plain_loop(a, b)
    for name in ("sequential", "hillis_steele", "blelloch", "chunked_two_pass"):
        torch.testing.assert_close(ALGORITHMS[name](a, b)[0], expected)
    with pytest.raises(ValueError, match="real and positive"):
        associative.log_space(a, b)


# --- the operator ---


@given(seed=seeds)
def test_combine_is_associative_has_an_identity_and_does_not_commute(seed):
    a, b = random_steps(seed, 3)
    first, second, third = ((a[t], b[t]) for t in range(3))
    left = combine(combine(first, second), third)
    right = combine(first, combine(second, third))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)
    identity = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    assert combine(identity, first) == first == combine(first, identity)
    assert combine(first, second)[1] != combine(second, first)[1]


# --- work ---


@pytest.mark.parametrize("name", ["sequential", "hillis_steele", "blelloch", "chunked_two_pass"])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 31, 64, 100])
def test_counted_work_is_the_number_of_multiplications_that_torch_did(name, length):
    a, b = random_steps(0, length)
    with CountedMultiplications() as counted:
        _, work = ALGORITHMS[name](a, b)
    assert work.multiply_adds == counted.count


@pytest.mark.parametrize("length", [64, 1024])
def test_work_and_depth_grow_as_the_textbooks_say(length):
    a, b = random_steps(0, length)
    rounds = int(math.log2(length))
    work = {name: run(a, b)[1] for name, run in ALGORITHMS.items()}
    assert (work["sequential"].multiply_adds, work["sequential"].depth) == (length, length)
    assert (work["hillis_steele"].multiply_adds, work["hillis_steele"].depth) == (
        2 * (length * rounds - length + 1),
        rounds,
    )
    assert (work["blelloch"].multiply_adds, work["blelloch"].depth) == (4 * length - 3, 2 * rounds + 1)
    assert work["chunked_two_pass"].depth == length // 16 + 32
    assert associative.sequential(a.expand(5, -1), b.expand(5, -1))[1] == work["sequential"]  # for one sequence


# --- the failure of the log-space form ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.3, 0.5, 0.9])
def test_log_space_works_up_to_its_limit_and_breaks_soon_after(dtype, decay):
    limit = associative.log_space_limit(decay, dtype)
    a, b = torch.full((limit,), decay, dtype=dtype), torch.ones(limit, dtype=dtype)
    h, _ = associative.log_space(a, b)
    torch.testing.assert_close(h[-1].item(), 1 / (1 - decay), rtol=1e-3 if dtype == torch.float32 else 1e-10, atol=0)
    longer = limit + math.ceil(3 / -math.log(decay))
    h, _ = associative.log_space(torch.full((longer,), decay, dtype=dtype), torch.ones(longer, dtype=dtype))
    assert not torch.isfinite(h[-1])
    assert torch.isfinite(h[:limit]).all()


def test_log_space_loses_digits_before_it_breaks():
    a, b = random_steps(0, 800, low=0.88, high=0.92)
    truth = associative.sequential(a, b)[0]

    def error(run):
        return ((run(a.float(), b.float())[0] - truth).norm() / truth.norm()).item()

    assert error(associative.log_space) > 5 * error(associative.sequential)
    assert error(associative.hillis_steele) < 3 * error(associative.sequential)


# --- bad input ---


@pytest.mark.parametrize("name", ALGORITHMS)
def test_bad_input_is_refused_in_words(name):
    run = ALGORITHMS[name]
    with pytest.raises(ValueError, match=r"one shape .*\(3,\) and \(4,\)"):
        run(torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="L at least 1"):
        run(torch.ones(2, 0), torch.ones(2, 0))
    with pytest.raises(TypeError, match=r"a must be floating point; got torch.int64"):
        run(torch.ones(3, dtype=torch.int64), torch.ones(3))
    with pytest.raises(TypeError, match=r"b must be a torch.Tensor; got list"):
        run(torch.ones(3), [1.0, 1.0, 1.0])


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        associative.chunked_two_pass(torch.ones(3), torch.ones(3), chunk=0)
    with pytest.raises(ValueError, match="a must be real and positive"):
        associative.log_space(torch.tensor([0.5, -0.5]), torch.ones(2))
    with pytest.raises(ValueError, match="between 0 and 1, both excluded; got 1"):
        associative.log_space_limit(1.0)

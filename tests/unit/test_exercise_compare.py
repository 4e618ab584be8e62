"""Comparing values: what counts as the same, and what is said of a difference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mambaout_edu.learn.compare import compare
from mambaout_edu.learn.compare_values import same, show, snapshot

X = torch.linspace(-2, 3, 24).reshape(2, 3, 4)


def status(expected, given, **options) -> str | None:
    found = compare(expected, given, **options)
    return found.status if found else None


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (X, X * (1 + 3e-6)),
        (X.double(), X.double() * (1 + 3e-11)),
        (X, X.double()),
        (X, torch.nn.Parameter(X)),
        (X.half(), X.half()),
        (X.bfloat16(), X),
        (X.numpy(), X.numpy().astype(np.float64)),
        (torch.arange(4), torch.arange(4, dtype=torch.int32)),
        (X > 0, X > 0),
        (X.to(torch.complex64), X.to(torch.complex128)),
        ((1, 2.5), [1, 2.5]),
        ([(1, 2)], ([1, 2],)),
        ((7, 7), torch.Size((7, 7))),
        (3, np.int32(3)),
        (3, torch.tensor(3)),
        (2.5, np.float64(2.5)),
        (2.0, 2),
        (0.5 + 1j, np.complex128(0.5 + 1j)),
        ((0.0, 0.3), (1e-17, 0.3)),
        ({"a": X, "b": 1}, {"b": 1, "a": X}),
        ("same", "same"),
        (None, None),
        (torch.tensor([math.inf, math.nan, 1]), torch.tensor([math.inf, math.nan, 1])),
        (torch.zeros(2, 0), torch.zeros(2, 0)),
    ],
)
def test_accepted(expected, given) -> None:
    assert compare(expected, given) is None


class AlwaysEqual:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class EqualTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True


class EqualArray(np.ndarray):
    def __array_ufunc__(self, *args, **kwargs):
        return np.bool_(True)


class EqualList(list):
    def __len__(self) -> int:
        return 2

    def __iter__(self):
        return iter((1, 2))


class FakeTensor:
    __class__ = torch.Tensor  # what isinstance is told
    shape, dtype = X.shape, X.dtype


def test_objects_that_claim_to_be_equal_are_not() -> None:
    for pretender in (AlwaysEqual(), EqualTensor(X), FakeTensor(), EqualArray((2, 3, 4)), lambda: X, iter([X])):
        assert status(X, pretender) == "type"
        assert status(1, pretender) == "type"
        assert status({"a": X}, {"a": pretender}) == "type"
    assert status([1, 2], EqualList([7])) == "length"
    assert status("yes", AlwaysEqual()) == "type"
    assert status({"a": 1}, {AlwaysEqual(): 1}) == "keys"
    assert status(np.arange(2), np.array([AlwaysEqual(), AlwaysEqual()], dtype=object)) == "dtype"


@pytest.mark.parametrize(
    ("expected", "given", "word", "where"),
    [
        (X, None, "none", ""),
        (X, ..., "unfinished", ""),
        ((X, X), (X, ...), "unfinished", "[1]"),
        (X, X.numpy(), "type", ""),
        (X, X.tolist(), "type", ""),
        (X.numpy(), X, "type", ""),
        (X, X.to_sparse(), "type", ""),
        (X, X.to("meta"), "device", ""),
        (X, X.transpose(0, 1), "shape", ""),
        ((X, X), (X, X, X), "length", ""),
        ({"a": 1}, {"b": 1}, "keys", ""),
        (X, X.half(), "dtype", ""),
        (X.double(), X, "dtype", ""),
        (X, X.int(), "dtype", ""),
        (X, X.to(torch.complex64), "dtype", ""),
        (torch.arange(4), torch.arange(4.0), "dtype", ""),
        ([56, 28], [56.0, 28.0], "dtype", "[0]"),
        (1, True, "dtype", ""),
        (True, 1, "dtype", ""),
        (2.0, 2j, "dtype", ""),
        (X, X / 0, "non_finite", "[0, 0, 0]"),
        (X * 1e6, (X * 1e6).half(), "overflow", "[0, 0, 0]"),
        (1.0, math.nan, "non_finite", ""),
        (X, X.half().float(), "precision", ""),
        (1.959964, 1.96, "precision", ""),
        (X, X.flip(0), "differs", "[0, 0, 0]"),
        (X.double(), X.double() + 1, "differs", "[0, 0, 0]"),
        (torch.arange(4), torch.tensor([0, 1, 7, 3]), "differs", "[2]"),
        ({"a": (1, 2)}, {"a": (1, 3)}, "differs", "['a'][1]"),
        (1.0, 10**400, "differs", ""),
        (5, 6, "differs", ""),
        ("a", "b", "differs", ""),
    ],
)
def test_refused(expected, given, word: str, where: str) -> None:
    found = compare(expected, given)
    assert found is not None
    assert (found.status, found.where) == (word, where)


def test_one_wrong_entry_is_found_where_it_is() -> None:
    wrong = X.clone() * (1 + 1e-7)  # rounding everywhere else
    wrong[1, 2, 0] += 0.5
    found = compare(X, wrong)
    assert (found.status, found.where) == ("differs", "[1, 2, 0]")
    assert found.values == {"given": show(wrong[1, 2, 0].item()), "expected": show(X[1, 2, 0].item())}


def test_a_snapshot_of_a_tensor_shares_no_memory() -> None:
    for tensor in (torch.zeros(3), torch.tensor(3), torch.tensor(3.0)):
        before = snapshot([tensor])
        tensor += 1
        assert not same(before, [tensor])


def test_a_list_that_contains_itself_is_refused() -> None:
    endless: list = [1]
    endless.append(endless)
    assert status([1, [1, 2]], snapshot(endless)) in {"type", "differs"}


floats = hnp.arrays(np.float32, hnp.array_shapes(max_side=4), elements=st.floats(-1e3, 1e3, width=32))


@given(floats, st.floats(-1, 1), st.sampled_from([np.float32, np.float64]))
def test_rounding_is_accepted_and_an_error_ten_times_as_large_is_not(x, noise: float, dtype) -> None:
    limit = 1e-5 if dtype is np.float32 else 1e-10
    x = x.astype(np.float64) + 1.0
    if not 1e-3 < np.linalg.norm(x) < 1e6:
        return
    direction = np.where(np.arange(x.size).reshape(x.shape) % 2, 1.0, -1.0) / math.sqrt(x.size) * np.linalg.norm(x)
    assert compare(x.astype(dtype), x + 0.9 * limit * noise * direction, tolerance=limit) is None
    for container in (np.asarray, torch.from_numpy):
        assert compare(container(x), container(x + 10 * limit * direction), tolerance=limit) is not None


values = st.recursive(
    st.integers() | st.floats() | st.booleans() | st.text(max_size=3) | floats,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(values)
def test_a_snapshot_is_the_same_and_independent(value) -> None:
    copy = snapshot(value)
    assert same(value, copy)
    if isinstance(copy, np.ndarray) and copy.size:
        copy.flat[0] += 1
        assert not same(value, copy) or not np.isfinite(copy.flat[0]) or copy.flat[0] + 1 == copy.flat[0]
    if isinstance(copy, list):
        copy.append(0)
        assert not same(value, copy)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (X, X + 1e-7),
        (X, X.reshape(3, 2, 4)),
        (X, X.double()),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        ([1, 2], [1, 2, 3]),
        ({"a": 1}, {"a": 1, "b": 2}),
        (1, 1.0),
        ("a", "b"),
    ],
)
def test_a_changed_value_is_not_the_same(before, after) -> None:
    assert same(before, before)
    assert not same(before, after)


def test_values_are_shown_short() -> None:
    assert show(X) == "float32 tensor [2, 3, 4]"
    assert show(X.numpy()) == "float32 array [2, 3, 4]"
    assert show((1,)) == "(1,)"
    assert show(list(range(20))) == "[0, 1, 2, 3, 4, 5, 6, 7, …]"
    assert show(10**500) == "a whole number of 1661 bits"
    assert show("x" * 100) == f"'{'x' * 56}…"
    assert show(torch.tanh) == "tanh"
    assert show(AlwaysEqual()) == "AlwaysEqual"
    assert [show(v) for v in (2.0, 1e300, math.nan, True, 1j)] == ["2.0", "1e+300", "nan", "True", "0+1j"]

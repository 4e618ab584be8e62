import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.flatten import ORDERS, PATHS, flatten, flatten_paths, merge, order, paths, unflatten
from mambaout_edu.flatten.gather import plan

SIDES = st.integers(1, 12)
WHOLE = tuple(name for name in PATHS if name != "atrous")  # each path visits every pixel


def picture(height=5, width=7, batch=2, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(batch, height, width, channels, generator=generator, dtype=dtype)


def cross_scan(x):
    """VMamba's cross-scan by transposes and flips, [B, L, K, C]."""
    rows, columns = x.flatten(1, 2), x.transpose(1, 2).flatten(1, 2)
    return torch.stack([rows, columns, rows.flip(1), columns.flip(1)], dim=2)


def cross_merge(y, height, width):
    """VMamba's cross-merge by transposes and flips, [B, H, W, C]."""
    rows = y[:, :, 0] + y[:, :, 2].flip(1)
    columns = y[:, :, 1] + y[:, :, 3].flip(1)
    return rows.unflatten(1, (height, width)) + columns.unflatten(1, (width, height)).transpose(1, 2)


@given(name=st.sampled_from(ORDERS), height=SIDES, width=SIDES)
def test_unflatten_undoes_flatten(name, height, width):
    x = picture(height, width)
    seq = flatten(x, name)
    assert torch.equal(seq, x.reshape(2, -1, 3)[:, torch.tensor(order(name, height, width))])
    assert torch.equal(unflatten(seq, name, (height, width)), x)
    given_as_indices = order(name, height, width)
    assert torch.equal(flatten(x, given_as_indices), seq)
    assert torch.equal(unflatten(seq, given_as_indices.tolist(), (height, width)), x)


@given(name=st.sampled_from(WHOLE + ORDERS[:3]), height=SIDES, width=SIDES)
def test_merging_what_was_flattened_is_k_times_the_picture(name, height, width):
    x = picture(height, width)
    seq = flatten_paths(x, name)
    found = paths(name, height, width)
    assert seq.shape == (2, height * width, len(found), 3)
    for k, path in enumerate(found):
        assert torch.equal(seq[:, :, k], flatten(x, path))
    torch.testing.assert_close(merge(seq, name, (height, width)), len(found) * x)
    assert torch.equal(merge(seq, found, (height, width)), merge(seq, name, (height, width)))


@given(height=SIDES, width=SIDES, skip=st.integers(1, 4))
def test_groups_of_different_length_are_merged_from_a_list(height, width, skip):
    x = picture(height, width)
    groups = paths("atrous", height, width, skip=skip)
    seqs = [flatten(x, group) for group in groups]
    assert torch.equal(merge(seqs, groups, (height, width)), x)
    assert torch.equal(merge(seqs, "atrous", (height, width), skip=skip), x)


def test_groups_of_one_length_stand_side_by_side():
    x = picture(4, 6)
    seq = flatten_paths(x, "atrous")
    assert seq.shape == (2, 6, 4, 3)
    assert torch.equal(merge(seq, "atrous", (4, 6)), x)


def test_pixels_that_no_path_visits_get_nothing():
    x = picture(2, 3).requires_grad_()
    some = [[5, 0], [0, 2]]
    merged = merge(flatten_paths(x, some), some, (2, 3))
    times = torch.tensor([2, 0, 1, 0, 0, 1]).reshape(1, 2, 3, 1)
    assert torch.equal(merged, times * x)
    (gradient,) = torch.autograd.grad(merged.sum(), x)
    assert torch.equal(gradient, times.expand_as(x).double())
    apart = [[5, 0, 0], [2]]
    merged = merge([flatten(x, path) for path in apart], apart, (2, 3))
    assert torch.equal(merged, times * x)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (6, 1)])
def test_cross_is_vmamba_s_definition_with_its_gradients(size):
    x = picture(*size).requires_grad_()
    same = x.detach().clone().requires_grad_()
    torch.manual_seed(0)
    weights = torch.randn(2, size[0] * size[1], 4, 3, dtype=torch.float64)

    seq, expected = flatten_paths(x, "cross"), cross_scan(same)
    assert torch.equal(seq, expected)
    out = merge(seq.cumsum(1) * weights, "cross", size)
    by_flips = cross_merge(expected.cumsum(1) * weights, *size)
    torch.testing.assert_close(out, by_flips, rtol=1e-14, atol=1e-14)
    (out**2).sum().backward()
    (by_flips**2).sum().backward()
    torch.testing.assert_close(x.grad, same.grad, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [*WHOLE, "hilbert"])
def test_gradients_are_those_of_plain_indexing(name):
    x = picture().requires_grad_()
    found = torch.tensor(np.stack(paths(name, 5, 7), axis=1))  # [L, K]
    weights = torch.randn(2, *found.shape, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((flatten_paths(x, name) ** 2 * weights).sum(), x)
    (expected,) = torch.autograd.grad((x.flatten(1, 2)[:, found] ** 2 * weights).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_gradients_of_gradients():
    x = picture(2, 3, batch=1, channels=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: flatten_paths(x, "cross") ** 2, (x,))
    y = torch.randn(1, 6, 4, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: merge(y, "cross", (2, 3)) ** 2, (y,))
    assert torch.autograd.gradgradcheck(lambda y: merge(y, "cross", (2, 3)) ** 2, (y,))


def test_merge_is_the_transpose_of_flatten_paths():
    x, y = picture(), torch.randn(2, 35, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    left = (flatten_paths(x, "eight") * y).sum()
    right = (x * merge(y, "eight", (5, 7))).sum()
    torch.testing.assert_close(left, right)


def test_vmap_and_views_and_dtypes():
    x = picture()
    one_by_one = torch.func.vmap(lambda picture: flatten_paths(picture[None], "cross")[0])(x)
    assert torch.equal(one_by_one, flatten_paths(x, "cross"))
    channels_first = x.permute(0, 3, 1, 2).contiguous()
    assert torch.equal(flatten(channels_first.permute(0, 2, 3, 1), "spiral"), flatten(x, "spiral"))
    for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.complex64, torch.bool):
        assert flatten_paths(x.to(dtype), "bidirectional").dtype == dtype
    assert merge(torch.ones(1, 4, 2, 1, dtype=torch.bfloat16), "bidirectional", (2, 2)).dtype == torch.bfloat16
    assert flatten_paths(torch.empty(0, 5, 7, 3), "cross").shape == (0, 35, 4, 3)
    assert flatten_paths(x.to("meta"), "cross").shape == (2, 35, 4, 3)


def test_index_tensors_are_made_once():
    one, again = (plan("paths", "cross", {}, 6, 7, torch.device("cpu")) for _ in range(2))
    assert one.rows is again.rows
    assert one.back is again.back
    other = plan("paths", [*paths("bidirectional", 6, 7)], {}, 6, 7, torch.device("cpu"))
    assert other.rows is plan("paths", paths("bidirectional", 6, 7), {}, 6, 7, torch.device("cpu")).rows


def test_indices_first_used_in_inference_mode_serve_training_later():
    with torch.inference_mode():
        flatten_paths(picture(11, 3), "cross")
    x = picture(11, 3).requires_grad_()
    flatten_paths(x, "cross").sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 4))


class Mixer(torch.nn.Module):
    """Sums along paths; paths by name or as indices."""

    def __init__(self, name, by_name=True):
        super().__init__()
        self.name, self.by_name = name, by_name

    def forward(self, x):
        size = x.shape[1], x.shape[2]
        ways = self.name if self.by_name else paths(self.name, *size)
        return merge(flatten_paths(x, ways).cumsum(1), ways, size)


@pytest.mark.parametrize(("by_name", "dynamic"), [(True, None), (True, True), (False, None)])
def test_torch_compile_keeps_the_indices_as_constants(by_name, dynamic):
    torch.compiler.reset()
    mixer = Mixer("cross", by_name)
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for size in ((4, 5), (6, 3)):
        x = picture(*size).requires_grad_()
        out = compiled(x)
        torch.testing.assert_close(out, mixer(x))
        (gradient,) = torch.autograd.grad((out**2).sum(), x)
        (expected,) = torch.autograd.grad((mixer(x) ** 2).sum(), x)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("by_name", [True, False])
def test_torch_export(by_name):
    mixer = Mixer("eight", by_name)
    exported = torch.export.export(mixer, (picture(9, 4),))  # a size that nothing else has used
    x = picture(9, 4) * 2
    torch.testing.assert_close(exported.module()(x), mixer(x))
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert "aten.index_select.default" in called
    assert {name.partition(".")[0] for name in called if "." in name} == {"aten"}, "ordinary operations only"


def test_bad_arguments_are_refused():
    x = picture()
    for call, error, said in (
        (lambda: flatten(x[0], "raster"), ValueError, r"picture \[B, H, W, C\]; got shape \(5, 7, 3\)"),
        (lambda: flatten(x, "rastr"), ValueError, "did you mean 'raster'"),
        (lambda: flatten(x, "cross"), ValueError, "unknown order 'cross'"),
        (lambda: flatten(x, [0, 35]), ValueError, "index 35; expected 0 to 34 on a grid of 5 x 7"),
        (lambda: flatten(x, [-1]), ValueError, "index -1"),
        (lambda: flatten(x, [0.0]), TypeError, "whole numbers"),
        (lambda: flatten(x, [0], window=3), TypeError, "options window go with a name"),
        (lambda: flatten(x, "raster", window=3), ValueError, "no use for window=3"),
        (
            lambda: flatten_paths(x, "atrous"),
            ValueError,
            r"12, 8, 9, 6 steps; expected one length.*give merge the list",
        ),
        (lambda: flatten_paths(x, []), ValueError, "there are no paths"),
        (lambda: unflatten(x.flatten(1, 2), [0] * 35, (5, 7)), ValueError, "index 0 35 times and index 1 never"),
        (lambda: unflatten(x.flatten(1, 2), range(34), (5, 7)), ValueError, "34 indices, but there are 35 pixels"),
        (lambda: unflatten(x.flatten(1, 2), "raster", (5, 6)), ValueError, r"L = 5 \* 6 = 30; got \(2, 35, 3\)"),
        (lambda: unflatten(x.flatten(1, 2), "raster", (5, 0)), ValueError, "width is 0"),
        (
            lambda: merge(flatten_paths(x, "cross"), "eight", (5, 7)),
            ValueError,
            r"shape \(2, 35, 4, 3\), but the paths",
        ),
        (
            lambda: merge(flatten_paths(x, "cross"), "cross", (7, 7)),
            ValueError,
            "49, 49, 49, 49 steps on the grid of 7",
        ),
        (lambda: merge([flatten(x, "raster")], "cross", (5, 7)), ValueError, r"shapes \(2, 35, 3\), but"),
        (lambda: merge([], "cross", (5, 7)), ValueError, "empty list"),
    ):
        with pytest.raises(error, match=said):
            call()

"""The published tables: complete, in plausible ranges, sourced, and refused for unknown sizes."""

import pytest

from mambaout_edu.published import frontier, imagenet, quoted


def test_rows_are_complete_and_sourced():
    rows = imagenet()
    assert len({(r.model, r.version) for r in rows}) == len(rows) == 85
    assert all(70 < r.top1 < 86 and 2 < r.params_m < 100 and r.source and r.version for r in rows)
    assert sum(r.macs_g is None for r in rows) == 2  # Mamba-2D, for which the paper prints none
    assert {r.mixer for r in rows} == {
        "convolution",
        "attention",
        "convolution + attention",
        "pooling",
        "convolution + SSM",
    }


@pytest.mark.parametrize(
    ("size", "model", "top1"),
    [
        ("very small", "MambaOut-Femto", 78.9),
        ("tiny", "MambaOut-Tiny", 82.7),
        ("tiny", "LocalVMamba-T", 82.7),
        ("tiny", "VMambaV9-T", 82.5),
        ("tiny", "VMambaV3-T", 82.6),
        ("small", "MambaOut-Small", 84.1),
        ("base", "MambaOut-Base", 84.2),
        ("base", "VMambaV3-B", 83.9),
    ],
)
def test_the_rows_that_the_course_quotes(size, model, top1):
    assert [r.top1 for r in imagenet(size) if r.model == model] == [top1]


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="one of very small, tiny, small, base; got 'huge'"):
        imagenet("huge")


def test_nothing_on_the_frontier_is_dominated_and_all_else_is():
    for size in ("very small", "tiny", "small", "base"):
        rows = [r for r in imagenet(size) if r.macs_g is not None]
        pairs = [(r.macs_g, r.top1) for r in rows]
        kept = frontier(*zip(*pairs, strict=True))
        beats = [[a != b and a[0] <= b[0] and a[1] >= b[1] for a in pairs] for b in pairs]
        assert kept == [i for i, by in enumerate(beats) if not any(by)]


def test_equal_models_stay_together():
    assert frontier([1.0, 1.0, 2.0], [70.0, 70.0, 70.0]) == [0, 1]
    with pytest.raises(ValueError, match="2 costs and 1 scores"):
        frontier([1.0, 2.0], [70.0])


def test_quoted_numbers_are_sourced():
    for topic in ("throughput", "memory", "res_vmamba"):
        assert all(row.value > 0 and row.unit and row.version and row.source for row in quoted(topic))
    assert [row.value for row in quoted("res_vmamba")] == [79.54, 81.70]
    assert [row.value for row in quoted("memory")] == [2.8, 86.8]
    with pytest.raises(ValueError, match="one of throughput, memory, res_vmamba; got 'speed'"):
        quoted("speed")

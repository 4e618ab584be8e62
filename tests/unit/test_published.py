"""The published tables: complete, in plausible ranges, sourced, and refused for unknown sizes."""

import pytest

from mambaout_edu.published import imagenet


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

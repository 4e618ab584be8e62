"""Exercise of lesson 06 on the four stages: the shape that an image has after each."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _stage_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    tiny = (96, 192, 384, 576)
    sizes = [(224, 224), (225, 301), (97, 64), (1, 1), (draw.randint(33, 400), draw.randint(33, 400))]
    cases = [Case((height, width, tiny), {"stem_stride": 4}) for height, width in sizes]
    cases += [Case((63, 50, (32, 64, 128, 192)), {"stem_stride": 2}), Case((8, 9, [24, 40]), {"stem_stride": 1})]
    return cases


def _halve(height: int, width: int, dims: Any, stem: int, by: Any, factor: int = 2) -> list[tuple[int, int, int]]:
    """Return (H, W, C) of each stage when `by(size, stride)` is how a convolution shrinks a side."""
    height, width = by(height, stem), by(width, stem)
    shapes = []
    for dim in dims:
        shapes.append((height, width, dim))
        height, width = by(height, factor), by(width, factor)
    return shapes


def _up(size: int, stride: int) -> int:
    return -(-size // stride)


def _down(size: int, stride: int) -> int:
    return size // stride


def _no_padding(size: int, stride: int) -> int:
    """Return a side after convolutions with window 3 and stride 2, as many as make up `stride`."""
    while stride > 1:
        size, stride = (size - 3) // 2 + 1, stride // 2
    return size


_STAGES = Exercise(
    id="model.stage_shapes",
    lesson="06",
    objective="06.stages",
    kind="free",
    difficulty=3,
    minutes=12,
    stub='''\
def my_stage_shapes(height, width, dims, stem_stride=4):
    """Return [(H, W, C), ...], the shape of the feature map after each stage.

    The stem divides height and width by stem_stride; between two stages a convolution with
    stride 2 halves them. Its window is 3 and its padding 1: what does it make of an odd size?
    """
    return ...
''',
    reference="mambaout_edu.models.stage_shapes",
    cases=_stage_cases,
    diagnoses=(
        Diagnosis("rounded_down", lambda h, w, dims, stem_stride: _halve(h, w, dims, stem_stride, _down)),
        Diagnosis("no_padding", lambda h, w, dims, stem_stride: _halve(h, w, dims, stem_stride, _no_padding)),
        Diagnosis("fractions", lambda h, w, dims, stem_stride: _halve(h, w, dims, stem_stride, lambda n, s: n / s)),
        Diagnosis("width_first", lambda h, w, dims, stem_stride: _halve(w, h, dims, stem_stride, _up)),
        Diagnosis(
            "channels_first",
            lambda h, w, dims, stem_stride: [(c, a, b) for a, b, c in _halve(h, w, dims, stem_stride, _up)],
        ),
        Diagnosis("no_stem", lambda h, w, dims, stem_stride: _halve(h, w, dims, 1, _up)),
        Diagnosis("stem_of_four", lambda h, w, dims, stem_stride: _halve(h, w, dims, 4, _up)),
        Diagnosis(
            "halved_too_early",
            lambda h, w, dims, stem_stride: _halve(_up(h, stem_stride), _up(w, stem_stride), dims, 2, _up),
        ),
        Diagnosis("never_halved", lambda h, w, dims, stem_stride: _halve(h, w, dims, stem_stride, _up, factor=1)),
        Diagnosis("by_four", lambda h, w, dims, stem_stride: _halve(h, w, dims, stem_stride, _up, factor=4)),
        Diagnosis(
            "doubled_channels",
            lambda h, w, dims, stem_stride: _halve(h, w, [dims[0] * 2**i for i in range(len(dims))], stem_stride, _up),
        ),
    ),
    equation="equation-stages",
)


EXERCISES = (_STAGES,)

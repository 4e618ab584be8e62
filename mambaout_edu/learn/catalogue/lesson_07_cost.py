"""Exercises of lesson 07 on cost: the patches of an image, and what attention and VMamba's scan spend on them."""

import math
import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _grid_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    sizes = [(224, 224, 16, 16), (224, 224, 16, 8), (225, 300, 16, 10), (100, 70, 14, 9), (16, 40, 16, 7)]
    sizes.append((draw.randint(60, 90), draw.randint(91, 150), draw.randint(8, 14), draw.randint(3, 7)))
    return [Case(size, {}) for size in sizes]


def _grid(height: int, width: int, patch: int, stride: int) -> tuple[int, int]:
    return (height - patch) // stride + 1, (width - patch) // stride + 1


_GRID = Exercise(
    id="zoo.token_grid",
    lesson="07",
    objective="07.shapes",
    kind="worked",
    difficulty=1,
    minutes=5,
    stub='''\
def my_token_grid(height, width, patch_size, stride):
    """Return (rows, columns) of the patches of an image, each `stride` pixels after the last."""
    # Worked for a side of 224 pixels, patches of 16, stride 8:
    #     the first patch begins at pixel 0, the last that fits at 224 - 16 = 208
    #     from 0 to 208 in steps of 8 there are 208 // 8 = 26 steps, so 27 patches
    # Now for both sides of any image. Pixels that fill no whole patch are left out.
    return ...
''',
    reference="mambaout_edu.models.mixer_counts.token_grid",
    cases=_grid_cases,
    diagnoses=(
        Diagnosis("side_by_side", lambda h, w, p, s: (h // p, w // p)),
        Diagnosis("one_too_few", lambda h, w, p, s: ((h - p) // s, (w - p) // s)),
        Diagnosis("sticks_out", lambda h, w, p, s: (h // s, w // s)),
        Diagnosis("rounded_up", lambda h, w, p, s: (-(-(h - p) // s) + 1, -(-(w - p) // s) + 1)),
        Diagnosis("fractions", lambda h, w, p, s: ((h - p) / s + 1, (w - p) / s + 1)),
        Diagnosis("width_first", lambda h, w, p, s: _grid(h, w, p, s)[::-1]),
        Diagnosis("product", lambda h, w, p, s: math.prod(_grid(h, w, p, s))),
    ),
    equation="equation-grid",
)


def _attention_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    sizes = [(196, 384, None), (3136, 96, 49), (784, 192, 49), (draw.randint(50, 400), draw.randint(20, 90), 16)]
    sizes.append((draw.randint(50, 400), draw.randint(20, 90), None))
    return [Case((tokens, dim), {"seen": seen}) for tokens, dim, seen in sizes]


def _attention_mistake(key: str, count: Any) -> Diagnosis:
    """Build a diagnosis from `count(L, D, M)`."""

    def implementation(tokens: int, dim: int, seen: int | None) -> Any:
        return count(tokens, dim, tokens if seen is None else seen)

    return Diagnosis(key, implementation)


_ATTENTION = Exercise(
    id="zoo.attention",
    lesson="07",
    objective="07.cost",
    kind="completion",
    difficulty=2,
    minutes=8,
    stub='''\
def my_attention_cost(tokens, dim, seen=None):
    """Return the multiply-adds of one attention layer over `tokens` tokens of `dim` channels.

    Each token attends to `seen` tokens: to all of them for None, to 49 in a window of 7 x 7.
    """
    others = tokens if seen is None else seen
    layers = 4 * tokens * dim * dim  # queries, keys, values, and the projection at the end
    # Missing: the two products. Each token's query meets `others` keys, each a product of `dim`
    # numbers; then each token adds up `others` values of `dim` channels.
    return ...
''',
    reference="mambaout_edu.models.mixer_counts.attention_multiply_adds",
    cases=_attention_cases,
    diagnoses=(
        _attention_mistake("flops", lambda n, d, m: 8 * n * d * d + 4 * n * m * d),
        _attention_mistake("one_product", lambda n, d, m: 4 * n * d * d + n * m * d),
        _attention_mistake("no_layers", lambda n, d, m: 2 * n * m * d),
        _attention_mistake("always_all", lambda n, d, m: 4 * n * d * d + 2 * n * n * d),
        _attention_mistake("one_token", lambda n, d, m: 4 * n * d * d + 2 * m * d),
        _attention_mistake("no_channels", lambda n, d, m: 4 * n * d * d + 2 * n * m),
        _attention_mistake("channels_squared", lambda n, d, m: 4 * n * d * d + 2 * n * m * d * d),
    ),
    equation="equation-attention",
)


def _ss2d_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    sizes = [(56, 56, 96, 1, 1.0, False, 4), (14, 14, 384, 16, 2.0, True, 4), (9, 7, 50, 4, 1.5, True, 2)]
    sizes.append((draw.randint(5, 9), draw.randint(10, 20), draw.randint(33, 47), draw.randint(2, 7), 2.5, False, 3))
    return [Case(size, {}) for size in sizes]


def _ss2d_mistake(key: str, **wrong: Any) -> Diagnosis:
    """Build a diagnosis from factors or terms that are wrong."""

    def implementation(height: int, width: int, dim: int, d_state: int, expand: float, gate: bool, paths: int) -> Any:
        inner, rank = int(expand * dim), wrong.get("rank", math.ceil)(dim / 16)
        scanned = dim if wrong.get("narrow") else inner
        ends = dim * inner * (wrong.get("ends") or (3 if gate else 2))
        select = wrong.get("selections", paths) * inner * (2 * d_state + wrong.get("ranks", 2) * rank)
        scan = wrong.get("scans", paths) * scanned * (wrong.get("a_state", 9) * d_state + wrong.get("skip", 1))
        one = ends + 9 * scanned * (inner if wrong.get("dense") else 1) + select + scan
        return one if wrong.get("alone") else height * width * one

    return Diagnosis(key, implementation)


_SS2D = Exercise(
    id="zoo.ss2d",
    lesson="07",
    objective="07.cost",
    kind="free",
    difficulty=4,
    minutes=15,
    stub='''\
def my_ss2d_cost(height, width, dim, d_state, expand, gate, paths):
    """Return what one SS2D costs on height x width positions, as the papers count it.

    d = int(expand * dim) channels inside, R = dim / 16 rounded up. At each position:
        in_proj    dim -> d channels, or 2 d with a gate
        conv2d     3 x 3, depthwise, d channels
        x_proj     d -> R + 2 * d_state, for every path
        dt_proj    R -> d, for every path
        scan       9 * d_state + 1 operations a channel d, for every path
        out_proj   d -> dim channels
    """
    return ...
''',
    reference="mambaout_edu.models.mixer_counts.ss2d_multiply_adds",
    cases=_ss2d_cases,
    diagnoses=(
        _ss2d_mistake("scan_once", scans=1),
        _ss2d_mistake("selection_once", selections=1),
        _ss2d_mistake("no_steps", ranks=1),
        _ss2d_mistake("no_gate", ends=2),
        _ss2d_mistake("always_gate", ends=3),
        _ss2d_mistake("narrow", narrow=True),
        _ss2d_mistake("one_position", alone=True),
        _ss2d_mistake("rank_cut_off", rank=int),
        _ss2d_mistake("rank_fraction", rank=float),
        _ss2d_mistake("no_skip", skip=0),
        _ss2d_mistake("dense_convolution", dense=True),
    ),
    equation="equation-ss2d",
)


EXERCISES = (
    _GRID,
    _ATTENTION,
    _SS2D,
)

"""Exercises of lesson 06 on the cost of a gated CNN block: multiply-adds and parameters."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _block_sizes(seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    sizes = [(96, 8 / 3, 1.0, 7), (128, 8 / 3, 1.0, 7), (50, 2.5, 0.5, 3), (49, 8 / 3, 0.75, 5)]
    sizes.append((draw.randint(17, 90), 8 / 3, 1.25, 9))
    names = ("dim", "expansion_ratio", "conv_ratio", "kernel_size")
    return [dict(zip(names, size, strict=True)) for size in sizes]


def _call(sizes: dict[str, Any], *first: int) -> Case:
    return Case((*first, sizes["dim"]), {name: value for name, value in sizes.items() if name != "dim"})


def _adds_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    return [_call(sizes, draw.randint(5, 60), draw.randint(61, 99)) for sizes in _block_sizes(seed)]


def _parameter_cases(seed: int) -> list[Case]:
    return [_call(sizes) for sizes in _block_sizes(seed)]


def _hidden(dim: int, expansion_ratio: float, conv_ratio: float, *_: Any) -> tuple[int, int]:
    return int(expansion_ratio * dim), int(conv_ratio * dim)


def _adds(height: int, width: int, dim: int, h: float, cc: float, k: int) -> Any:
    return height * width * (2 * dim * h + k * k * cc + h * dim)


def _adds_mistake(key: str, count: Any) -> Diagnosis:
    """Build a diagnosis from `count(positions, D, h, cc, k)`."""

    def implementation(
        height: int, width: int, dim: int, expansion_ratio: float, conv_ratio: float, kernel_size: int
    ) -> Any:
        return count(height * width, dim, *_hidden(dim, expansion_ratio, conv_ratio), kernel_size)

    return Diagnosis(key, implementation)


_MULTIPLY_ADDS = Exercise(
    id="block.multiply_adds",
    lesson="06",
    objective="06.count",
    kind="free",
    difficulty=3,
    minutes=12,
    stub='''\
def my_multiply_adds(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    """Return the multiply-adds of one gated CNN block on an image of height x width positions.

    Count the three layers that multiply: fc1, the depthwise convolution, fc2. A linear layer from
    a to b channels takes a * b multiply-adds a position. Widths are cut off: int(ratio * dim).
    """
    return ...
''',
    reference="mambaout_edu.blocks.block_multiply_adds",
    cases=_adds_cases,
    diagnoses=(
        _adds_mistake("flops", lambda n, d, h, cc, k: 2 * n * (2 * d * h + k * k * cc + h * d)),
        _adds_mistake("two_products", lambda n, d, h, cc, k: n * (d * h + k * k * cc + h * d)),
        _adds_mistake("dense_convolution", lambda n, d, h, cc, k: n * (2 * d * h + k * k * cc * cc + h * d)),
        _adds_mistake("all_channels", lambda n, d, h, cc, k: n * (2 * d * h + k * k * h + h * d)),
        _adds_mistake("window_not_squared", lambda n, d, h, cc, k: n * (2 * d * h + k * cc + h * d)),
        _adds_mistake("one_position", lambda n, d, h, cc, k: 2 * d * h + k * k * cc + h * d),
        _adds_mistake("no_convolution", lambda n, d, h, cc, k: n * (2 * d * h + h * d)),
        _adds_mistake("biases", lambda n, d, h, cc, k: n * (2 * d * h + 2 * h + (k * k + 1) * cc + h * d + d)),
        Diagnosis(
            "not_cut_off",
            lambda height, width, dim, expansion_ratio, conv_ratio, kernel_size: _adds(
                height, width, dim, expansion_ratio * dim, conv_ratio * dim, kernel_size
            ),
        ),
        Diagnosis(
            "rounded",
            lambda height, width, dim, expansion_ratio, conv_ratio, kernel_size: _adds(
                height, width, dim, round(expansion_ratio * dim), round(conv_ratio * dim), kernel_size
            ),
        ),
    ),
    equation="equation-multiply-adds",
)


def _parameters(dim: int, h: float, cc: float, k: int) -> Any:
    return 2 * dim + 2 * (dim * h + h) + (k * k + 1) * cc + h * dim + dim


def _parameter_mistake(key: str, count: Any) -> Diagnosis:
    """Build a diagnosis from `count(D, h, cc, k)`."""

    def implementation(dim: int, expansion_ratio: float, conv_ratio: float, kernel_size: int) -> Any:
        return count(dim, *_hidden(dim, expansion_ratio, conv_ratio), kernel_size)

    return Diagnosis(key, implementation)


_PARAMETERS = Exercise(
    id="block.parameters",
    lesson="06",
    objective="06.count",
    kind="free",
    difficulty=3,
    minutes=12,
    stub='''\
def my_parameters(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    """Return the number of learned parameters of one gated CNN block.

    LayerNorm (a scale and a shift a channel), fc1, the depthwise convolution, fc2; all three
    layers have biases. Widths are cut off: int(ratio * dim).
    """
    return ...
''',
    reference="mambaout_edu.blocks.block_parameters",
    cases=_parameter_cases,
    diagnoses=(
        _parameter_mistake("no_biases", lambda d, h, cc, k: 2 * d + 2 * d * h + k * k * cc + h * d),
        _parameter_mistake("no_norm", lambda d, h, cc, k: _parameters(d, h, cc, k) - 2 * d),
        _parameter_mistake("half_norm", lambda d, h, cc, k: _parameters(d, h, cc, k) - d),
        _parameter_mistake("one_branch", lambda d, h, cc, k: _parameters(d, h, cc, k) - d * h - h),
        _parameter_mistake("no_fc2", lambda d, h, cc, k: _parameters(d, h, cc, k) - h * d - d),
        _parameter_mistake("half_bias", lambda d, h, cc, k: _parameters(d, h, cc, k) - h),
        _parameter_mistake("dense_convolution", lambda d, h, cc, k: _parameters(d, h, cc, k) + k * k * cc * (cc - 1)),
        _parameter_mistake("all_channels", lambda d, h, cc, k: _parameters(d, h, h, k)),
        _parameter_mistake("window_not_squared", lambda d, h, cc, k: _parameters(d, h, cc, k) - (k * k - k) * cc),
        _parameter_mistake("no_convolution_bias", lambda d, h, cc, k: _parameters(d, h, cc, k) - cc),
        Diagnosis(
            "not_cut_off",
            lambda dim, expansion_ratio, conv_ratio, kernel_size: _parameters(
                dim, expansion_ratio * dim, conv_ratio * dim, kernel_size
            ),
        ),
        Diagnosis(
            "rounded",
            lambda dim, expansion_ratio, conv_ratio, kernel_size: _parameters(
                dim, round(expansion_ratio * dim), round(conv_ratio * dim), kernel_size
            ),
        ),
    ),
    equation="equation-parameters",
)


EXERCISES = (
    _MULTIPLY_ADDS,
    _PARAMETERS,
)

"""Exercises of lesson 03 on sums: the bytes of a bank, and the position from which attention costs more."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _bank_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    odd = [draw.randint(300, 3000), draw.randint(2, 9), draw.choice((3, 5)), draw.choice((16, 48))]
    return [
        Case((4096, 12, 12, 64), {}),
        Case((1000, 3, 5, 32), {"item": 4, "batch": 7}),
        Case((odd[0] + 400, *odd[1:]), {"item": 1, "batch": 3, "window": odd[0]}),
        Case((odd[0], *odd[1:]), {"item": 4, "window": odd[0] + 9}),
        Case((0, 2, 4, 8), {"window": 5}),
    ]


def _bank(
    tokens: int, depth: int, heads: int, head_dim: int, item: int = 2, batch: int = 1, window: Any = None,
    slip: str = "",
) -> int:  # fmt: skip
    kept = tokens if window is None or slip == "window_ignored" else window if slip == "window_full" else None
    kept = min(tokens, window) if kept is None else kept
    factors = {
        "values_left_out": (1 if slip == "values_left_out" else 2),
        "one_layer": (1 if slip == "one_layer" else depth),
        "one_head": (1 if slip == "one_head" else heads),
        "one_sequence": (1 if slip == "one_sequence" else batch),
        "numbers_not_bytes": (1 if slip == "numbers_not_bytes" else item),
        "tokens": head_dim * kept,
    }
    product = 1
    for factor in factors.values():
        product *= factor
    return product * kept if slip == "squared" else product


def _bank_slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda *args, **kwargs: _bank(*args, **{**kwargs, "slip": key}))


_BANK = Exercise(
    id="memory.bank_bytes",
    lesson="03",
    objective="03.bytes",
    kind="worked",
    difficulty=1,
    minutes=6,
    stub='''\
def my_bank_bytes(tokens, depth, num_kv_heads, head_dim, item=2, batch=1, window=None):
    """Return the bytes of a KV cache after so many tokens.

    item: bytes of a number. window: the most tokens that are kept; None keeps all.
    """
    # Worked, for 4,096 tokens, 12 layers, 12 heads of 64 channels, 2 bytes a number, 1 sequence:
    #     numbers a token: a key and a value in each layer and head, 2 * 12 * 12 * 64 = 18,432
    #     bytes: 4,096 * 18,432 * 2 = 150,994,944, or 144 MiB
    # Make it general.
    return ...
''',
    reference="mambaout_edu.memory.formulas.bank_bytes",
    cases=_bank_cases,
    diagnoses=tuple(
        map(
            _bank_slip,
            (
                "values_left_out", "one_layer", "one_head", "one_sequence", "numbers_not_bytes", "window_ignored",
                "window_full", "squared",
            ),
        )
    ),
    equation="equation-bank",
)  # fmt: skip


def _crossing_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    dim = draw.randint(20, 90)
    beyond = draw.randint(50, 500)
    return [
        Case((768, 2 * 4_000_000), {}),
        Case((dim, 4 * dim**2 + 2 * dim * beyond + draw.randint(1, 2 * dim - 1)), {}),
        Case((dim, 14 * dim**2 + 2 * dim * beyond), {"mlp_ratio": 5}),
        Case((64, 4 * 64**2 + 3 * 128), {}),  # costs are equal at position 2
        Case((64, 100), {"mlp_ratio": 4}),  # never cheaper
    ]


def _cross(dim: int, cost: int, ratio: int = 0, slip: str = "") -> Any:
    linear = {
        "products_left_out": 0,
        "mlp_ignored": 4 * dim**2,
        "mlp_once": (4 + ratio) * dim**2,
        "one_product": (1 + 2 * ratio) * dim**2,
    }.get(slip, (4 + 2 * ratio) * dim**2)
    token = dim if slip == "scores_alone" else 2 * dim
    first: float = (cost - linear) / token if slip == "not_whole" else (cost - linear) // token
    if slip == "one_late":
        first += 1
    if slip == "one_early":
        first -= 1
    if slip == "equal_is_enough":
        first = -((linear - cost) // token) - 1
    return first if slip == "negative" else max(0, first)


def _cross_slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda dim, cost, mlp_ratio=0: _cross(dim, cost, mlp_ratio, key))


_CROSSING = Exercise(
    id="memory.crossing",
    lesson="03",
    objective="03.bytes",
    kind="completion",
    difficulty=2,
    minutes=8,
    stub='''\
def my_crossing(dim, state_cost, mlp_ratio=0):
    """Return the first position p at which a token costs more with attention than state_cost.

    In multiply-adds, after p tokens: 4 D^2 for attention's four products, 2 r D^2 for an MLP of
    ratio r, and 2 D for each of the p + 1 tokens that are seen. A whole number, 0 or more.
    """
    linear = (4 + 2 * mlp_ratio) * dim**2
    # What is left of state_cost pays for tokens, at 2 D each. How many are still not dearer?
    return ...
''',
    reference="mambaout_edu.memory.formulas.crossing_position",
    cases=_crossing_cases,
    diagnoses=tuple(
        map(
            _cross_slip,
            (
                "products_left_out", "mlp_ignored", "mlp_once", "one_product", "scores_alone", "not_whole", "one_late",
                "one_early", "equal_is_enough", "negative",
            ),
        )
    ),
    equation="equation-crossing",
)  # fmt: skip


EXERCISES = (_BANK, _CROSSING)

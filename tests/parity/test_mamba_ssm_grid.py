"""The grid of mamba-ssm's own test of `selective_scan_fn`, with ours in its place, against the float64 loop.

Sizes, distributions of the arguments, options and tolerances are those of state-spaces/mamba,
tests/ops/test_selective_scan.py; there all options are on, and the others stand in comments. Here all of them are run,
and all gradients are held to the tolerances that are written there.
"""

import itertools
from typing import NamedTuple

import pytest
import torch

from mambaout_edu.scan import selective_scan

BATCH, CHANNELS, STATES = 2, 4, 8
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
ENGINES = ("cpu", "torch")
KINDS = {  # of B and C: (B is variable, C is variable, groups)
    "B and C variable": (True, True, 1),
    "two groups": (True, True, 2),
    "B variable": (True, False, 1),
    "C variable": (False, True, 1),
    "B and C fixed": (False, False, 1),
}


class Options(NamedTuple):
    D: bool = True
    z: bool = True
    delta_bias: bool = True
    softplus: bool = True


ALL_ON = Options()
EVERY = [Options(*flags) for flags in itertools.product((True, False), repeat=4)]


def some(turn: int) -> list[Options]:
    """Return half of all options, in which every three of the four flags take all their values together."""
    return [options for options in EVERY if sum(options) % 2 == turn % 2]


QUICK = [(128, kind, options) for turn, kind in enumerate(KINDS) for options in some(turn)]
QUICK += [(length, kind, ALL_ON) for length in (128, 256) for kind in ("B and C variable", "two groups")]
WHOLE = [case for case in itertools.product(LENGTHS, KINDS, EVERY) if case not in QUICK]


def name_of(value):
    if isinstance(value, Options):
        return "+".join(name for name, on in value._asdict().items() if on) or "nothing"
    return str(value)


def grid(cases):
    return pytest.mark.parametrize(("length", "kind", "options"), list(dict.fromkeys(cases)), ids=name_of)


def draw(length, kind, options, weights=torch.float32):
    """Draw the arguments as mamba-ssm's test does; complex weights that vary are pairs of real numbers, 2L of them."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *s, dtype=torch.float32: torch.randn(*s, generator=generator, dtype=dtype)  # noqa: E731
    uniform = lambda *s, dtype=torch.float32: torch.rand(*s, generator=generator, dtype=dtype)  # noqa: E731
    variable_B, variable_C, groups = KINDS[kind]
    sequence = (BATCH, CHANNELS, length)
    columns = 2 * length if weights.is_complex else length
    rows = (BATCH, STATES, columns) if groups == 1 else (BATCH, groups, STATES, columns)
    found = {"A": -0.5 * uniform(CHANNELS, STATES, dtype=weights)}
    for name, varies in (("B", variable_B), ("C", variable_C)):
        found[name] = normal(*rows) if varies else normal(CHANNELS, STATES, dtype=weights)
    optional = {"D": normal(CHANNELS), "z": normal(*sequence), "delta_bias": 0.5 * uniform(CHANNELS)}
    found |= {name: x for name, x in optional.items() if getattr(options, name)}
    return found | {"u": normal(*sequence), "delta": 0.5 * uniform(*sequence)}


def results(arguments, options, engine, double=False):
    """Return out, the last state and all gradients; `double` computes in float64 or complex128."""
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    inputs = {n: (x.to(wide[x.dtype]) if double else x.clone()).requires_grad_() for n, x in arguments.items()}
    given = {"delta_softplus": options.softplus, "engine": engine}
    out, last_state = selective_scan(**inputs, **given, return_last_state=True)
    if not double:
        assert torch.equal(selective_scan(**inputs, **given), out)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype))
    return {"out": out, "last_state": last_state} | {f"grad of {n}": x.grad for n, x in inputs.items()}


def tolerances(kind, options):
    """Return (rtol, atol) of every result."""
    r, a = 6e-4, 2e-3
    w_r, w_a = (max(1e-3, r), max(1e-3, a)) if options.z else (1e-3, 1e-3)
    variable_B, variable_C, _ = KINDS[kind]
    return {
        **{"out": (r, a), "last_state": (r, a)},
        **{"grad of u": (2 * r, 2 * a), "grad of delta": (5 * r, 10 * a), "grad of A": (w_r, 5 * w_a)},
        "grad of B": (r, a) if variable_B else (w_r, w_a),
        "grad of C": (r, a) if variable_C else (w_r, w_a),
        **{f"grad of {name}": (w_r, w_a) for name in ("D", "z", "delta_bias")},
    }


def hold(arguments, kind, options, engines):
    expected = results(arguments, options, "reference", double=True)
    allowed = tolerances(kind, options)
    for engine in engines:
        found = results(arguments, options, engine)
        assert found.keys() == expected.keys()
        for name, x in found.items():
            assert x.dtype in (torch.float32, torch.complex64)
            rtol, atol = allowed[name]
            torch.testing.assert_close(
                *(x.to(expected[name].dtype), expected[name]),
                rtol=rtol,
                atol=atol,
                msg=lambda text, name=name, engine=engine: f"{name} of engine {engine!r}: {text}",
            )


@grid(QUICK)
def test_engines_hold_mamba_ssms_tolerances(length, kind, options):
    hold(draw(length, kind, options), kind, options, ENGINES)


@pytest.mark.slow
@grid(WHOLE)
def test_engines_hold_mamba_ssms_tolerances_on_the_whole_grid(length, kind, options):
    hold(draw(length, kind, options), kind, options, ENGINES)


@pytest.mark.parametrize("kind", KINDS)
def test_complex_weights_hold_them_in_the_reference_engine(kind):
    options = Options(softplus=kind != "two groups")
    hold(draw(128, kind, options, torch.complex64), kind, options, ["reference"])


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS[1:])
@pytest.mark.parametrize("kind", KINDS)
def test_complex_weights_hold_them_at_every_length(length, kind):
    hold(draw(length, kind, ALL_ON, torch.complex64), kind, ALL_ON, ["reference"])


@pytest.mark.parametrize("wrong", ["no bias", "C of the step before"])
def test_another_recurrence_does_not_hold_them(wrong):
    kind = "B and C variable"
    arguments = draw(128, kind, ALL_ON)
    expected = results(arguments, ALL_ON, "reference", double=True)["out"]
    if wrong == "no bias":
        del arguments["delta_bias"]
    else:
        arguments["C"] = arguments["C"].roll(1, dims=-1)
    found = results(arguments, ALL_ON, "cpu")["out"]
    rtol, atol = tolerances(kind, ALL_ON)["out"]
    assert not torch.allclose(found.double(), expected, rtol=rtol, atol=atol)

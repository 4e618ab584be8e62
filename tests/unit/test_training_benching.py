"""The bench times the same work for both models, in turn, and says what it timed."""

import json
import statistics
import time

import pytest
import torch

from mambaout_edu.training import benching
from mambaout_edu.training.benching import Bench, Timing, bench


def made(ours: list[float], theirs: list[float] | None = None, peak: int | None = None) -> Bench:
    cases = {"ours": Timing(tuple(ours), peak)}
    if theirs is not None:
        cases["timm"] = Timing(tuple(theirs), peak)
    return Bench("mambaout_tiny", True, 8, 224, "fp32", False, "a laptop", cases)


def test_ratios_are_of_pairs_and_speed_is_of_medians() -> None:
    found = made([1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert found.ratios == [0.5, 1.0, 2.0]
    assert found.images_per_second() == 4.0
    told = json.loads(json.dumps(found.as_json()))
    assert told["time_over_timm"] == 1.0
    assert told["cases"]["timm"]["quarter_points"] == [2.0, 2.0]
    assert (told["name"], told["train"], told["batch_size"], told["device"]) == ("mambaout_tiny", True, 8, "a laptop")


def test_the_table_says_what_was_timed_and_how_far_it_varied() -> None:
    said = str(made([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]))
    for part in (
        "mambaout_tiny: training step (forward, backward, AdamW), batch 8 of 224 x 224 pixels, fp32, not compiled",
        "2000.00 (1000.00 to 4000.00)",
        "time of ours over timm's: 1.000 (quarter points of the 3 pairs 0.500 to 2.000)",
    ):
        assert part in said
    assert "memory" not in said
    assert "2,500 MB" in str(made([1.0, 2.0, 4.0], peak=2_500_000_000))
    assert "timm has no model of its own" in str(made([1.0, 2.0, 4.0]))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("options", [{}, {"precision": "bf16", "channels_last": True}])
def test_both_models_are_timed_as_often(train: bool, options: dict) -> None:
    found = bench(
        "test_mambaout", train=train, device="cpu", batch_size=2, image_size=32, repeats=3, progress=False, **options
    )
    assert {name: len(timing.seconds) for name, timing in found.cases.items()} == {"ours": 3, "timm": 3}
    assert min(min(timing.seconds) for timing in found.cases.values()) > 0
    assert (found.precision, found.image_size) == (options.get("precision", "fp32"), 32)


def test_the_two_models_have_the_same_weights() -> None:
    torch.manual_seed(0)
    models = benching._models("test_mambaout")
    x = torch.rand(2, 3, 64, 64)
    ours, theirs = (models[name].eval()(x) for name in ("ours", "timm"))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert type(models["ours"]).__module__.startswith("mambaout_edu")
    assert type(models["timm"]).__module__.startswith("timm")


def test_a_training_step_changes_the_weights_and_a_forward_pass_does_not() -> None:
    model = benching._models("mambaout_pico_8")["ours"]
    images = torch.rand(2, 1, 8, 8)
    before = [p.detach().clone() for p in model.parameters()]
    benching._forward(model, model, images, "fp32")()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    benching._step(model, model, images, "fp32")()
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not all(p.grad is None for p in model.parameters())


def test_they_take_turns_and_nobody_is_always_first() -> None:
    ran: list[str] = []
    passes = {name: (lambda name=name: ran.append(name)) for name in ("ours", "timm")}
    benching._in_turn(passes, torch.device("cpu"), 4, progress=False)
    assert ran[-8:] == ["ours", "timm", "timm", "ours", "ours", "timm", "timm", "ours"]


def test_seconds_are_those_of_one_pass() -> None:
    seconds = benching._seconds(lambda: time.sleep(0.02), torch.device("cpu"), steps=3)
    assert 0.02 <= seconds < 0.06


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "mambaout_tinny"}, "did you mean mambaout_tiny"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here .*'cpu' always can"),
        ({"repeats": 2}, "repeats 2, batch_size 8, image_size None: expected at least 3, 1 and 1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"image_size": 0}, "image_size 0"),
        ({"precision": "fp16"}, "precision is 'fp16'; expected 'fp32' or 'bf16'"),
    ],
)
def test_wrong_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bench(**{"name": "mambaout_pico_8", "device": "cpu", **options}, progress=False)


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="device 'cuda' cannot be used here"):
        bench("mambaout_pico_8", device="cuda")
    assert benching.usable_device(None).type == "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_memory_is_measured_too(train: bool, compiled: bool) -> None:
    found = bench("test_mambaout", train=train, compile=compiled, batch_size=8, image_size=64, progress=False)
    assert (found.precision, len(found.ratios)) == ("bf16", 15)
    assert all(timing.peak_bytes for timing in found.cases.values())
    assert 0.2 < statistics.median(found.ratios) < 5
    assert "MB" in str(found)

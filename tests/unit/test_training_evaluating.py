"""Evaluation that keeps nothing but counts: equal to counting all at once, and refused where it means nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, top_k_accuracy_score
from torch import Tensor, nn

from mambaout_edu.data import digits
from mambaout_edu.models import create_model
from mambaout_edu.training import evaluate
from mambaout_edu.training.evaluating import ModelEvaluation, evaluate_batches, evaluate_model
from mambaout_edu.training.recipe import recipe
from mambaout_edu.training.sources import Source, open_source

NAMES = tuple("abcdefg")


def answers(scores: Tensor, labels: Tensor, batch: int) -> ModelEvaluation:
    """Let a "model" that only flattens give the scores, in batches."""
    batches = [(s[:, :, None, None], y) for s, y in zip(scores.split(batch), labels.split(batch), strict=True)]
    return evaluate_batches(nn.Flatten(), batches, NAMES[: scores.shape[1]])


@given(st.integers(1, 40), st.integers(2, 7), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_counts_are_those_of_scikit_learn_whatever_the_batches(total: int, classes: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(total, classes, generator=generator)
    labels = torch.randint(0, classes, (total,), generator=generator)
    found = answers(scores, labels, batch)
    chosen = scores.argmax(1)
    expected = confusion_matrix(labels.numpy(), chosen.numpy(), labels=np.arange(classes))
    assert found.confusion is not None
    assert (found.confusion.numpy() == expected).all()
    assert found.correct == int((chosen == labels).sum()) == int(found.confusion.diagonal().sum())
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(scores, labels)), rel=1e-5)
    if classes > 5:
        among = top_k_accuracy_score(labels, scores, k=5, labels=np.arange(classes), normalize=False)
        assert found.correct5 == int(among)
    assert found.correct <= found.correct5 <= found.total == total


def test_a_model_without_an_opinion_gets_no_top_5_for_free() -> None:
    labels = torch.arange(7)
    found = answers(torch.zeros(7, 7), labels, 7)
    assert found.correct == 1
    assert found.correct5 == 5


def test_it_agrees_with_the_evaluation_in_memory_on_the_digits() -> None:
    torch.manual_seed(0)
    model, plan = create_model("mambaout_pico_8", num_classes=10), recipe("digits_cpu")
    model.train()
    source = open_source("digits", "validation", plan)
    found = evaluate_model(model, source, plan, batch_size=97, progress=False)
    assert model.training
    images = digits().test
    normalised = type(images)((images.images - 0.5) / 0.5, images.labels, images.classes)
    assert (found.correct, found.total) == (evaluate(model, normalised).correct, 450)
    assert found.interval == evaluate(model, normalised).interval
    assert found.images_per_second <= found.model_images_per_second


def test_the_summary_names_what_is_confused_and_json_has_all_of_it() -> None:
    scores = torch.eye(7)[[0, 0, 1, 2, 3, 3, 6]] * 9
    found = answers(scores, torch.tensor([0, 1, 1, 2, 4, 4, 6]), 3)
    assert found.confusions() == [("e", "d", 2), ("b", "a", 1)]
    assert found.confusions(1) == [("e", "d", 2)]
    said = str(found)
    for part in ("top-1  57.14 %", "4 of 7 images", "top-5", "e, d, 2", "images a second"):
        assert part in said
    told = json.loads(json.dumps(found.as_json()))
    assert told["top1"]["correct"] == 4
    assert told["confusion"][4][3] == 2
    assert "top-5" not in str(answers(torch.eye(3), torch.arange(3), 2))


def test_all_right_is_said_without_a_list_of_confusions() -> None:
    found = answers(torch.eye(3), torch.arange(3), 2)
    assert found.confusions() == []
    assert "confused" not in str(found)


@pytest.mark.parametrize(
    ("options", "changes", "says"),
    [
        ({"num_classes": 7}, {}, "tells 7 classes apart, but digits, validation has 10"),
        ({"num_classes": 10, "in_chans": 3}, {}, "images of 3 channels, but the recipe prepares 1; set in_chans=3"),
    ],
)
def test_a_model_for_other_data_is_refused(options: dict, changes: dict, says: str) -> None:
    plan = recipe("digits_cpu", **changes)
    with pytest.raises(ValueError, match=says):
        evaluate_model(create_model("mambaout_pico_8", **options), open_source("digits", "validation", plan), plan)


def test_scores_of_another_shape_or_undefined_ones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 4\); expected \[2, 3\], one score a class"):
        evaluate_batches(nn.Flatten(), [(torch.zeros(2, 4, 1, 1), torch.tensor([0, 1]))], NAMES[:3])
    scores = torch.zeros(3, 3, 1, 1)
    scores[1, 2] = float("nan")
    with pytest.raises(ValueError, match="undefined for 1 of 3 images"):
        evaluate_batches(nn.Flatten(), [(scores, torch.tensor([0, 1, 2]))], NAMES[:3])
    with pytest.raises(ValueError, match="no images to evaluate on"):
        evaluate_batches(nn.Flatten(), [], NAMES)


def test_an_image_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    for part, name, number in [(p, n, k) for p in ("train", "val") for n in ("cat", "dog") for k in range(3)]:
        (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 80 * number).save(tmp_path / part / name / f"{number}.png")
    (tmp_path / "val" / "dog" / "1.png").write_bytes(b"no picture")
    plan = recipe("digits_cpu")
    source = open_source(f"folder:{tmp_path}", "validation", plan)
    found = evaluate_model(create_model("mambaout_pico_8", num_classes=2), source, plan, progress=False)
    assert found.total == 5
    assert [bad.index for bad in found.skipped] == [4]
    assert "left out because they cannot be read: 1 images; the first is number 4" in str(found)


def test_processes_count_their_shares_and_the_sums_are_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three processes alone, then their counts added, as accelerate's reduce does."""

    class Process:
        num_processes = 3

        def __init__(self, rank: int) -> None:
            self.process_index, self.counted = rank, []

        def reduce(self, counts: Tensor, reduction: str) -> Tensor:
            assert reduction == "sum"
            self.counted.append(counts.clone())
            return counts

    torch.manual_seed(0)
    model, plan = create_model("mambaout_pico_8", num_classes=10), recipe("digits_cpu", batch_size=63)
    source = Source.of(digits().test)
    processes = [Process(rank) for rank in range(3)]
    for process in processes:
        evaluate_model(model, source, plan, accelerator=process, progress=False)
    whole = evaluate_model(model, source, plan, progress=False)
    sums, loss, confusion = (sum(parts) for parts in zip(*(p.counted for p in processes), strict=True))
    assert sums.tolist() == [whole.correct, whole.correct5, 450, 0]
    assert float(loss) / 450 == pytest.approx(whole.loss, rel=1e-6)
    assert torch.equal(confusion.reshape(10, 10), whole.confusion)


def test_bfloat16_and_channels_last_change_little() -> None:
    torch.manual_seed(0)
    model, plan = create_model("mambaout_pico_8", num_classes=10), recipe("digits_cpu")
    source = Source.of(digits().test)
    plain = evaluate_model(model, source, plan, progress=False)
    half = evaluate_model(model, source, plan.with_(precision="bf16", channels_last=True), progress=False)
    assert half.loss == pytest.approx(plain.loss, rel=2e-2)
    assert half.loss != plain.loss

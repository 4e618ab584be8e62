import math

import pytest
import torch
from torch import nn

from mambaout_edu.data import ImageSet
from mambaout_edu.models.plain_cnn import PlainCNN
from mambaout_edu.training import evaluate, fit, linear_classifier, random_shift, train_step, wilson_interval


@pytest.fixture
def stripes():
    """Upright against level stripes, with noise: 96 images of two classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 2
    wave = torch.sin(torch.arange(8) * math.pi / 2) * 0.4 + 0.5
    level, upright = wave[:, None].expand(8, 8), wave[None, :].expand(8, 8)
    clean = torch.where(labels[:, None, None] == 0, level, upright)
    noisy = clean + 0.1 * torch.randn(96, 8, 8, generator=generator)
    return ImageSet(noisy[:, None].clamp(0, 1), labels, ("level", "upright"))


def small_cnn(seed=0):
    torch.manual_seed(seed)
    return PlainCNN(in_chans=1, num_classes=2, width=4)


def test_training_learns_and_keeps_its_books(stripes):
    train, test = stripes.split(0.25)
    seen = []
    history = fit(
        small_cnn(), train, test, epochs=12, batch_size=16, lr=1e-2, progress=False,
        on_step=lambda *step: seen.append(step), on_epoch=lambda *epoch: seen.append(epoch),
    )  # fmt: skip
    assert history.accuracies[-1] == 1.0
    assert history.steps == list(range(1, 12 * 4 + 1)), "72 images make 4 whole batches of 16; the rest waits"
    assert history.accuracy_steps == list(range(4, 49, 4))
    steps = [entry for entry in seen if len(entry) == 3]
    assert steps == list(zip(history.steps, history.losses, history.lr, strict=True))
    assert [entry for entry in seen if len(entry) == 2] == list(
        zip(history.accuracy_steps, history.accuracies, strict=True)
    )
    assert len(seen[4]) == 2, "the accuracy comes after the epoch's last step"
    assert history.seconds > 0
    assert not history.interrupted
    assert "48 steps" in repr(history)
    assert "100.0%" in repr(history)


def test_learning_rate_climbs_then_falls_like_a_cosine(stripes):
    history = fit(small_cnn(), stripes, epochs=10, batch_size=24, lr=1e-2, warmup=0.25, progress=False)
    climb, total = 10, 40
    for step, rate in enumerate(history.lr):
        if step < climb:
            expected = 1e-2 * (step + 1) / (climb + 1)
        else:
            expected = 1e-2 * 0.5 * (1 + math.cos(math.pi * (step - climb) / (total - climb)))
        assert rate == pytest.approx(expected, rel=1e-6)


def test_same_seed_same_weights_other_seed_other_weights(stripes):
    def weights(seed):
        model = small_cnn()
        fit(model, stripes, epochs=2, batch_size=16, seed=seed, augment=random_shift, threads=1, progress=False)
        return nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_seed_covers_the_model_s_own_random_choices(stripes):
    def losses(noise_before):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
        torch.rand(noise_before)  # whatever else drew from torch's generator
        return fit(model, stripes, epochs=1, batch_size=16, seed=3, progress=False).losses

    assert losses(0) == losses(5)


def test_the_reader_s_random_numbers_and_threads_are_left_alone(stripes):
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    expected = torch.rand(3)
    model = small_cnn()
    torch.manual_seed(7)
    fit(model, stripes, epochs=1, threads=1, progress=False)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_weight_decay_acts_on_matrices_alone():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.5)
    blank = ImageSet(torch.zeros(16, 1, 8, 8), torch.zeros(16, dtype=torch.long), ("a", "b"))
    fit(model, blank, epochs=1, lr=0.1, weight_decay=1.0, warmup=0, progress=False)
    # Blank images, equal weights: neither the first matrix nor the norm's scale gets a gradient.
    first, scale = model[1].weight, model[2].weight
    assert torch.allclose(first, torch.full_like(first, 0.5 * (1 - 0.1))), "shrinks by lr * decay"
    assert torch.equal(scale, torch.full_like(scale, 0.5))


def test_interrupt_returns_what_there_is(stripes):
    def stop(step, loss, lr):
        if step == 3:
            raise KeyboardInterrupt

    history = fit(small_cnn(), stripes, epochs=5, batch_size=16, on_step=stop, progress=False)
    assert history.interrupted
    assert history.steps == [1, 2, 3]
    assert "interrupted" in repr(history)


def test_a_loss_that_is_not_finite_stops_with_step_and_good_weights(stripes):
    poisoned = ImageSet(stripes.images.clone(), stripes.labels, stripes.classes)
    poisoned.images[40] = float("nan")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(FloatingPointError, match=r"stopped at step \d+ .*loss is nan.*weights are those after step"):
        fit(model, poisoned, epochs=1, batch_size=8, progress=False)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_label_smoothing_and_loss_of_a_step():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 2.0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    images, labels = torch.zeros(3, 1, 2, 2), torch.ones(3, dtype=torch.long)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert train_step(model, images, labels, optimizer).item() == pytest.approx(right, rel=1e-5)
    smooth = train_step(model, images, labels, optimizer, label_smoothing=0.2)
    assert smooth.item() == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-5)
    assert not smooth.requires_grad


def test_few_images_make_one_batch(stripes):
    assert fit(small_cnn(), stripes.subset(range(5)), epochs=2, batch_size=64, progress=False).steps == [1, 2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": 0}, "lr is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"warmup": 1}, "warmup is 1"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_options_out_of_range_are_refused(stripes, options, says):
    with pytest.raises(ValueError, match=says):
        fit(small_cnn(), stripes, **options)


def test_no_images_are_refused(stripes):
    with pytest.raises(ValueError, match="no images to train on"):
        fit(small_cnn(), stripes.subset([]))
    with pytest.raises(ValueError, match="no images to evaluate on"):
        evaluate(small_cnn(), stripes.subset([]))


def test_progress_bar_is_shown_on_request(stripes, capfd):
    fit(small_cnn(), stripes, stripes, epochs=1)
    shown = capfd.readouterr().err
    assert "training" in shown
    assert "accuracy" in shown
    fit(small_cnn(), stripes, epochs=1, progress=False)
    assert capfd.readouterr().err == ""


def test_evaluation_counts_and_orders_mistakes():
    scores = torch.tensor([[5.0, 0, 0], [0, 5, 0], [1, 0, 0], [0, 0, 3], [2, 0, 0]])
    images = ImageSet(scores.reshape(5, 3, 1, 1), torch.tensor([0, 1, 1, 0, 2]), ("a", "b", "c"))
    result = evaluate(nn.Flatten(), images, batch_size=2)
    assert (result.correct, result.total, result.accuracy) == (2, 5, 0.4)
    assert result.predictions.tolist() == [0, 1, 0, 2, 0]
    assert torch.allclose(result.probabilities, scores.softmax(dim=1))
    assert result.mistakes.tolist() == [3, 4, 2], "the most confident first"
    assert result.interval == wilson_interval(2, 5)
    assert repr(result).startswith("Evaluation(2/5 = 40.0%")


def test_evaluation_leaves_the_model_as_it_was(stripes):
    model = small_cnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, stripes)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    evaluate(model, stripes)
    assert not model.training


def test_wrong_number_of_outputs_is_refused(stripes):
    with pytest.raises(ValueError, match=r"\[96, 2\].*num_classes=2"):
        evaluate(PlainCNN(in_chans=1, num_classes=5, width=4), stripes)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (443, 450, 0.9682, 0.9924)],
)
def test_wilson_interval(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_covers_as_often_as_it_says():
    share, total = 0.9, 200
    coverage = sum(
        math.comb(total, k) * share**k * (1 - share) ** (total - k)
        for k in range(total + 1)
        if wilson_interval(k, total)[0] <= share <= wilson_interval(k, total)[1]
    )
    assert coverage == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(correct, total):
    with pytest.raises(ValueError, match="expected 0 <= correct <= total"):
        wilson_interval(correct, total)


def test_linear_classifier(stripes):
    train, test = stripes.split(0.25)
    result = linear_classifier(train, test)
    assert result.accuracy == 1.0
    assert torch.allclose(result.probabilities.sum(dim=1), torch.ones(len(test)))
    with pytest.raises(ValueError, match="do not belong together"):
        linear_classifier(train, test.resized(16))


def test_linear_classifier_where_a_class_was_never_seen():
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(30) % 3
    whole = ImageSet(images, labels, ("a", "b", "c"))
    result = linear_classifier(whole.subset([i for i in range(30) if labels[i] != 1]), whole)
    assert result.probabilities.shape == (30, 3)
    assert result.probabilities[:, 1].max() == 0
    assert not (result.predictions == 1).any()

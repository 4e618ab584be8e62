import pytest
import torch

from mambaout_edu.data import digits
from mambaout_edu.models import create_model
from mambaout_edu.training import DIGITS, evaluate, fit, linear_classifier


def train(seed, **changes):
    """Train the MambaOut for digits and return its evaluation, and the linear classifier's."""
    data = digits(seed)
    torch.manual_seed(seed)
    model = create_model("mambaout_pico_8", num_classes=10)
    fit(model, data.train, seed=seed, progress=False, **{**DIGITS, **changes})
    return evaluate(model, data.test), linear_classifier(*data)


def test_a_quarter_of_the_training_is_already_close():
    result, _ = train(0, epochs=5)
    assert result.accuracy >= 0.95


@pytest.mark.slow
def test_mean_of_three_seeds_on_held_out_digits():
    results = [train(seed) for seed in range(3)]
    mambaout = sum(result.accuracy for result, _ in results) / 3
    linear = sum(result.accuracy for _, result in results) / 3
    assert mambaout >= 0.985
    assert mambaout - linear >= 0.015

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.strings import table
from mambaout_edu.training.recipe import RECIPES, Recipe, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    plan = recipe(name)
    assert plan.name == name
    again = Recipe.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert all(isinstance(getattr(again, f), tuple) for f in ("mean", "std", "ratio", "betas"))


def test_the_table_explains_every_setting_once():
    fields = {f.name for f in dataclasses.fields(Recipe)} - {"name"}
    explained = [name for section in table("recipe")["sections"].values() for name in section]
    assert sorted(explained) == sorted(fields)
    lines = str(recipe("imagenet_paper")).splitlines()
    assert lines[0] == "Recipe imagenet_paper"
    for name in fields:
        assert sum(line.split()[:1] == [name] and line.startswith("  ") for line in lines) == 1
    assert max(map(len, lines)) <= 120
    shown = {line.split()[0]: " ".join(line.split()) for line in lines if line.startswith("  ")}
    assert shown["lr"].startswith("lr 0.004 = 0.001 * 4096 / 1024 ")
    assert shown["drop_path"].startswith("drop_path by variant ")
    assert shown["compile"].startswith("compile no ")
    assert "workers 3 " in " ".join(str(recipe("imagenet_paper", workers=3)).split())


def test_the_paper_s_settings():
    """architectures.md 1.6: the appendix's table and the authors' scripts."""
    paper = recipe("imagenet_paper")
    assert (paper.epochs, paper.warmup_epochs, paper.cooldown_epochs, paper.total_epochs) == (300, 20, 10, 310)
    assert (paper.batch_size, paper.accumulate, paper.micro_batch(8)) == (4096, 4, 128)
    assert (paper.peak_lr, paper.min_lr, paper.warmup_lr) == (4e-3, 1e-5, 1e-6)
    assert (paper.opt, paper.betas, paper.eps, paper.weight_decay, paper.clip) == (
        "adamw",
        (0.9, 0.999),
        1e-8,
        0.05,
        None,
    )
    assert (paper.image_size, paper.scale, paper.hflip, paper.interpolation) == (224, (0.08, 1.0), 0.5, "random")
    assert (paper.auto_augment, paper.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.4)
    assert (paper.mixup, paper.cutmix, paper.mixup_prob, paper.mixup_switch_prob) == (0.8, 1.0, 1.0, 0.5)
    assert (paper.random_erasing, paper.erasing_mode, paper.label_smoothing) == (0.25, "pixel", 0.1)
    assert (paper.ema_decay, paper.precision, paper.crop_pct, paper.eval_interpolation) == (
        None,
        "fp32",
        1.0,
        "bicubic",
    )
    rates = {n: paper.for_model(f"mambaout_{n}").drop_path for n in ("femto", "kobe", "tiny", "small", "base")}
    assert rates == {"femto": 0.025, "kobe": 0.025, "tiny": 0.2, "small": 0.4, "base": 0.6}


def test_drop_path_by_model():
    assert recipe("imagenet_paper").for_model("mambaout_tiny.in1k").drop_path == 0.2
    assert recipe("imagenet_paper").for_model("vim_tiny").drop_path == 0.0
    assert recipe("imagenet_paper", drop_path=0.1).for_model("mambaout_base").drop_path == 0.1


def test_the_learning_rate_follows_the_batch_unless_it_is_given():
    assert Recipe(batch_size=2048).peak_lr == 2e-3
    assert Recipe(batch_size=2048, lr=5e-4).peak_lr == 5e-4
    assert Recipe(batch_size=512, lr_base=0.5, lr_base_size=256).peak_lr == 1.0


def test_changes_and_differences():
    plan = recipe("digits_cpu")
    other = plan.with_(epochs=3, workers=2, name="mine")
    assert plan.differences(other) == {"name": ("digits_cpu", "mine"), "epochs": (20, 3), "workers": (0, 2)}
    assert plan.differences(other, housekeeping=False) == {"epochs": (20, 3)}
    assert plan.differences(plan) == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.epochs = 3
    with pytest.raises(TypeError, match="no setting 'epoch'; did you mean epochs"):
        plan.with_(epoch=3)
    with pytest.raises(TypeError, match="no setting 'zzz'; the settings are name, image_size"):
        recipe("digits_cpu", zzz=3)
    with pytest.raises(ValueError, match="no recipe is named 'imagenet_papers'; did you mean imagenet_paper"):
        recipe("imagenet_papers")


def test_json_that_is_no_recipe():
    with pytest.raises(ValueError, match="this is none"):
        Recipe.from_json("epochs: 3")
    with pytest.raises(TypeError, match="is a JSON object"):
        Recipe.from_json("[1, 2]")
    with pytest.raises(TypeError, match="did you mean weight_decay"):
        Recipe.from_json('{"weight_dekay": 0.1}')
    with pytest.raises(TypeError, match="epochs is '3'; expected a whole number"):
        Recipe.from_json(json.dumps({"epochs": "3"}))


WRONG = {
    "epochs": [0, -1, 2.5, True, None, float("nan")],
    "image_size": [0, "224"],
    "eval_image_size": [0],
    "batch_size": [0],
    "accumulate": [0, 3],
    "workers": [-1],
    "seed": [-1, 1.0],
    "lr": [0.0, -1.0, float("inf"), "high"],
    "min_lr": [-1e-5, 1.0],
    "warmup_lr": [1.0],
    "warmup_epochs": [-1, 301],
    "weight_decay": [-0.1],
    "clip": [0.0],
    "label_smoothing": [-0.1, 1.1],
    "drop_path": [1.0, -0.1],
    "ema_decay": [0.0, 1.0],
    "crop_pct": [0.0, 1.1],
    "hflip": [2.0],
    "mean": [(0.5,), 0.5],
    "std": [(0.0, 1.0, 1.0), ("a", "b", "c")],
    "scale": [(0.5, 0.1), (0.0, 1.0), (0.5, 1.5), (1.0,)],
    "ratio": [(2.0, 1.0), None],
    "betas": [(0.9, 1.0)],
    "affine": [(10.0, 1.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (1.0, 1.0)],
    "interpolation": ["cubic"],
    "eval_interpolation": ["random"],
    "erasing_mode": ["black"],
    "precision": ["fp16", 32],
    "compile": [1, "yes"],
    "opt": ["adamx", 3],
    "auto_augment": ["random", 3, ""],
    "name": [3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_every_wrong_setting_is_refused_by_name_and_value(name, value):
    with pytest.raises((TypeError, ValueError), match=name) as refusal:
        Recipe(**{name: value})
    first = value[0] if isinstance(value, tuple) else value
    assert (f"{first:g}" if isinstance(first, float) else str(first)) in str(refusal.value)


def test_what_does_not_go_together():
    with pytest.raises(
        ValueError, match=r"batch_size 6 cannot be shared by 1 processes and accumulate = 2 .* an even number.* of 4"
    ):
        Recipe(batch_size=6, accumulate=2, mixup=0.1, lr=0.1)
    with pytest.raises(ValueError, match="expected a multiple of 3"):
        Recipe(batch_size=64).micro_batch(3)
    with pytest.raises(ValueError, match="30 training images, fewer than one batch of 64"):
        Recipe(batch_size=64).updates_per_epoch(30)


@given(st.integers(1, 64), st.integers(1, 6), st.integers(1, 6), st.integers(0, 5000))
def test_batches_add_up(micro, accumulate, world, images):
    plan = Recipe(batch_size=micro * accumulate * world, accumulate=accumulate, lr=0.1)
    assert plan.micro_batch(world) == micro
    if images >= plan.batch_size:
        updates = plan.updates_per_epoch(images)
        assert updates * plan.batch_size <= images < (updates + 1) * plan.batch_size


@given(st.floats(1e-6, 1.0), st.integers(1, 1000), st.booleans(), st.sampled_from([None, 0.3]))
def test_any_recipe_survives_json(lr, epochs, mixes, drop_path):
    plan = Recipe(
        lr=lr, epochs=epochs, warmup_epochs=0, min_lr=0.0, mixup=0.2 * mixes, drop_path=drop_path, warmup_lr=0
    )
    assert Recipe.from_json(plan.to_json()) == plan

import pytest
import timm
import torch
from timm.data import Mixup
from timm.layers import DropPath
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn

from mambaout_edu.models import create_model, load_official
from mambaout_edu.training.ingredients import (
    create_ema,
    create_loss,
    create_mixup,
    create_optimizer,
    create_schedule,
)
from mambaout_edu.training.randomness import seeded
from mambaout_edu.training.recipe import DROP_PATH, RECIPES, Recipe

PAPER = RECIPES["imagenet_paper"]


def twins(name="test_mambaout", **options):
    """timm's model and ours, with the same weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=5, **options)
    ours = create_model(name, num_classes=5, **options)
    load_official(ours, theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", ["mambaout_femto", "test_mambaout"])
def test_the_groups_of_parameters_are_timm_s(name):
    theirs, ours = twins(name)
    expected = create_optimizer_v2(theirs, "adamw", lr=4e-3, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8)
    got = create_optimizer(ours, PAPER)
    assert isinstance(got, torch.optim.AdamW)
    assert [len(g["params"]) for g in got.param_groups] == [len(g["params"]) for g in expected.param_groups]
    for a, b in zip(got.param_groups, expected.param_groups, strict=True):
        assert {k: v for k, v in a.items() if k != "params"} == {k: v for k, v in b.items() if k != "params"}
        assert sorted(tuple(p.shape) for p in a["params"]) == sorted(tuple(p.shape) for p in b["params"])
    decayed = {p.ndim > 1 for g in got.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {True}


def test_an_ssm_s_decays_are_not_pulled_to_zero():
    model = create_model("vim_tiny", num_classes=2, depth=1)
    spared = {id(p) for g in create_optimizer(model, PAPER).param_groups if not g["weight_decay"] for p in g["params"]}
    matrices = [p for n, p in model.named_parameters() if n.endswith("A_log")]
    assert matrices
    assert all(id(p) in spared for p in matrices)


def test_ten_steps_with_the_whole_recipe_end_as_timm_s():
    theirs, ours = twins(drop_path_rate=0.2)
    plan = PAPER.with_(batch_size=8, accumulate=1, epochs=3, warmup_epochs=1, cooldown_epochs=1, lr=4e-3)
    adam = create_optimizer_v2(theirs, "adamw", lr=4e-3, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8)
    curve, total = create_scheduler_v2(
        adam, "cosine", num_epochs=3, warmup_epochs=1, cooldown_epochs=1, min_lr=1e-5, warmup_lr=1e-6,
        step_on_epochs=False, updates_per_epoch=3,
    )  # fmt: skip
    mix = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=5)
    average = ModelEmaV3(theirs, decay=0.9)
    mine = create_optimizer(ours, plan)
    schedule = create_schedule(mine, plan, 3)
    ours_mix, loss = create_mixup(plan, 5), create_loss(plan)
    ours_average = create_ema(ours, plan.with_(ema_decay=0.9))
    assert total == plan.total_epochs
    for step in range(10):
        images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        labels = torch.arange(8) % 5
        curve.step_update(step)
        schedule.step_update(step)
        with seeded(plan.seed, step, 0):
            x, y = mix(images.clone(), labels)
        a, b = ours_mix(images.clone(), labels, step)
        assert torch.equal(x, a)
        assert torch.equal(y, b)
        torch.manual_seed(step)
        first = torch.sum(-y * torch.log_softmax(theirs(x), dim=-1), dim=-1).mean()
        torch.manual_seed(step)
        second = loss(ours(a), b)
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
        for value, model, optimizer, ema in ((first, theirs, adam, average), (second, ours, mine, ours_average)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            ema.update(model, step=step + 1)
    scores = [m(torch.ones(1, 3, 32, 32)) for m in (theirs.eval(), ours.eval(), average.module, ours_average.module)]
    # Adam divides by the gradient's own size: rounding of tiny gradients grows over the steps.
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-2, atol=2e-2)
    torch.testing.assert_close(scores[2], scores[3], rtol=1e-2, atol=2e-2)


def rates(optimizer, schedule, updates):
    seen = []
    for update in range(updates):
        schedule.step_update(update)
        seen.append([group["lr"] for group in optimizer.param_groups])
    return seen


@pytest.mark.parametrize("updates", [1, 7])
def test_the_paper_s_learning_rate_is_timm_s_at_every_update(updates):
    model = nn.Linear(3, 2)
    mine = create_optimizer(model, PAPER)
    theirs = create_optimizer_v2(model, "adamw", lr=4e-3, weight_decay=0.05)
    curve, total = create_scheduler_v2(
        theirs, sched="cosine", num_epochs=300, min_lr=1e-5, warmup_lr=1e-6, warmup_epochs=20, cooldown_epochs=10,
        step_on_epochs=False, updates_per_epoch=updates,
    )  # fmt: skip
    assert total == PAPER.total_epochs == 310
    got = rates(mine, create_schedule(mine, PAPER, updates), 310 * updates)
    assert got == rates(theirs, curve, 310 * updates)
    curve = [rate for rate, _ in got]
    assert curve[0] == 1e-6
    assert max(curve) == pytest.approx(4e-3, rel=0.02)
    climb = curve[: 20 * updates]
    assert climb == sorted(climb)
    assert curve[20 * updates :] == sorted(curve[20 * updates :], reverse=True)
    assert curve[300 * updates :] == [1e-5] * 10 * updates


def test_the_schedule_depends_on_the_update_alone():
    optimizer = create_optimizer(nn.Linear(3, 2), PAPER)
    straight = rates(optimizer, create_schedule(optimizer, PAPER, 2), 620)
    resumed = create_optimizer(nn.Linear(3, 2), PAPER)
    schedule = create_schedule(resumed, PAPER, 2)
    for update in (500, 3, 619, 47):
        schedule.step_update(update)
        assert resumed.param_groups[0]["lr"] == straight[update][0]


@pytest.mark.parametrize("name", ["mambaout_femto", "mambaout_tiny", "mambaout_base"])
def test_the_drop_path_rates_of_all_blocks_are_timm_s(name):
    rate = PAPER.for_model(name).drop_path
    assert rate == DROP_PATH[name]
    with torch.device("meta"):
        pair = timm.create_model(name, drop_path_rate=rate), create_model(name, drop_path_rate=rate)
    found = [
        [
            m.drop_path.drop_prob if isinstance(m.drop_path, DropPath) else 0.0
            for m in model.modules()
            if hasattr(m, "drop_path")
        ]
        for model in pair
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-7)
    assert len(found[1]) == sum(len(stage.blocks) for stage in pair[1].stages)
    assert found[1][0] == 0.0
    assert found[1][-1] == pytest.approx(rate)


def test_mixing_follows_from_the_place_in_the_run():
    mix = create_mixup(Recipe(mixup=0.8, cutmix=1.0, seed=3), 4)
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 4
    first = mix(images.clone(), labels, 5, 1)
    mix(images.clone(), labels, 6, 1)
    again = mix(images.clone(), labels, 5, 1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    others = [mix(images.clone(), labels, step, rank) for step, rank in ((6, 1), (5, 0))]
    assert not any(torch.equal(first[1], other[1]) for other in others)
    torch.testing.assert_close(first[1].sum(1), torch.ones(6))
    assert create_mixup(Recipe(), 4) is None


def test_losses():
    scores, labels = torch.randn(6, 4), torch.arange(6) % 4
    smooth = create_loss(Recipe(label_smoothing=0.1))
    torch.testing.assert_close(smooth(scores, labels), nn.CrossEntropyLoss(label_smoothing=0.1)(scores, labels))
    assert isinstance(smooth, LabelSmoothingCrossEntropy)
    shares = torch.softmax(torch.randn(6, 4), 1)
    torch.testing.assert_close(create_loss(Recipe(mixup=0.1))(scores, shares), nn.CrossEntropyLoss()(scores, shares))
    assert isinstance(create_loss(Recipe(label_smoothing=0.0)), nn.CrossEntropyLoss)


@pytest.mark.parametrize("opt", ["sgd", "lamb", "adam"])
def test_other_optimisers_get_what_they_take(opt):
    plan = Recipe(opt=opt, betas=(0.8, 0.95), eps=1e-6, lr=0.1)
    group = create_optimizer(nn.Linear(3, 2), plan).param_groups[0]
    assert group["lr"] == 0.1
    assert group.get("betas", (0.8, 0.95)) == (0.8, 0.95)
    assert ("betas" in group) == (opt != "sgd")


def test_the_fused_form():
    plan = Recipe(lr=1e-2, weight_decay=0.1)
    assert create_optimizer(nn.Linear(3, 2), plan).defaults["fused"] is None  # on the CPU only if asked for
    models = [nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, fused in zip(models, (False, True), strict=True):
        optimizer = create_optimizer(model, plan, fused=fused)
        assert bool(optimizer.defaults["fused"]) == fused
        for step in range(5):
            optimizer.zero_grad()
            model(torch.arange(3.0) + step).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(models[0].weight, models[1].weight)
    with pytest.raises(ValueError, match="lamb has no fused form"):
        create_optimizer(nn.Linear(3, 2), Recipe(opt="lamb"), fused=True)


def test_the_average_of_the_weights():
    model = nn.Linear(2, 1, bias=False)
    ema = create_ema(model, Recipe(ema_decay=0.75))
    nn.init.constant_(model.weight, 1.0)
    ema.module.weight.data.fill_(0.0)
    ema.update(model, step=2)
    torch.testing.assert_close(ema.module.weight.data, torch.full((1, 2), 0.25))
    assert create_ema(model, Recipe()) is None
    assert create_ema(model, Recipe(ema_decay=0.999, ema_warmup=True)).get_decay(3) < 0.9


def test_an_epoch_without_updates_is_refused():
    with pytest.raises(ValueError, match="updates_per_epoch is 0"):
        create_schedule(create_optimizer(nn.Linear(3, 2), PAPER), PAPER, 0)

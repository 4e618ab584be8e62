import os
import random
import signal
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from mambaout_edu.data import ImageSet
from mambaout_edu.training.loaders import (
    BadImage,
    TooManyBadImages,
    WorkerDied,
    default_workers,
    eval_loader,
    explained,
    train_loader,
)
from mambaout_edu.training.randomness import seeded, stable_seed
from mambaout_edu.training.recipe import RECIPES, Recipe, recipe
from mambaout_edu.training.sources import Source
from mambaout_edu.training.transforms import train_transform

GREY = {"lr": 1e-3, "image_size": 8, "in_chans": 1, "mean": (0.5,), "std": (0.5,)}
STILL = {**GREY, "scale": None, "hflip": 0.0, "interpolation": "bilinear"}
# A forked reader does not use the threads of its parent; Python 3.12 warns all the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def pictures(count=20, bad=(), killer=None):
    """Images whose pixels and label tell their number; some cannot be read, one kills who reads it."""
    numbers = torch.arange(count)
    images = ImageSet(numbers.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 255.0, numbers % 5, tuple("abcde"))
    return Source(Faulty(images, frozenset(bad), killer), images.classes, "numbered", in_memory=True)


class Faulty:
    def __init__(self, images, bad, killer):
        self.images, self.bad, self.killer, self.parent = images, bad, killer, os.getpid()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError(f"picture {index} is cut short")
        if index == self.killer and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images.images[index], int(self.images.labels[index])


def shown(loader):
    return [(images.clone(), labels.clone(), indices.tolist()) for images, labels, indices in loader]


def assert_same(first, second):
    assert [indices for *_, indices in first] == [indices for *_, indices in second]
    for (a, b, _), (c, d, _) in zip(first, second, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


AUGMENTED = Recipe(
    **GREY,
    batch_size=4,
    scale=(0.3, 1.0),
    affine=(10.0, 0.1, 0.1, 1.0),
    auto_augment="rand-m5-mstd0.5",
    random_erasing=0.5,
    workers=0,
)


def test_the_number_of_workers_changes_nothing():
    alone = shown(train_loader(pictures(), AUGMENTED, epoch=2))
    helped = shown(train_loader(pictures(), AUGMENTED.with_(workers=2), epoch=2))
    assert_same(alone, helped)
    assert len(alone) == 5
    assert alone[0][0].shape == (4, 1, 8, 8)
    assert alone[0][0].dtype == torch.float32


@given(st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_a_start_in_the_middle_gives_exactly_the_rest(start, epoch):
    whole = shown(train_loader(pictures(), AUGMENTED, epoch=epoch))
    loader = train_loader(pictures(), AUGMENTED, epoch=epoch, start=start)
    assert len(loader) == 5 - start
    assert_same(whole[start:], shown(loader))


def test_what_is_skipped_is_not_read():
    source = pictures()
    order = [i for *_, indices in shown(train_loader(source, AUGMENTED)) for i in indices]
    rest = train_loader(pictures(bad=order[:12]), AUGMENTED, start=3)
    assert len(shown(rest)) == 2
    assert rest.bad == []


def test_epochs_and_seeds_differ_and_cover_all_images():
    source = pictures()
    plan = AUGMENTED.with_(workers=0)
    loader = train_loader(source, plan)
    first = shown(loader)
    loader.set_epoch(1)
    second = shown(loader)
    other = shown(train_loader(source, plan.with_(seed=1)))
    for run in (first, second, other):
        assert sorted(i for *_, indices in run for i in indices) == list(range(20))
    assert len({tuple(i for *_, indices in run for i in indices) for run in (first, second, other)}) == 3
    looks = [
        {i: image for images, _, ids in run for i, image in zip(ids, images, strict=True)} for run in (first, second)
    ]
    assert not all(torch.equal(looks[0][i], looks[1][i]) for i in range(20))  # another look in another epoch


def test_workers_stay_over_epochs_and_give_each_its_own_order():
    plan = AUGMENTED.with_(workers=1)
    loader = train_loader(pictures(), plan)
    assert loader.persistent_workers
    for epoch, start in ((0, 0), (1, 2), (2, 0)):
        loader.set_epoch(epoch, start)
        assert_same(shown(loader), shown(train_loader(pictures(), AUGMENTED, epoch=epoch, start=start)))


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (3, 2), (1, 4)])
def test_processes_and_accumulation_share_each_batch_of_the_single_run(world, accumulate):
    source, plan = pictures(50), AUGMENTED.with_(batch_size=12)
    single = shown(train_loader(source, plan, epoch=1))
    parts = [
        shown(train_loader(source, plan.with_(accumulate=accumulate), epoch=1, rank=rank, world=world))
        for rank in range(world)
    ]
    assert {len(part) for part in parts} == {len(single) * accumulate}
    for update, (images, _, indices) in enumerate(single):
        pieces = [parts[rank][update * accumulate + a] for a in range(accumulate) for rank in range(world)]
        assert [i for *_, ids in pieces for i in ids] == indices
        assert torch.equal(torch.cat([piece[0] for piece in pieces]), images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_replaced_counted_and_listed(workers):
    plan = AUGMENTED.with_(workers=workers)
    loader = train_loader(pictures(bad=(3, 7)), plan)
    batches = shown(loader)
    seen = [i for *_, indices in batches for i in indices]
    assert len(seen) == 20
    assert not {3, 7} & set(seen)
    assert {entry.index for entry in loader.bad} == {3, 7}
    assert "cut short" in loader.bad[0].reason
    labels = torch.cat([labels for _, labels, _ in batches])
    assert labels.tolist() == [i % 5 for i in seen]  # the label is the replacement's own
    assert_same(batches, shown(train_loader(pictures(bad=(3, 7)), plan.with_(workers=2 - workers))))


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_images_stop_the_run(workers):
    plan = Recipe(**STILL, batch_size=4, workers=workers, max_bad_images=2)
    with pytest.raises(
        TooManyBadImages, match=r"3 images of .* more than max_bad_images = 2.*picture \d+ is cut short"
    ):
        shown(train_loader(pictures(bad=(1, 2, 3)), plan))
    with pytest.raises(TooManyBadImages, match="nor can 9 others in a row that should replace one"):
        shown(train_loader(pictures(bad=range(20)), plan.with_(max_bad_images=100)))


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_images_are_left_out_of_a_measurement(workers):
    plan = Recipe(**STILL, batch_size=4, workers=workers)
    loader = eval_loader(pictures(bad=(3, 4, 5, 6, 7)), plan)
    seen = [i for *_, indices in shown(loader) for i in indices]
    assert seen == [0, 1, 2, *range(8, 20)]
    assert loader.bad[0] == BadImage(3, "picture 3 is cut short")


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_processes_measure_every_image_once(count, world, batch_size):
    plan = Recipe(**STILL, workers=0)
    loaders = [eval_loader(pictures(count), plan, rank, world, batch_size=batch_size) for rank in range(world)]
    seen = [i for loader in loaders for *_, indices in shown(loader) for i in indices]
    assert sorted(seen) == list(range(count))
    assert sum(len(loader) for loader in loaders) >= -(-count // batch_size)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_a_killed_worker_ends_with_one_clear_error():
    plan = Recipe(**STILL, batch_size=4, workers=2)
    with pytest.raises(WorkerDied, match=r"a process that reads images ended.*lower `workers`.*resume"):
        shown(train_loader(pictures(killer=11), plan))


def test_other_errors_stay_as_they_are():
    error = RuntimeError("shape mismatch")
    assert explained(error) is error
    error = RuntimeError("Caught RuntimeError in DataLoader worker process 0.")
    assert explained(error) is error


def test_global_generators_are_left_alone():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    shown(train_loader(pictures(), AUGMENTED))
    shown(train_loader(pictures(), AUGMENTED.with_(workers=1)))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_different_places_have_different_seeds(a, b):
    assert (stable_seed(*a) == stable_seed(*b)) == (a == b)
    assert 0 <= stable_seed(*a) < 2**63


def test_seeds_of_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="each 0 or more"):
        stable_seed(0, -1)
    with pytest.raises(ValueError, match="one or more"):
        stable_seed()


def test_the_paper_s_augmentation_is_timm_s():
    plan = RECIPES["imagenet_paper"]
    theirs = create_transform(
        224, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, interpolation="random",
        re_prob=0.25, re_mode="pixel",
    )  # fmt: skip
    ours = train_transform(plan)
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    different = set()
    for place in range(8):
        with seeded(place):
            expected = theirs(Image.fromarray(noise))
        with seeded(place):
            got = ours(Image.fromarray(noise))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
        different.add(round(float(got.mean()), 6))
    assert len(different) == 8


def test_a_measured_picture_is_resized_cropped_and_normalised():
    plan = Recipe(image_size=32, eval_image_size=16, crop_pct=0.5, eval_interpolation="bilinear", workers=0)
    picture = Image.new("RGB", (64, 48), (255, 0, 0))
    source = Source([(picture, 1)], ("a", "b"), "one")
    [(images, labels, _)] = shown(eval_loader(source, plan))
    assert images.shape == (1, 3, 16, 16)
    assert labels.tolist() == [1]
    expected = (torch.tensor([1.0, 0.0, 0.0]) - torch.tensor(plan.mean)) / torch.tensor(plan.std)
    torch.testing.assert_close(images[0, :, 5, 5], expected)


def test_tensors_of_the_right_size_are_not_rounded():
    plan = Recipe(**STILL, batch_size=4, workers=0)
    images = ImageSet(torch.full((4, 1, 8, 8), 1 / 3), torch.zeros(4, dtype=torch.int64), ("a",))
    for loader in (train_loader(Source.of(images), plan), eval_loader(Source.of(images), plan)):
        [(got, _, _)] = shown(loader)
        torch.testing.assert_close(got, torch.full((4, 1, 8, 8), (1 / 3 - 0.5) / 0.5), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["digits_cpu", "small_images_gpu"])
def test_presets_give_batches_of_their_shape(name):
    plan = recipe(name, batch_size=4, workers=0)
    rgb = Source([(Image.new("RGB" if plan.in_chans == 3 else "L", (20, 20)), 0)] * 4, ("a",), "same")
    [(images, _, _)] = shown(train_loader(rgb, plan))
    assert images.shape == (4, plan.in_chans, plan.image_size, plan.image_size)


def test_what_is_not_there_is_refused():
    plan = Recipe(**STILL, batch_size=4, workers=0)
    with pytest.raises(ValueError, match="rank is 2 of 2 processes; expected 0 to 1"):
        train_loader(pictures(), plan, rank=2, world=2)
    with pytest.raises(ValueError, match="start up to 5"):
        train_loader(pictures(), plan, start=6)
    with pytest.raises(ValueError, match=r"20 training images, fewer than one batch of 32"):
        train_loader(pictures(), plan.with_(batch_size=32))
    with pytest.raises(TypeError, match="for a train_loader"):
        eval_loader(pictures(), plan).set_epoch(1)


def test_workers_follow_the_cores_of_this_host(monkeypatch):
    on_disk = Source([], ("a",), "disk")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_workers(on_disk) == 12
    assert default_workers(on_disk, world=4) == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # four processes on two hosts
    assert default_workers(on_disk, world=4) == 6
    assert default_workers(pictures()) == 0

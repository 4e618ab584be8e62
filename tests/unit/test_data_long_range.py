"""Long-range tasks: the dial is exact, the relation decides, and nothing less than the relation does."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from mambaout_edu.data.long_range import IGNORED, TASKS, ConnectedPath, FarKey, LocalControl, long_range_task
from mambaout_edu.data.long_range.far_key import FORMS, MARK_COLOURS, SHAPE, SIDE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def colours(images):
    """The number of the mark's colour in every pixel, [B, H, W]; 4 where there is none."""
    away = (images[..., None, :] - MARK_COLOURS).abs().amax(-1)  # [B, H, W, 4]
    nearest = away.min(-1)
    return torch.where(nearest.values < 0.02, nearest.indices, 4)


def found_shapes(task, drawn):
    """(picture, top, left, form, colour of the mark beside it, class), read off the pixels of noiseless pictures."""
    marks = colours(drawn.images)
    white = (drawn.images - SHAPE).abs().amax(-1) < 0.02
    for picture, row, column in (drawn.targets != IGNORED).nonzero().tolist():
        for form, mask in enumerate(FORMS):
            top, left = row, column - int(mask[0].nonzero()[0])
            window = (picture, slice(top, top + SIDE), slice(left, left + SIDE))
            if left >= 0 and torch.equal(white[window], mask):
                beside = marks[picture, top + SIDE + 1, left + SIDE + 1].item()
                yield picture, top, left, form, beside, drawn.targets[window][mask].unique().item()


@st.composite
def far_tasks(draw, kind=FarKey):
    size, mark = draw(st.integers(16, 96)), draw(st.integers(2, 4))
    most = size - (SIDE + 1 + mark) - (4 * mark - 1) + 1
    if most < 1:
        size += 1 - most
        most = 1
    return kind(size=size, noise=0.0, distance=draw(st.integers(1, most)), mark=mark, shapes=1)


@settings(max_examples=25, deadline=None)
@given(far_tasks(), st.integers(0, 99))
def test_who_reads_the_corner_paints_every_shape_and_all_are_exactly_so_far_from_the_key(task, seed):
    drawn = task.draw(8, seeded(seed))
    key = colours(drawn.images)[:, task.mark - 1, task.mark - 1]
    shapes = list(found_shapes(task, drawn))
    assert len({shape[0] for shape in shapes}) == 8
    for picture, top, left, form, _, said in shapes:
        assert said == (key[picture] + form) % 4
        assert max(top, left) - (task.key_end - 1) == task.distance
        assert max(top, left) + SIDE - 1 - (2 * task.mark - 2) == task.sees_all
    assert (drawn.targets != IGNORED).sum() == sum(FORMS[shape[3]].sum() for shape in shapes)


@settings(max_examples=15, deadline=None)
@given(far_tasks(LocalControl), st.integers(0, 99))
def test_in_the_control_the_mark_beside_decides(task, seed):
    for _, _, _, form, beside, said in found_shapes(task, task.draw(8, seeded(seed))):
        assert said == (beside + form) % 4


def test_several_shapes_do_not_cover_each_other_or_the_key():
    task = FarKey(size=64, noise=0.0, distance=30, shapes=5)
    drawn = task.draw(64, seeded())
    assert len(list(found_shapes(task, drawn))) >= 64 * 5
    marks = colours(drawn.images)
    assert ((marks < 4).sum((1, 2)) == (4 + 5) * task.mark**2).all()
    assert (marks[:, : task.key_end, : task.key_end] < 4).sum() == 64 * 4 * task.mark**2


def test_far_key_and_control_draw_the_same_pictures():
    far, near = (kind(size=48, distance=12).draw(32, seeded(3)) for kind in (FarKey, LocalControl))
    assert torch.equal(far.images, near.images)
    assert not torch.equal(far.targets, near.targets)
    assert torch.equal(far.targets == IGNORED, near.targets == IGNORED)


def asked(task, count, seed, known=()):
    """Features of shapes and their classes: the form always, and whatever else a model may know."""
    drawn = task.draw(count, seeded(seed))
    marks = colours(drawn.images)
    rows, classes = [], []
    for picture, top, left, form, beside, said in found_shapes(task, drawn):
        image, colour = drawn.images[picture], marks[picture]
        facts = {
            "statistics": torch.cat((image.mean((0, 1)), image.std((0, 1)), torch.bincount(colour.flatten(), None, 5))),
            "position": torch.tensor([top, left]),
            "patches": bag(colour, task.mark),
            "beside": torch.nn.functional.one_hot(torch.tensor((beside + form) % 4), 4),
            "key": torch.nn.functional.one_hot((colour[task.mark - 1, task.mark - 1] + form) % 4, 4),
        }
        form_of = torch.nn.functional.one_hot(torch.tensor(form), 4)
        rows.append(torch.cat([form_of, *(facts[name].float() for name in known)]))
        classes.append(said)
    return torch.stack(rows).numpy(), classes


def bag(colour, side):
    """How many patches of the side show each set of colours, wherever they are: [2 ** 5]."""
    windows = colour.unfold(0, side, 1).unfold(1, side, 1).flatten(2).flatten(0, 1)
    present = (windows[:, None] == torch.arange(5)[:, None]).any(-1)  # [patches, 5]
    return torch.bincount((present * 2 ** torch.arange(5)).sum(1), minlength=32)


def forest_accuracy(train, test):
    forest = RandomForestClassifier(60, min_samples_leaf=5, random_state=0, n_jobs=1).fit(*train)
    return forest.score(*test)


@pytest.mark.parametrize("known", ["statistics", "position", "patches", "beside"])
def test_far_key_is_at_chance_for_who_knows_less_than_the_corner(known):
    task = FarKey(size=32, noise=0.0, distance=8, shapes=1)
    train, test = asked(task, 1200, 0, [known]), asked(task, 1200, 1, [known])
    assert abs(forest_accuracy(train, test) - task.chance) < 0.05  # four standard errors


@pytest.mark.parametrize(("kind", "known"), [(FarKey, "key"), (LocalControl, "beside")])
def test_the_same_forest_solves_it_with_the_mark_that_decides(kind, known):
    task = kind(size=32, noise=0.0, distance=8, shapes=1)
    assert forest_accuracy(asked(task, 600, 0, [known]), asked(task, 300, 1, [known])) > 0.99


def traced(image, start, left, right):
    """The row at which a curve ends that begins at a row, followed straight on through crossings."""
    ground = image[..., 0].median()
    ink = (image[..., 0] - ground - 0.1).clamp(0, 1)  # [H, W]
    rows = torch.arange(len(image), dtype=torch.float32)
    row, slope = float(start), 0.0
    for column in range(left + 3, right - 2):
        expected = row + slope
        weight = ink[:, column] * torch.exp(-((rows - expected) ** 2) / 4)
        new = float((weight * rows).sum() / weight.sum())
        slope = 0.6 * slope + 0.4 * (new - row)
        row = new
    return row + 3 * slope


def dots(image):
    """(row, column) of the left and of the right dot."""
    red = (image[..., 0] - image[..., 2] > 0.5).nonzero().float()
    middle = red[:, 1].mean()
    left, right = red[red[:, 1] < middle], red[red[:, 1] > middle]
    return [(int(side[:, 0].mean().round()), int(side[:, 1].mean().round())) for side in (left, right)]


def test_who_follows_the_curve_knows_whether_the_dots_are_connected():
    task = ConnectedPath(size=96, noise=0.0, distance=80)
    images, targets = task.draw(60, seeded())
    right = 0
    for image, target in zip(images, targets, strict=True):
        (start, left), (end, stop) = dots(image)
        assert stop - left == task.distance
        right += (abs(traced(image, start, left, stop) - end) < task.spacing / 2) == bool(target)
    assert right >= 57


def path_facts(task, count, seed):
    images, targets = task.draw(count, seeded(seed))
    ends = torch.tensor([[number for dot in dots(image) for number in dot] for image in images]).float()
    pixels = images[..., 0]
    # A crossing is more ink in few columns: histograms of pixels and of means of 5 x 5 patches.
    patches = torch.nn.functional.avg_pool2d(pixels[:, None], 5, 1)[:, 0]
    return targets.numpy(), {
        "statistics": torch.stack(
            [torch.cat((torch.histc(p, 20, 0, 1), p.mean()[None], p.std()[None])) for p in pixels]
        ),
        "patches": torch.stack([torch.histc(p, 40, 0, 1) for p in patches]),
        "position": torch.cat((ends, ends[:, :1] - ends[:, 2:3]), 1),
    }


@pytest.mark.parametrize("crossings", [4, 6])
def test_connected_path_is_at_chance_for_statistics_patches_and_positions(crossings):
    task = ConnectedPath(size=48, distance=40, crossings=crossings)
    train, test = path_facts(task, 1000, 0), path_facts(task, 1000, 1)
    for name in train[1]:
        seen, unseen = train[1][name].numpy(), test[1][name].numpy()
        assert abs(forest_accuracy((seen, train[0]), (unseen, test[0])) - 0.5) < 0.065, name  # four standard errors
        spread = seen.std(0) + 1e-9
        linear = LogisticRegression(max_iter=500).fit(seen / spread, train[0])
        assert abs(linear.score(unseen / spread, test[0]) - 0.5) < 0.065, name


def test_every_right_end_belongs_to_every_left_end_equally_often_and_crossings_do_not_tell():
    for crossings in (4, 6, 8):
        lanes = ConnectedPath(size=64, crossings=crossings)._lanes(6000, seeded())  # [B, crossings + 1, 3]
        for start, end in itertools.product(range(3), range(3)):
            share = (lanes[:, -1, start] == end).float().mean().item()
            assert abs(share - 1 / 3) < 0.025
        top = (lanes[:, 1:] != lanes[:, :-1]) & ((lanes[:, 1:] == 0) | (lanes[:, :-1] == 0))
        assert (top.any(-1).sum(1) == crossings // 2).all()


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_pictures_and_classes_are_equally_frequent(name):
    task = long_range_task(name, size=48, distance=16)
    one, two, other = task.draw(16, seeded(1)), task.draw(16, seeded(1)), task.draw(16, seeded(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.targets, two.targets)
    assert not torch.equal(one.images, other.images)
    assert one.images.shape == (16, 48, 48, 3)
    assert one.images.dtype == torch.float32
    assert one.targets.dtype == torch.int64
    assert 0 <= one.images.min() <= one.images.max() <= 1
    targets = task.with_dial(14).draw(2000, seeded()).targets
    # Each form has as many pixels whatever its class, so shares of pixels are shares of classes.
    shares = torch.bincount(targets[targets != IGNORED]) / (targets != IGNORED).sum()
    assert len(shares) == task.num_classes
    assert (shares - task.chance).abs().max() < 0.05


@pytest.mark.parametrize("size", [16, 17, 33, 512])
def test_every_size_has_tasks_at_both_ends_of_the_dial(size):
    for start in (FarKey(size=size, distance=1, mark=2, shapes=1), ConnectedPath(size=size, distance=13)):
        for distance in start.distances:
            assert start.with_dial(distance).draw(2, seeded()).images.shape == (2, size, size, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FarKey(size=15), "size must be from 16 to 512"),
        (lambda: FarKey(size=64, distance=60), "distance must be from 1 to 40 .* got 60"),
        (lambda: FarKey(size=16, distance=1), "no room"),
        (lambda: FarKey(mark=1), "mark must be"),
        (lambda: FarKey(distance=1, shapes=9), "shapes must be from 1 to 3"),
        (lambda: FarKey(noise=0.5), "noise must be"),
        (lambda: ConnectedPath(crossings=5), "crossings must be 4, 6 or 8"),
        (lambda: ConnectedPath(size=64, distance=62), "distance must be from 12 to 61"),
        (lambda: FarKey().draw(0, seeded()), "batch must be at least 1"),
        (lambda: long_range_task("near_key"), "no task is named 'near_key'"),
    ],
)
def test_impossible_tasks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_numbers_that_a_task_has_not_are_refused():
    with pytest.raises(TypeError, match=r"connected_path has no mark; it has size"):
        long_range_task("connected_path", mark=2)

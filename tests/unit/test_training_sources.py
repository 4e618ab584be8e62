import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from mambaout_edu.data import ImageSet, digits
from mambaout_edu.training.loaders import eval_loader, train_loader
from mambaout_edu.training.recipe import RECIPES, Recipe
from mambaout_edu.training.sources import FORMS, Source, open_source

COLOUR = Recipe(image_size=16, batch_size=4, lr=1e-3, workers=0)
GREY = COLOUR.with_(in_chans=1, mean=(0.5,), std=(0.5,))


def picture(red, mode="RGB"):
    return Image.new("RGB", (20, 18), (red, 0, 0)).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Three classes to learn, two of them to be measured on; the red value tells the picture."""
    for part, names in (("train", "ant bee cat"), ("val", "bee cat")):
        for place, name in enumerate(names.split()):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                picture(60 * place + 10 * number).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def test_digits_are_the_packaged_split():
    plan = RECIPES["digits_cpu"]
    train, test = digits()
    for split, expected in (("train", train), ("validation", test)):
        source = open_source("digits", split, plan)
        assert len(source) == len(expected)
        assert source.classes == expected.classes
        assert source.in_memory
        image, label = source.dataset[7]
        assert torch.equal(image, expected.images[7])
        assert label == expected.labels[7]
    large = open_source("digits", "validation", plan.with_(in_chans=3, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=32))
    assert large.dataset[0][0].shape == (3, 32, 32)


def test_a_folder_gives_its_pictures_with_the_training_classes(folder):
    train, val = (open_source(f"folder:{folder}", split, COLOUR) for split in ("train", "validation"))
    assert train.classes == val.classes == ("ant", "bee", "cat")
    assert repr(train) == f"Source(folder:{folder}, train: 9 images, 3 classes)"
    assert [label for _, label in (val.dataset[i] for i in range(6))] == [1, 1, 1, 2, 2, 2]  # bee is 1 also here
    image, label = train.dataset[4]
    assert image.mode == "RGB"
    assert (image.getpixel((0, 0)), label) == ((70, 0, 0), 1)
    assert open_source(f"folder:{folder}", "train", GREY).dataset[0][0].mode == "L"
    [(images, labels, _)] = list(eval_loader(val, COLOUR, batch_size=10))
    assert images.shape == (6, 3, 16, 16)
    assert labels.tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("name", ["validation", "test", "valid"])
def test_other_names_of_the_validation_folder(folder, name):
    (folder / "val").rename(folder / name)
    assert len(open_source(f"folder:{folder}", "validation", COLOUR)) == 6


def test_a_cut_picture_is_replaced(folder):
    file = folder / "train" / "ant" / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    loader = train_loader(open_source(f"folder:{folder}", "train", COLOUR), COLOUR.with_(batch_size=9))
    [(images, _, indices)] = list(loader)
    assert len(images) == 9
    assert 1 not in indices
    assert [entry.index for entry in loader.bad] == [1]
    assert "1.png" in loader.bad[0].reason


def test_folders_are_refused_in_words(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        open_source(f"folder:{folder / 'nowhere'}", "train", COLOUR)
    with pytest.raises(NotADirectoryError, match="is a file"):
        open_source(f"folder:{folder / 'train' / 'ant' / '0.png'}", "train", COLOUR)
    with pytest.raises(ValueError, match=r"no folder for validation; it holds ant, bee, cat. Expected val or valid"):
        open_source(f"folder:{folder / 'train'}", "validation", COLOUR)
    (folder / "train" / "dog").mkdir()
    with pytest.raises(ValueError, match=r"class 'dog' .* has no pictures"):
        open_source(f"folder:{folder}", "train", COLOUR)
    (folder / "val" / "zebra").mkdir()
    picture(0).save(folder / "val" / "zebra" / "0.png")
    with pytest.raises(ValueError, match="has classes that 'train' lacks: zebra"):
        open_source(f"folder:{folder}", "validation", COLOUR)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="has no sub-folders"):
        open_source(f"folder:{tmp_path / 'empty'}", "train", COLOUR)


def test_words_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="data is 'pets'; expected one of digits, outlines, outlines:IMAGES, "):
        open_source("pets", "train", COLOUR)
    with pytest.raises(ValueError, match="expected one of"):
        open_source("folder:", "train", COLOUR)
    with pytest.raises(ValueError, match="split is 'test'; expected train or validation"):
        open_source("digits", "test", COLOUR)
    with pytest.raises(ValueError, match="leave out download:"):
        open_source("download:digits", "train", COLOUR)
    four = COLOUR.with_(in_chans=4, mean=(0.5,) * 4, std=(0.5,) * 4)
    with pytest.raises(ValueError, match="in_chans = 4"):
        open_source("folder:x", "train", four)
    assert "digits" in FORMS


def test_torchvision_s_sets_are_read_and_never_fetched_unasked(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"To have torchvision fetch it, write download:torch/mnist:"):
        open_source(f"torch/mnist:{tmp_path}", "train", GREY)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_source(f"torch/mnist:{tmp_path / 'nowhere'}", "train", GREY)
    with pytest.raises(ValueError, match="data set 'pets' is not known here; expected one of cifar10"):
        open_source(f"torch/pets:{tmp_path}", "train", GREY)
    asked = []
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", lambda self: asked.append(self.root))
    with pytest.raises(FileNotFoundError, match="mnist is not in"):
        open_source(f"download:torch/mnist:{tmp_path}", "train", GREY)
    assert len(asked) == 1


def test_a_set_of_torchvision_s_that_is_there(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
    for part, count in (("train", 6), ("t10k", 4)):
        head = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels[:count].tobytes())
        labels = (0x801).to_bytes(4, "big") + count.to_bytes(4, "big") + bytes(range(count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    train = open_source(f"torch/mnist:{tmp_path}", "train", GREY)
    val = open_source(f"torch/mnist:{tmp_path}", "validation", COLOUR)
    assert (len(train), len(val), len(train.classes)) == (6, 4, 10)
    assert (train.dataset[3][0].mode, val.dataset[3][0].mode) == ("L", "RGB")
    assert np.array_equal(np.asarray(train.dataset[3][0]), pixels[3])
    assert train.dataset[3][1] == 3


def test_hugging_face_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install datasets"):
        open_source("hfds/owner/pets", "train", COLOUR)


@pytest.mark.skipif("datasets" in sys.modules, reason="a stand-in is tried where the package is not there")
def test_hugging_face_sets_are_read_through_timm(monkeypatch):
    """timm's reader itself needs the package; what it hands over is checked here."""

    class Reader:
        class_to_idx = {"bee": 1, "ant": 0}  # noqa: RUF012

        def __len__(self):
            return 2

        def __getitem__(self, index):
            file = io.BytesIO()
            picture(100 * index).save(file, "png")
            return io.BytesIO(file.getvalue()), index

    class Found:
        reader = Reader()

    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(
        "mambaout_edu.training.sources.create_dataset", lambda *names, **more: asked.append((names, more)) or Found()
    )
    source = open_source("hfds/owner/pets:here", "validation", COLOUR)
    assert asked == [(("hfds/owner/pets",), {"root": "here", "split": "validation"})]
    assert source.classes == ("ant", "bee")
    assert source.dataset[1][0].getpixel((0, 0)) == (100, 0, 0)
    monkeypatch.setattr(Reader, "class_to_idx", {})
    with pytest.raises(ValueError, match="2 images and 0 classes"):
        open_source("hfds/owner/pets", "validation", COLOUR)


def shard(path, pictures, suffix="cls"):
    """A shard with a red picture for each (red, label); no label where it is None."""
    with tarfile.open(path, "w") as tar:
        for number, (red, label) in enumerate(pictures):
            file = io.BytesIO()
            picture(red).save(file, "png")
            members = [(f"./{path.stem}.d/{number:04d}.png", file.getvalue())]
            if label is not None:
                content = str(label) if suffix == "cls" else f'{{"label": {label}}}'
                members.append((f"./{path.stem}.d/{number:04d}.{suffix}", content.encode()))
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_shards_are_read_in_place(tmp_path):
    shard(tmp_path / "pets-train-0.tar", [(10, 0), (20, 1)])
    shard(tmp_path / "pets-train-1.tar", [(30, 2)], suffix="json")
    shard(tmp_path / "pets-val-0.tar", [(40, 1)])
    train = open_source(f"wds:{tmp_path}", "train", COLOUR)
    assert [(p.getpixel((0, 0))[0], label) for p, label in (train.dataset[i] for i in range(3))] == [
        (10, 0),
        (20, 1),
        (30, 2),
    ]
    assert train.classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert open_source(f"wds:{tmp_path}", "validation", COLOUR).classes == ("ant", "bee", "cat")
    plan = COLOUR.with_(batch_size=3, workers=1)
    [(_, labels, _)] = list(train_loader(train, plan))
    assert sorted(labels.tolist()) == [0, 1, 2]


def test_shards_are_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_source(f"wds:{tmp_path / 'nowhere'}", "train", COLOUR)
    with pytest.raises(ValueError, match=r"no pictures for train in 0 shards; expected \*train\*.tar"):
        open_source(f"wds:{tmp_path}", "train", COLOUR)
    shard(tmp_path / "train.tar", [(10, 0), (20, None)])
    with pytest.raises(ValueError, match=r"1 pictures have no label KEY.cls, the first './train.d/0001'"):
        open_source(f"wds:{tmp_path}", "train", COLOUR)
    shard(tmp_path / "train.tar", [(10, 7)])
    (tmp_path / "classes.txt").write_text("ant\n")
    with pytest.raises(ValueError, match="names 1 classes, but there is a label 7"):
        open_source(f"wds:{tmp_path}", "train", COLOUR)
    shard(tmp_path / "train.tar", [(10, "many")])
    with pytest.raises(ValueError, match=r"train.tar is broken or has labels of another kind"):
        open_source(f"wds:{tmp_path}", "train", COLOUR)
    whole = Path(tmp_path / "train.tar").read_bytes()
    Path(tmp_path / "train.tar").write_bytes(b"no tar at all" + whole[:600])
    with pytest.raises(ValueError, match=r"train\.tar is broken"):
        open_source(f"wds:{tmp_path}", "train", COLOUR)


def test_images_in_memory_are_a_source():
    source = Source.of(ImageSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]), ("cat", "dog")), "zeros")
    assert repr(source) == "Source(zeros: 4 images, 2 classes)"
    assert source.dataset[1][1] == 1

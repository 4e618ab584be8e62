import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mambaout_edu.data import image_folder, read_image


@pytest.fixture
def pets(tmp_path):
    """Two classes with two good pictures each."""
    for shade, name in ((0, "cat"), (255, "dog")):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (40, 30), (shade,) * 3).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_pictures_labels_and_lazy_reading(pets):
    folder = image_folder(pets, image_size=16, progress=False)
    assert folder.classes == ("cat", "dog")
    assert folder.labels == [0, 0, 1, 1]
    assert repr(folder) == "ImageFolder(4 pictures, 2 classes)"
    images, labels = next(iter(DataLoader(folder, batch_size=4)))
    assert images.shape == (4, 3, 16, 16)
    assert labels.tolist() == [0, 0, 1, 1]
    assert images[0].max() < 0 < images[2].min(), "black is below ImageNet's mean, white above"
    (pets / "cat" / "0.png").unlink()
    with pytest.raises(OSError, match=r"cannot read .*0\.png"):
        folder[0]


def test_own_transform(pets):
    folder = image_folder(pets, transform=lambda image: torch.tensor(image.shape), progress=False)
    assert folder[0][0].tolist() == [30, 40, 3]


def test_deeper_folders_and_other_files(pets):
    (pets / "cat" / "young").mkdir()
    Image.new("RGB", (8, 8)).save(pets / "cat" / "young" / "2.JPG")
    (pets / "cat" / "notes.txt").write_text("not a picture")
    (pets / "cat" / ".hidden.png").write_bytes(b"")
    (pets / ".cache").mkdir()
    folder = image_folder(pets, progress=False)
    assert [path.name for path in folder.paths] == ["0.png", "1.png", "2.JPG", "0.png", "1.png"]
    assert folder.classes == ("cat", "dog")
    assert not folder.skipped


def test_unreadable_files_are_skipped_counted_and_listed(pets):
    (pets / "cat" / "text.png").write_text("this is no picture")
    (pets / "dog" / "empty.jpg").write_bytes(b"")
    whole = (pets / "dog" / "0.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pets / "dog" / "torn.jpg")
    torn = (pets / "dog" / "torn.jpg").read_bytes()
    (pets / "dog" / "torn.jpg").write_bytes(torn[: len(torn) // 2])
    (pets / "dog" / "torn.png").write_bytes(whole[: len(whole) // 2])
    folder = image_folder(pets, progress=False)
    assert len(folder) == 4
    assert sorted(entry.path.name for entry in folder.skipped) == ["empty.jpg", "text.png", "torn.jpg", "torn.png"]
    assert all(entry.reason for entry in folder.skipped)
    assert repr(folder) == "ImageFolder(4 pictures, 2 classes, 4 files skipped)"


def test_without_verifying_the_error_comes_with_the_picture(pets):
    (pets / "cat" / "zz.png").write_text("this is no picture")
    folder = image_folder(pets, verify=False)
    assert len(folder) == 5
    with pytest.raises(OSError, match=r"zz\.png.*verify=True"):
        folder[2]


def test_wrong_paths_say_what_was_found(pets):
    with pytest.raises(FileNotFoundError, match=r"cats.*holds cat/, dog/"):
        image_folder(pets / "cats")
    with pytest.raises(NotADirectoryError, match="is a file"):
        image_folder(pets / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"no sub-folders; it holds 0\.png, 1\.png"):
        image_folder(pets / "cat")
    (pets / "bare").mkdir()
    with pytest.raises(ValueError, match="it holds nothing"):
        image_folder(pets / "bare")


def test_empty_classes_are_refused(pets):
    (pets / "bird").mkdir()
    with pytest.raises(ValueError, match=r"class 'bird' .*holds nothing"):
        image_folder(pets, progress=False)
    (pets / "bird" / "bird.png").write_text("this is no picture")
    with pytest.raises(ValueError, match=r"class 'bird' .*none of its 1 pictures can be read"):
        image_folder(pets, progress=False)
    (pets / "bird" / "bird.png").rename(pets / "bird" / "bird.mp4")
    with pytest.raises(ValueError, match=r"holds bird\.mp4.*\.png"):
        image_folder(pets, progress=False)


def test_progress_bar_is_shown_while_checking(pets, capfd):
    image_folder(pets)
    assert "checking pictures" in capfd.readouterr().err
    image_folder(pets, progress=False)
    assert capfd.readouterr().err == ""


# Every kind of file below shows one colour per half: left, right.
@pytest.mark.parametrize(
    ("mode", "left", "right", "expected"),
    [
        ("RGB", (255, 0, 0), (0, 0, 255), ((255, 0, 0), (0, 0, 255))),
        ("L", 0, 200, ((0, 0, 0), (200, 200, 200))),
        ("1", 0, 1, ((0, 0, 0), (255, 255, 255))),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0, 0), ((255, 0, 0), (255, 255, 255))),
        ("LA", (100, 255), (100, 0), ((100, 100, 100), (255, 255, 255))),
        ("P", 1, 2, ((255, 0, 0), (0, 255, 0))),
    ],
)
def test_kinds_of_pictures(tmp_path, mode, left, right, expected):
    picture = Image.new(mode, (6, 4), left)
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.paste(right, (3, 0, 6, 4))
    picture.save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert tuple(image[0, 0]) == expected[0]
    assert tuple(image[0, 5]) == expected[1]


def test_sixteen_bit_grey_keeps_its_levels(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[0, :, 0].tolist() == [0, 128, 255]


def test_float_pictures(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg")
    red, green, blue = read_image(tmp_path / "x.jpg")[4, 4]
    assert red > 200 > 60 > max(green, blue)


def test_transparent_palette_colour_is_laid_on_white(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.info["transparency"] = 1
    picture.save(tmp_path / "x.png", transparency=1)
    assert read_image(tmp_path / "x.png").min() == 255


def test_camera_orientation_is_followed(tmp_path):
    picture = Image.new("RGB", (6, 4))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    picture.save(tmp_path / "x.png", exif=exif)
    image = read_image(tmp_path / "x.png")
    assert image.shape == (6, 4, 3)
    assert image[0, 3].tolist() == [255, 255, 255]

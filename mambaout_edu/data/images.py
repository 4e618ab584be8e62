"""Any picture, from an array or a file, as the input that a model expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

__all__ = ["model_input", "read_image", "square"]


def read_image(path: Path | str) -> npt.NDArray[np.uint8]:
    """Read a picture file as uint8 [H, W, 3].

    Grey, palette and 16-bit pictures become colour ones, transparency is laid on white, and a
    camera's note of which way is up (EXIF) is followed.

    Raises OSError, or another error of the decoder, for a file that is no picture or is broken.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2), 255).save(Path(folder) / "white.png")
    ...     read_image(Path(folder) / "white.png").shape
    (2, 4, 3)
    """
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith(("I", "F")):
            return _from_deep_grey(np.asarray(upright))
        if upright.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            white = Image.new("RGBA", upright.size, (255, 255, 255, 255))
            upright = Image.alpha_composite(white, upright)
        return np.array(upright.convert("RGB"), dtype=np.uint8)


def _from_deep_grey(grey: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # Pillow's own conversion cuts 16-bit values off at 255, which turns most of them white.
    top = 65535.0 if grey.dtype.kind in "iu" else 1.0
    levels = np.clip(grey.astype(np.float64) / top, 0, 1) * 255
    return np.repeat(np.rint(levels).astype(np.uint8)[:, :, None], 3, axis=2)


def model_input(
    image: npt.NDArray[np.uint8],
    image_size: int | None = 224,
    *,
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN,
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD,
) -> Tensor:
    """Turn a picture into a model's input: resize, cut out the middle square, normalise.

    Parameters
    ----------
    image
        uint8 [H, W, 3].
    image_size
        The side of the square in pixels; the shorter side is resized to it. None keeps the picture whole.
    mean, std
        Of each channel, on the scale from 0 to 1; ImageNet's by default.

    Returns
    -------
    Tensor
        float32 [3, image_size, image_size]. Add the batch axis with `[None]`.

    Raises
    ------
    TypeError
        If the picture is not uint8 [H, W, 3].
    ValueError
        If the size is below 1.

    Examples
    --------
    >>> model_input(np.zeros((300, 451, 3), dtype=np.uint8)).shape
    torch.Size([3, 224, 224])
    """
    picture = image if image_size is None else square(image, image_size)
    _check_picture(picture)
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255  # [3, H, W]
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def square(image: npt.NDArray[np.uint8], image_size: int) -> npt.NDArray[np.uint8]:
    """Resize a picture so that its shorter side is `image_size` pixels, and cut out the middle square.

    Raises TypeError if the picture is not uint8 [H, W, 3], ValueError if the size is below 1.

    >>> square(np.zeros((300, 451, 3), dtype=np.uint8), 224).shape
    (224, 224, 3)
    """
    _check_picture(image)
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; expected 1 or more pixels, or None to keep the size")
    return np.array(ImageOps.fit(Image.fromarray(image), (image_size, image_size), Image.Resampling.BICUBIC))


def _check_picture(image: npt.NDArray[Any]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(
            f"the picture is {image.dtype} of shape {image.shape}; expected uint8 [H, W, 3]. "
            "A grey one becomes colour with numpy.repeat(image[:, :, None], 3, axis=2)"
        )

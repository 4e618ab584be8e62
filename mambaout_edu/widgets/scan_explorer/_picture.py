"""Any picture as rgb bytes small enough for the grid, with a reason in words where that cannot be."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["LARGEST", "as_pixels", "resampled"]

LARGEST = 128  # pixels a side
Pixels = NDArray[np.uint8]


def as_pixels(image: Any) -> Pixels:
    """Return a picture as uint8 [H, W, 3], each side at most 128, transparency laid on white.

    Parameters
    ----------
    image
        An array [H, W], or [H, W, C] with 1, 2, 3 or 4 channels (grey, grey and alpha, RGB, RGBA), of uint8, uint16,
        bool, or floats from 0 to 1; a PIL image; or the path of a picture file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If it is no picture at all, or an array of another type.
    ValueError
        If it is empty, of another shape, out of range, or a file that cannot be decoded.

    Examples
    --------
    >>> as_pixels(np.linspace(0, 1, 600 * 300).reshape(300, 600)).shape
    (64, 128, 3)
    """
    if isinstance(image, str | Path):
        opened = _decoded(Path(image))
    elif isinstance(image, Image.Image):
        opened = image
    else:
        return _smaller(Image.fromarray(_on_white(_array(image))))
    if 0 in opened.size:
        raise ValueError(f"the picture is empty: {opened.height} x {opened.width} pixels")
    if opened.mode.startswith(("I", "F")):
        deep = np.asarray(opened)
        # Pillow reads a 16-bit picture into mode I or I;16; floats are from 0 to 1.
        return as_pixels(deep if deep.dtype.kind == "f" else np.clip(deep, 0, 65535).astype(np.uint16))
    return _smaller(Image.fromarray(_on_white(np.asarray(opened.convert("RGBA")))))


def resampled(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return a picture on another grid, each cell the mean of the pixels that it covers, uint8 [height, width, 3].

    >>> resampled(np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2), 2, 2)[:, :, 0]
    array([[ 3,  5],
           [11, 13]], dtype=uint8)
    """
    rows, columns = (_spans(have, want) for have, want in zip(pixels.shape[:2], (height, width), strict=True))
    total = np.pad(pixels.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))  # [H + 1, W + 1, 3]
    (top, bottom), (left, right) = rows[:, :, None], columns[:, None, :]
    sums = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.floor(sums / ((bottom - top) * (right - left))[:, :, None] + 0.5).astype(np.uint8)


def _spans(have: int, want: int) -> NDArray[np.int64]:
    """Return the first pixel of every cell and the one after its last, [2, want]."""
    cell = np.arange(want)
    first = cell * have // want
    return np.stack([first, np.maximum(first + 1, -((cell + 1) * -have // want))])


def _decoded(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"there is no picture file {path}; give the path of a PNG, JPEG or WebP file")
    if path.stat().st_size == 0:
        raise ValueError(f"the picture file {path} is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and made smaller at once
            with Image.open(path) as opened:
                opened.draft("RGB", (4 * LARGEST, 4 * LARGEST))  # a JPEG is decoded at a fraction of its size
                opened.load()
                return ImageOps.exif_transpose(opened)
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, ValueError, struct.error
        raise ValueError(
            f"{path} cannot be read as a picture ({error}). It may be broken or of a kind that Pillow does not know; "
            "save it anew as PNG or JPEG"
        ) from error


def _array(image: Any) -> NDArray[Any]:
    """Return an array as uint8 [H, W] or [H, W, C]."""
    array = np.asarray(image)
    if array.dtype.kind not in "buf" or (array.dtype.itemsize > 2 and array.dtype.kind == "u"):
        raise TypeError(
            f"the picture is {type(image).__name__} of dtype {array.dtype}; expected an array of uint8, uint16, bool "
            "or floats from 0 to 1, a PIL image, or the path of a picture file"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = ". The channels come last: numpy.moveaxis(image, 0, -1)" if first else ""
        raise ValueError(f"the picture has shape {array.shape}; expected [H, W] or [H, W, C], C from 1 to 4{hint}")
    if array.size == 0:
        raise ValueError(f"the picture is empty: its shape is {array.shape}")
    if array.dtype.kind == "f":
        if not np.all((array >= 0) & (array <= 1)):  # not a number is refused, too
            raise ValueError(
                f"the picture's floats go from {array.min():g} to {array.max():g}; expected 0 to 1. "
                "Divide by the largest value, or pass uint8"
            )
        return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    return np.rint(array / 257).astype(np.uint8) if array.dtype.itemsize == 2 else array


def _on_white(array: NDArray[Any]) -> Pixels:
    """Return uint8 [H, W, 3] from grey, grey and alpha, RGB or RGBA."""
    if array.ndim == 2:
        array = array[:, :, None]
    channels = array.shape[2]
    colour = array[:, :, : 3 if channels > 2 else 1].astype(np.float64)
    if channels in (2, 4):
        alpha = array[:, :, -1:] / 255
        colour = colour * alpha + 255 * (1 - alpha)
    return np.ascontiguousarray(np.broadcast_to(np.rint(colour).astype(np.uint8), (*array.shape[:2], 3)))


def _smaller(image: Image.Image) -> Pixels:
    scale = min(1.0, LARGEST / max(image.size))
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.array(image, dtype=np.uint8)

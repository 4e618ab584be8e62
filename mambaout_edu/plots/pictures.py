"""Figures made of pictures: photographs, feature maps, mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..strings import text
from .style import MUTED, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..data import ImageSet, Photograph
    from ..training import Evaluation

__all__ = ["feature_maps", "mistakes", "patches", "photo_grid"]


def photo_grid(pictures: Mapping[str, Photograph | npt.NDArray[np.uint8]], *, columns: int = 4) -> Figure:
    """Draw pictures side by side, each with its title and size.

    Parameters
    ----------
    pictures
        `data.photographs()`, or titles and arrays: uint8 [H, W, 3].
    columns
        How many in a row.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> len(photo_grid({"black": np.zeros((8, 8, 3), np.uint8), "white": np.full((8, 8, 3), 255, np.uint8)}).axes)
    2
    """
    fig, cells = _picture_cells(len(pictures), columns, width=3.3, height=3.3)
    for ax, (name, item) in zip(cells, pictures.items(), strict=True):
        image = np.asarray(getattr(item, "image", item))
        height, width = image.shape[:2]
        title = fill(getattr(item, "title", name), 26)
        ax.imshow(image)
        ax.set_title(f"{title}\n{text('plots', 'pixel_size', height=height, width=width)}")
    return finish(fig)


def patches(image: npt.NDArray[np.uint8], patch_size: int = 16) -> Figure:
    """Draw a picture with the grid of patches that a sequence model cuts it into.

    Parameters
    ----------
    image
        uint8 [H, W, 3]; H and W multiples of `patch_size`.
    patch_size
        Side of a patch in pixels.

    Raises
    ------
    ValueError
        If the picture does not divide into whole patches.

    Examples
    --------
    >>> patches(np.zeros((32, 48, 3), np.uint8)).axes[0].get_title()
    '2 x 3 patches of 16 x 16 pixels'
    """
    height, width = image.shape[:2]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(f"a picture of {height} x {width} pixels does not divide into patches of {patch_size}")
    fig, axes = new_figure(6.4, 6.9 * height / width)
    ax = axes[0, 0]
    ax.imshow(image)
    bare(ax)
    for side, draw in ((height, ax.axhline), (width, ax.axvline)):
        for line in range(patch_size, side, patch_size):
            draw(line - 0.5, color="white", linewidth=0.8)
    rows, columns = height // patch_size, width // patch_size
    ax.set_title(text("plots", "patches", rows=rows, columns=columns, size=patch_size))
    return finish(fig)


def feature_maps(maps: Sequence[Any], *, channels: int = 6) -> Figure:
    """Draw what each stage sees: one row a stage, its liveliest channels as columns.

    Parameters
    ----------
    maps
        One array or tensor [H, W, C] or [1, H, W, C] a stage.
    channels
        How many channels to show, those of the largest variance first. Each has its own colour scale.

    Raises
    ------
    ValueError
        If there are no maps, or one has another shape.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> len(feature_maps([rng.normal(size=(8, 8, 16)), rng.normal(size=(4, 4, 32))], channels=5).axes)
    10
    """
    arrays = [_as_map(item) for item in maps]
    if not arrays:
        raise ValueError("there are no feature maps to draw; expected one [H, W, C] a stage")
    fig, axes = new_figure(2.1 * channels + 2.4, 2.5 * len(arrays), rows=len(arrays), columns=channels)
    for row, (values, cells) in enumerate(zip(arrays, axes, strict=True)):
        height, width, count = values.shape
        liveliest = np.argsort(-values.var(axis=(0, 1)), kind="stable")[:channels]
        for ax in cells:
            ax.set_axis_off()
        for ax, channel in zip(cells, liveliest, strict=False):
            ax.set_axis_on()
            bare(ax)
            ax.imshow(values[:, :, channel], cmap="viridis", interpolation="nearest")
            ax.set_title(text("plots", "channel", number=channel))
        label = text("plots", "stage", number=row + 1, height=height, width=width, channels=count)
        cells[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=12)
    return finish(fig)


def mistakes(images: ImageSet, evaluation: Evaluation, *, limit: int = 10, columns: int = 5) -> Figure:
    """Draw the wrongly classified images, the most confident mistake first.

    Parameters
    ----------
    images, evaluation
        The images that were evaluated, and what came out. Grey images are drawn dark on light.
    limit, columns
        How many at most, and how many in a row.

    Raises
    ------
    ValueError
        If the evaluation is not of these images.

    Examples
    --------
    >>> import torch
    >>> from mambaout_edu.data import ImageSet
    >>> from mambaout_edu.training import evaluate
    >>> images = ImageSet(torch.rand(2, 1, 1, 1), torch.tensor([0, 0]), ("a", "b"))
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    >>> type(mistakes(images, evaluate(model, images))).__name__
    'Figure'
    """
    if evaluation.total != len(images):
        raise ValueError(f"the evaluation is of {evaluation.total} images, but {len(images)} were given")
    wrong = evaluation.mistakes.tolist()[:limit]
    if not wrong:
        fig, axes = new_figure(5, 1.2)
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0.5, 0.5, text("plots", "no_mistakes"), ha="center", va="center")
        return finish(fig)
    fig, cells = _picture_cells(len(wrong), columns, width=2.5, height=3.1)
    for ax, index in zip(cells, wrong, strict=True):
        predicted = int(evaluation.predictions[index])
        pixels = images.images[index].permute(1, 2, 0).clamp(0, 1).numpy()  # [H, W, C]
        ax.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray_r", vmin=0, vmax=1)
        caption = text(
            "plots", "mistake", true=images.classes[int(images.labels[index])], predicted=images.classes[predicted],
            confidence=f"{100 * float(evaluation.probabilities[index, predicted]):.0f} %",
        )  # fmt: skip
        ax.set_title(caption)
        ax.spines[:].set(visible=True, color=MUTED)  # where the image ends, paper on paper would not show
    return finish(fig)


def _picture_cells(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    if count < 1 or columns < 1:
        raise ValueError(f"got {count} pictures in {columns} columns; expected 1 or more of each")
    columns = min(columns, count)
    rows = -(-count // columns)
    fig, axes = new_figure(width * columns, height * rows, rows, columns)
    for ax in axes.flat[count:]:
        ax.remove()
    for ax in axes.flat[:count]:
        bare(ax)
    return fig, list(axes.flat[:count])


def bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _as_map(item: Any) -> npt.NDArray[Any]:
    values = np.asarray(item.detach().cpu() if hasattr(item, "detach") else item)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim != 3:
        raise ValueError(f"a feature map has shape {values.shape}; expected [H, W, C] or [1, H, W, C]")
    return values

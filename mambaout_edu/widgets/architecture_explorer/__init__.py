"""Two vision models side by side: stem, stages, blocks, what is in a block, and what tells the two apart."""

import difflib
import functools
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import traitlets

from mambaout_edu.widgets._base import Widget

__all__ = ["ArchitectureExplorer"]

SKELETONS = ("conv_ssm", "ssm", "bidirectional", "cross", "attention", "causal_attention", "window", "lstm", "pooling")
SIZES = ("tiny", "small", "base")
# timm's models beside ours, by group; the strings have the groups' titles.
TIMM = {
    "swin": [f"swin_{size}_patch4_window7_224" for size in SIZES],
    "vit": [f"{family}_{size}_patch16_224" for family in ("vit", "deit") for size in SIZES],
    "convnext": [f"convnext_{size}" for size in SIZES],
}
GROUPS = {
    "MambaOut": "mambaout",
    "Vim": "vim",
    "VMamba": "vmamba",
    "ResVMamba": "res_vmamba",
    "ResidualSwin": "residual_swin",
}
_LOCK = threading.Lock()  # callbacks may run in another thread than the cells


class ArchitectureExplorer(Widget):
    """Compare two vision models: their stages to scale, their blocks, what each costs, and where they differ.

    All that is shown is read off the models themselves, by `mambaout_edu.models.outline`: they run once on shapes
    alone. The outlines of the two models are there at once; one that is chosen later is asked of Python. A page
    without a kernel shows those it was given, see `complete`.

    Parameters
    ----------
    left, right : str
        Two names of `offered`, or of `models`.
    image_size : int
        Side of the image in pixels, 32 to 1024.
    models : mapping, optional
        Further models to offer, by the name they shall have: modules on images [B, in_chans, H, W].
    stage : int
        The stage that is open in both models, from 1; 0 is the stem, -1 the head. Where a model has fewer, its last.
    block : int
        The block that is open, from 1; 0 is what stands around the blocks of the stage.

    Raises
    ------
    TypeError
        For an unknown argument.
    ValueError
        For a name that is not offered, with the nearest ones, or a model without a list called `blocks`.
    traitlets.TraitError
        For a number out of range.

    Examples
    --------
    >>> from mambaout_edu.widgets import ArchitectureExplorer
    >>> explorer = ArchitectureExplorer("vmamba_tiny_v0", "res_vmamba_tiny")
    >>> explorer
    ArchitectureExplorer(left='vmamba_tiny_v0', right='res_vmamba_tiny', stage=1, block=1)
    >>> explorer.differences
    ['around']
    """

    strings_part = "architecture_explorer"
    repr_traits = ("left", "right", "stage", "block")
    modules = ("words.js", "compare.js", "plan.js", "parts.js")

    left = traitlets.Unicode("mambaout_tiny").tag(sync=True)
    right = traitlets.Unicode("vmamba_tiny").tag(sync=True)
    image_size = traitlets.Int(224, min=32, max=1024).tag(sync=True)
    stage = traitlets.Int(1, min=-1).tag(sync=True)
    block = traitlets.Int(1, min=0).tag(sync=True)
    offered = traitlets.Dict().tag(sync=True)  # names by group
    outlines = traitlets.Dict().tag(sync=True)  # by name, those that the page has

    def __init__(
        self,
        left: str = "mambaout_tiny",
        right: str = "vmamba_tiny",
        image_size: int = 224,
        models: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._models = dict(models or {})
        own = {"own": list(self._models)} if self._models else {}
        super().__init__(left=left, right=right, image_size=image_size, offered=own | _offered(), **kwargs)
        self._fetch((self.left, self.right))

    @property
    def differences(self) -> list[str]:
        """The aspects in which the two models differ, of `mambaout_edu.models.outline.ASPECTS`."""
        from mambaout_edu.models.outline import differences

        return differences(self.outlines[self.left], self.outlines[self.right])

    def complete(self, names: Iterable[str] | None = None) -> "ArchitectureExplorer":
        """Give the page the outlines of these models, or of all offered (about half a minute), and return the explorer.

        A page without a kernel cannot ask for them.
        """
        from tqdm.auto import tqdm

        chosen = [self._known(name) for name in (self._names() if names is None else names)]
        missing = [name for name in dict.fromkeys(chosen) if name not in self.outlines]
        for name in tqdm(missing, desc="outlines", disable=len(missing) < 3):
            _outline(name, self.image_size, self._models.get(name))
        self._fetch(chosen)
        return self

    def _fetch(self, names: Iterable[str]) -> None:
        missing = [name for name in dict.fromkeys(names) if name not in self.outlines]
        if missing:
            found = {name: _outline(name, self.image_size, self._models.get(name)) for name in missing}
            self.outlines = {**self.outlines, **found}

    def _names(self) -> list[str]:
        return [name for names in self.offered.values() for name in names]

    def _known(self, name: str) -> str:
        known = self._names() or [name for names in _offered().values() for name in names] + list(self._models)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise ValueError(
                f"unknown model {name!r}; did you mean {', '.join(near)}? Any other model can be given with "
                'models={"its name": model}.'
            )
        return name

    @traitlets.validate("left", "right")
    def _offered_name(self, proposal: dict[str, Any]) -> str:
        return self._known(proposal["value"])

    @traitlets.observe("left", "right")
    def _chosen(self, change: Any) -> None:
        if self.outlines:  # else they are being made
            self._fetch((self.left, self.right))

    @traitlets.observe("image_size")
    def _other_size(self, change: Any) -> None:
        if self.outlines:
            pair = (self.left, self.right)
            found = {name: _outline(name, self.image_size, self._models.get(name)) for name in pair}
            self.outlines = found


@functools.cache
def _offered() -> dict[str, list[str]]:
    from mambaout_edu.models.registry import FAMILIES

    ours = {GROUPS[family.model.__name__]: list(family.variants) for family in FAMILIES}
    # Made for ImageNet's size, as published; those of other training runs or for small images are left out.
    ours["mambaout"] = [f"mambaout_{size}" for size in ("femto", "kobe", *SIZES)]
    return {**ours, **TIMM, "skeleton": [f'metaformer_like("{mixer}")' for mixer in SKELETONS]}


@functools.lru_cache(maxsize=128)
def _cached(name: str, image_size: int) -> dict[str, Any]:
    import torch

    from mambaout_edu.models.metaformer_like import metaformer_like
    from mambaout_edu.models.outline import outline

    skeleton = name.removeprefix('metaformer_like("').removesuffix('")')
    if skeleton == name:
        return outline(name, image_size)
    with torch.device("meta"):
        model = metaformer_like(skeleton)
    return {**outline(model, image_size), "name": name}


def _outline(name: str, image_size: int, model: Any = None) -> dict[str, Any]:
    """Return an outline, from memory where it is a named model's."""
    with _LOCK:
        if model is None:
            return _cached(name, image_size)
        from mambaout_edu.models.outline import outline

        return {**outline(model, image_size), "name": name}

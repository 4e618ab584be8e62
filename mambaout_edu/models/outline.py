"""The outline of a model: stem, stages, blocks and what is in them, read off a forward pass.

Nothing about a model is typed in here. What it does to an image of a given size is recorded step by step (see
`models.steps`), and the steps are laid into the model's own tree of modules: a block is what stands in a list that is
called `blocks`, a stage is the module that holds such a list, and what comes before the first block is the stem.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import timm
import torch
from torch import nn

from mambaout_edu.models.block_parts import Part, condensed, facts, signature
from mambaout_edu.models.profile import _part_of
from mambaout_edu.models.registry import MODELS, create_model
from mambaout_edu.models.steps import Step, record_steps

__all__ = ["ASPECTS", "differences", "outline"]

# What two models are compared in, the mixer first.
ASPECTS = (
    *("mixer", "gate", "mlp", "shortcuts", "around", "norm", "scale"),
    *("resolution", "channels", "depths", "stem", "positions", "class_tokens", "downsampling", "head"),
)


def outline(model: str | nn.Module, image_size: int = 224) -> dict[str, Any]:
    """Return a model's stem, stages, blocks and head for one image, with shapes, parameters and multiply-adds.

    Shapes alone run through the model, on torch's meta device: it costs a fraction of a second and no memory.

    Parameters
    ----------
    model
        A name that `mambaout_edu.models.create_model` or timm knows, or a model on images [B, in_chans, H, W] whose
        blocks stand in lists called `blocks`.
    image_size
        Side of the image in pixels.

    Returns
    -------
    dict
        Ready for JSON. "stem" and "head" hold "parts", a list in the order of the forward pass. "stages" is a list of
        dictionaries with height and width of the map, channels, tokens, and blocks: "kinds" are the different lists of
        parts, "blocks" tells the kind of each block; "downsampling" and "around" are parts beside the blocks. A part
        has a kind (one of `KINDS` in `models.steps`, or "select", "merge", "shortcut"), the shape of its output with
        channels last, parameters, multiply-adds (half of a scan's 9 L D N operations), and whether it belongs to the
        token mixer. "aspects" says in short what two models can be compared in, see `differences`.

    Raises
    ------
    ValueError
        If the name is unknown, or the model has no list called `blocks`.

    Examples
    --------
    >>> found = outline("mambaout_tiny")
    >>> [(stage["height"], stage["channels"], len(stage["blocks"])) for stage in found["stages"]]
    [(56, 96, 3), (28, 192, 3), (14, 384, 9), (7, 576, 3)]
    >>> [part["kind"] for part in found["stages"][0]["kinds"][0]]
    ['norm', 'linear', 'conv', 'activation', 'product', 'linear', 'shortcut']
    """
    name = model if isinstance(model, str) else type(model).__name__
    if isinstance(model, str):
        model = _build(model, image_size)
    homes = _homes(model)
    steps = record_steps(model, image_size, image_size)
    places = _Places(model, homes, steps)
    stem, head = places.parts("stem"), places.parts("head")
    grid = next((tuple(p["shape"][:2]) for p in reversed(stem) if p["kind"] == "conv" and len(p["shape"]) == 3), None)
    stages = [_stage(places, index, blocks, grid) for index, (_, blocks) in enumerate(homes)]
    ends = {"stem": {"parts": stem, **_cost(stem)}, "head": {"parts": head, **_cost(head)}}
    whole = _sum([*ends.values(), *stages])
    return {
        "name": name,
        "class": type(model).__name__,
        "image_size": image_size,
        **whole,
        **ends,
        "stages": stages,
        "aspects": _aspects(stem, stages, head),
    }


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Return the aspects, of `ASPECTS`, in which two outlines differ.

    >>> differences(outline("vmamba_tiny_v0"), outline("res_vmamba_tiny"))
    ['around']
    """
    return [aspect for aspect in ASPECTS if left["aspects"][aspect] != right["aspects"][aspect]]


class _Places:
    """Where every step belongs: to the stem, to a block, to a stage beside its blocks, or to the head."""

    def __init__(self, model: nn.Module, homes: list[tuple[str, list[str]]], steps: list[Step]) -> None:
        self.mixers = [path for _, blocks in homes for block in blocks for path in _mixers(model, block)]
        block_of = {block: (i, n) for i, (_, blocks) in enumerate(homes) for n, block in enumerate(blocks)}
        self.steps: dict[Any, list[Step]] = {}
        reached, last = -1, len(homes) - 1  # the stage whose blocks were met last
        for step in steps:
            place: Any = next((block_of[path] for path in _upwards(step.module) if path in block_of), None)
            if place is not None:
                reached = place[0]
            else:
                stage = next((i for i, (home, _) in enumerate(homes) if home and _under(step.module, home)), None)
                place = _beside(stage, reached, last)
            self.steps.setdefault(place, []).append(step)

    def parts(self, place: Any, within: str = "") -> list[Part]:
        """Return the parts of a place; `within` is the path of a block, left out of the names."""
        return condensed(self.steps.get(place, []), within, self._is_mixing)

    def _is_mixing(self, module: str) -> bool:
        return any(_under(module, mixer) for mixer in self.mixers)


def _beside(stage: int | None, reached: int, last: int) -> Any:
    """Return the place of a step outside all blocks, from the stage that it is in (None for the model itself)."""
    if stage is not None:
        return ("before", stage) if stage > reached else ("around", stage)
    if reached < 0:
        return "stem"
    return "head" if reached == last else ("around", reached + 1)


def _stage(places: _Places, index: int, blocks: list[str], grid: tuple[int, ...] | None) -> dict[str, Any]:
    found = [places.parts((index, number), path) for number, path in enumerate(blocks)]
    kinds: list[list[Part]] = []
    for parts in found:
        if parts not in kinds:
            kinds.append(parts)
    before, around = places.parts(("before", index)), places.parts(("around", index))
    *size, channels = found[0][0]["shape_in"]
    tokens = size[0] * size[1] if len(size) == 2 else size[-1]
    height, width = size if len(size) == 2 else (grid or (1, tokens))
    costs = [_cost(parts) for parts in (before, around, *found)]
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "tokens": tokens,
        **_sum(costs),
        "downsampling": before,
        "around": around,
        "blocks": [kinds.index(parts) for parts in found],
        "kinds": kinds,
        "facts": [facts(parts, channels, tokens) for parts in kinds],
    }


def _aspects(stem: list[Part], stages: list[dict[str, Any]], head: list[Part]) -> dict[str, Any]:
    """Return in short what a model can be compared in."""
    told = [fact for stage in stages for fact in stage["facts"]]

    def once(values: Iterable[Any]) -> list[Any]:
        kept: list[Any] = []
        for value in values:
            if value not in kept:
                kept.append(value)
        return kept

    later = stages[1:]
    return {
        "resolution": [[stage["height"], stage["width"]] for stage in stages],
        "channels": [stage["channels"] for stage in stages],
        "depths": [len(stage["blocks"]) for stage in stages],
        "mixer": _united([fact["mixer"] for fact in told]),
        **{key: once(fact[key] for fact in told) for key in ("gate", "mlp", "shortcuts", "norm", "scale")},
        "around": once(signature(stage["around"]) for stage in stages if stage["around"]),
        "stem": [each for each in signature(stem) if each["kind"] not in ("positions", "tokens")],
        "positions": any(part["kind"] == "positions" for part in stem),
        "class_tokens": sum(part["kind"] == "tokens" for part in stem),
        "downsampling": once(signature(stage["downsampling"]) for stage in later),
        "head": signature(head),
    }


def _united(mixers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the different mixers once; windows, shifts and the whole map of a late stage are one attention."""
    united: list[dict[str, Any]] = []
    for mixer in mixers:
        bare = {key: value for key, value in mixer.items() if key not in ("window", "shifted")}
        same = next((m for m in united if {k: v for k, v in m.items() if k not in ("window", "shifted")} == bare), None)
        if same is None:
            united.append(dict(mixer))
        elif mixer["kind"] == "attention":
            same["window"] = same["window"] or mixer["window"]
            same["shifted"] = same["shifted"] or mixer["shifted"]
    return united


def _cost(parts: list[Part]) -> dict[str, int]:
    return _sum(parts)


def _sum(costs: Iterable[dict[str, Any]]) -> dict[str, int]:
    listed = list(costs)
    return {key: sum(cost[key] for cost in listed) for key in ("parameters", "multiply_adds")}


def _homes(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Return the path of every module that holds a list called `blocks`, and the paths of its blocks."""
    homes: list[tuple[str, list[str]]] = []
    inside: list[str] = []
    for path, module in model.named_modules():
        blocks = getattr(module, "blocks", None)
        if not isinstance(blocks, (nn.Sequential, nn.ModuleList)) or not len(blocks):
            continue
        if any(_under(path, each) for each in inside):
            continue
        home = f"{path}." if path else ""
        homes.append((path, [f"{home}blocks.{key}" for key, _ in blocks.named_children()]))
        inside.append(f"{home}blocks")
    if not homes:
        raise ValueError(
            f"{type(model).__name__} has no module list called `blocks`, by which stages and blocks are found. "
            "The models of mambaout_edu and timm's ViT, Swin and ConvNeXt have one."
        )
    return homes


def _mixers(model: nn.Module, block: str) -> list[str]:
    """Return the paths inside a block of the modules that name themselves its token mixer."""
    found: list[str] = []

    def walk(module: nn.Module, path: str) -> None:
        for key, child in module.named_children():
            if _part_of(child, module, key) == "token mixing":
                found.append(f"{path}.{key}")
            else:
                walk(child, f"{path}.{key}")

    walk(model.get_submodule(block), block)
    return found


def _under(path: str, home: str) -> bool:
    return path == home or path.startswith(home + ".")


def _upwards(path: str) -> Iterable[str]:
    """Yield a dotted path and those of all modules around it."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _build(name: str, image_size: int) -> nn.Module:
    """Build a model without its numbers; timm's, where they are made for one size, for this one."""
    make: Callable[..., nn.Module] = create_model if name in MODELS else timm.create_model
    if name not in MODELS and not timm.is_model(name):
        near = difflib.get_close_matches(name, [*MODELS, *timm.list_models()], n=3) or sorted(MODELS)
        raise ValueError(f"unknown model {name!r}; did you mean {', '.join(near)}?")
    with torch.device("meta"):
        model = make(name)
        if make is not create_model and hasattr(model, "set_input_size"):
            model = make(name, img_size=image_size)  # set_input_size would change Swin's windows too
    return model

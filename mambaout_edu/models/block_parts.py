"""Steps of a forward pass brought together into the parts that one draws: attention, selective scan, shortcut."""

from collections.abc import Callable
from typing import Any

from mambaout_edu.models.steps import Step

__all__ = ["Part", "condensed", "facts", "signature"]

Part = dict[str, Any]
_SHOWN = ("kernel", "stride", "depthwise", "function", "directions", "states", "causal")  # tell parts of a kind apart

_CHANNELS_FIRST = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")  # [B, C, H, W] to torch


def condensed(steps: list[Step], within: str, mixing: Callable[[str], bool]) -> list[Part]:
    """Return the parts that some steps make up, in their order.

    Parameters
    ----------
    steps
        Steps that follow each other in one place.
    within
        The dotted path of that place, left out of the parts' names.
    mixing
        Tells of a module's path whether it is in a token mixer.

    Examples
    --------
    >>> step = Step("norm", "block.norm", "block.norm.weight", (1, 7, 7, 8), (1, 7, 7, 8), 16, 0)
    >>> condensed([step], "block", lambda path: False)[0]["name"]
    'norm'
    """
    parts: list[Part] = []
    shape: list[int] = []
    reversed_too = False
    for step in steps:
        inside = mixing(step.module) or step.kind == "shift"
        reversed_too |= step.kind == "reverse"
        if step.kind == "reverse":
            continue
        part = _part(step, within, inside, shape)
        shape = part["shape"]
        if step.kind == "scan":
            _take_selection(parts)
            part |= _directions(part, reversed_too)
        if parts and _belong_together(parts[-1], part):
            _unite(parts[-1], part)
        else:
            parts.append(part)
    return parts


def _part(step: Step, within: str, mixer: bool, before: list[int]) -> Part:
    kind = {"sum": "merge" if mixer else "shortcut"}.get(step.kind, step.kind)
    name = step.name.removeprefix(within + ".").removesuffix(".weight").removesuffix("_weight")
    convolved = step.kind == "conv" or step.name in _CHANNELS_FIRST
    detail = dict(step.detail)
    if kind == "attention" and not detail:  # written out: the products q k' and, later, with v
        detail = {"heads": step.shape_out[-3], "tokens": step.shape_out[-1], "causal": False}
    if "kernel" in detail and isinstance(detail["kernel"], tuple):
        detail["kernel"] = list(detail["kernel"])
    return {
        "kind": kind,
        "name": name,
        "mixer": mixer,
        "shape_in": _channels_last(step.shape_in, convolved, before),
        "shape": _channels_last(step.shape_out, convolved, before),
        "parameters": step.parameters,
        "multiply_adds": step.operations // 2,
        **detail,
    }


def _channels_last(shape: tuple[int, ...], convolved: bool, before: list[int]) -> list[int]:
    """Return a shape without the batch, channels last; by the part before, where the step itself does not tell."""
    dims = list(shape)
    first = convolved or (len(dims) == 4 and bool(before) and dims[1] == before[-1] != dims[-1])
    if first:
        dims = [dims[0], *dims[2:], dims[1]]
    return dims[1:] if dims[0] == 1 and len(dims) > 1 else dims


def _directions(part: Part, reversed_too: bool) -> Part:
    groups = part.pop("groups")
    channels = part["shape"][-1] // groups  # those of one direction
    return {"directions": groups, "reversed": reversed_too, "channels": channels}


def _take_selection(parts: list[Part]) -> None:
    """Make one part of the linear maps right before a scan: they compute its steps, B and C from the input."""
    run = len(parts)
    while run and parts[run - 1]["kind"] == "linear" and parts[run - 1]["mixer"]:
        run -= 1
    chosen = parts[run:]
    if chosen:
        first = {**chosen[0], "kind": "select"}
        for part in chosen[1:]:
            _unite(first, part)
        parts[run:] = [{**first, "shape": chosen[-1]["shape"]}]


def _belong_together(last: Part, part: Part) -> bool:
    if not (last["mixer"] and part["mixer"]):
        return False
    if last["kind"] == "attention":
        return part["kind"] in ("attention", "positions")
    return last["kind"] == part["kind"] == "merge"


def _unite(part: Part, other: Part) -> None:
    """Take another part's cost and result into a part."""
    part["parameters"] += other["parameters"]
    part["multiply_adds"] += other["multiply_adds"]
    if other["kind"] != "positions":
        part["shape"] = other["shape"]


def signature(parts: list[Part]) -> list[dict[str, Any]]:
    """Return what the parts are, without sizes that depend on the image or the width.

    >>> signature([{"kind": "conv", "kernel": [3, 3], "stride": 2, "shape": [7, 7, 8], "parameters": 80}])
    [{'kind': 'conv', 'kernel': [3, 3], 'stride': 2}]
    """
    return [{"kind": part["kind"], **{key: part[key] for key in _SHOWN if key in part}} for part in parts]


def facts(parts: list[Part], channels: int, tokens: int) -> dict[str, Any]:
    """Return what a block is in short: its mixer, gate, MLP, norms and shortcuts.

    `channels` and `tokens` are those of the block's input.
    """
    outside = [part for part in parts if not part["mixer"]]
    gated = any(part["kind"] == "product" for part in outside)
    widths = [part["shape"][-1] for part in outside if part["kind"] == "linear"]
    inner = any(part["kind"] == "product" for part in parts if part["mixer"])
    return {
        "mixer": _mixer([part for part in parts if part["mixer"]], channels, tokens),
        "gate": "around" if gated else "inside" if inner else "none",
        "mlp": 0 if gated or not widths else round(widths[0] / channels, 2),
        "norm": sorted({part["function"] for part in outside if part["kind"] == "norm"}),
        "shortcuts": sum(part["kind"] == "shortcut" for part in parts),
        "scale": any(part["kind"] == "scale" for part in parts),
    }


def _mixer(parts: list[Part], channels: int, tokens: int) -> dict[str, Any]:
    """Return what mixes the tokens: a scan before an attention, a recurrent network, a convolution, a mean."""
    first = {part["kind"]: part for part in reversed(parts)}
    conv = first["conv"]["kernel"] if "conv" in first else None
    if "scan" in first:
        scan = first["scan"]
        told = {key: scan[key] for key in ("directions", "states")}
        return {"kind": "scan", **told, "expand": round(scan["channels"] / channels, 2), "conv": conv}
    if "attention" in first:
        seen = first["attention"]["tokens"]
        window = seen if seen < tokens else 0
        return {
            "kind": "attention",
            "window": window,
            "shifted": "shift" in first,
            "causal": first["attention"]["causal"],
        }
    if "recurrent" in first:
        return {"kind": "recurrent", "function": first["recurrent"]["function"]}
    if conv is not None:
        return {"kind": "conv", "kernel": conv}
    return {"kind": "pool", "kernel": first["pool"]["kernel"]} if "pool" in first else {"kind": "none"}

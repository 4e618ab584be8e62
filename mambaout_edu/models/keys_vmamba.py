"""The keys of a VMamba and of a Res-VMamba in their authors' layouts and in ours; timm has neither model.

"official"      patch_embed.0, layers.0.blocks.0.op.A_logs, layers.0.downsample.1, classifier.norm, classifier.head
"mambaout_edu"  stem.conv, stages.0.blocks.0.mixer.A_log, stages.1.downsample.norm, head.norm, head.fc

A downsampling ends a stage there and begins the next one here. The authors' older names are understood as well. In the
later version they keep the projections of all four paths in one matrix; here every path has its own.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mambaout_edu.models.keys import Fit, Keys, State, rename

__all__ = ["RES_VMAMBA_KEYS", "VMAMBA_KEYS"]

_OLD_NAMES = [
    (r"^patch_embed\.proj\.", r"patch_embed.0."),
    (r"^patch_embed\.norm\.", r"patch_embed.2."),
    (r"^(layers\.\d+\.blocks\.\d+\.)ln_1\.", r"\1norm."),
    (r"^(layers\.\d+\.blocks\.\d+\.)self_attention\.", r"\1op."),
    (r"^norm\.", r"classifier.norm."),
    (r"^head\.", r"classifier.head."),
]
_MIXER = {
    "x_proj_weight": ("x_proj_weight", "x_proj.weight"),
    "dt_proj_weight": ("dt_projs_weight", "dt_projs.weight"),
    "dt_proj_bias": ("dt_projs_bias",),
    "A_log": ("A_logs",),
    "D": ("Ds",),
}  # ours: the authors', and those of the later version
# stem and downsampling: (ours, the authors') of the first version, and of the later one
_CUT = {"stem": {"conv": "0", "norm": "2"}, "downsample": {"norm": "1", "reduction": "2"}}
_CONVOLVED = {
    "stem": {"conv1": "0", "norm1": "2", "conv2": "5", "norm2": "7"},
    "downsample": {"conv": "1", "norm": "3"},
}
_OF_ALL_PATHS = r"mixer\.(x|dt)_proj_weight$"
_RESIDUAL = "residual_projection."


def _layout_of(state: Mapping[str, Tensor]) -> str | None:
    if {f"stages.0.blocks.0.mixer.{name}" for name in ("x_proj_weight", "A_log")} <= state.keys():
        return "mambaout_edu"
    names = ("op", "self_attention")
    return "official" if any(f"layers.0.blocks.0.{name}.A_logs" in state for name in names) else None


def _is_residual(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(_RESIDUAL) for key in state)


def _to_ours(state: State) -> State:
    state = rename(state, _OLD_NAMES)
    names = _CONVOLVED if "patch_embed.5.weight" in state else _CUT
    rules = [(rf"^patch_embed\.{theirs}\.", f"stem.{ours}.") for ours, theirs in names["stem"].items()]
    rules += [(rf"^classifier\.{theirs}\.", f"head.{ours}.") for ours, theirs in (("norm", "norm"), ("fc", "head"))]
    for ours, all_theirs in _MIXER.items():
        rules += [
            (rf"^layers\.(\d+)\.blocks\.(\d+)\.op\.{re.escape(theirs)}$", rf"stages.\1.blocks.\2.mixer.{ours}")
            for theirs in all_theirs
        ]
    rules += [
        (r"^layers\.(\d+)\.blocks\.(\d+)\.op\.", r"stages.\1.blocks.\2.mixer."),
        (r"^layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    ]
    state = rename(state, rules)
    paths = next((len(value) for key, value in state.items() if key.endswith("dt_proj_bias")), 4)
    return {_our_downsample(key, names["downsample"]): _our_shape(key, value, paths) for key, value in state.items()}


def _our_downsample(key: str, names: Mapping[str, str]) -> str:
    found = re.match(r"layers\.(\d+)\.downsample\.(\w+)\.", key)
    if not found:
        return key
    ours = {theirs: ours for ours, theirs in names.items()}.get(found[2], found[2])
    return f"stages.{int(found[1]) + 1}.downsample.{ours}.{key[found.end() :]}"


def _our_shape(key: str, value: Tensor, paths: int) -> Tensor:
    """Take projections of all paths apart, and linear layers that were saved as 1x1 convolutions."""
    if re.search(_OF_ALL_PATHS, key) and value.ndim == 2:
        return value.unflatten(0, (paths, -1))
    if re.search(r"\.(in_proj|out_proj|fc1|fc2)\.weight$", key) and value.ndim == 4:
        return value.flatten(1)
    return value


def _to_official(state: State, residual: bool) -> State:
    names = _CONVOLVED if "stem.conv1.weight" in state else _CUT
    later = not any(key.endswith("mixer.conv2d.bias") for key in state)
    rules = [(rf"^stem\.{ours}\.", f"patch_embed.{theirs}.") for ours, theirs in names["stem"].items()]
    rules += [(r"^head\.norm\.", "classifier.norm."), (r"^head\.fc\.", "classifier.head.")]
    for ours, theirs in _MIXER.items():
        rules.append((rf"^stages\.(\d+)\.blocks\.(\d+)\.mixer\.{ours}$", rf"layers.\1.blocks.\2.op.{theirs[-later]}"))
    rules += [
        (r"^stages\.(\d+)\.blocks\.(\d+)\.mixer\.", r"layers.\1.blocks.\2.op."),
        (r"^stages\.(\d+)\.blocks\.", r"layers.\1.blocks."),
    ]
    if later:
        state = {key: value.flatten(0, 1) if re.search(_OF_ALL_PATHS, key) else value for key, value in state.items()}
    own = {name: name for name in names["downsample"]} if residual else names["downsample"]  # Res-VMamba's are older
    return {_their_downsample(key, own): value for key, value in rename(state, rules).items()}


def _their_downsample(key: str, names: Mapping[str, str]) -> str:
    found = re.match(r"stages\.(\d+)\.downsample\.(\w+)\.", key)
    return f"layers.{int(found[1]) - 1}.downsample.{names[found[2]]}.{key[found.end() :]}" if found else key


def _convert(state: State, layout: str, residual: bool) -> State:
    if layout == "timm":
        raise ValueError("timm has no VMamba, so it has no keys for one; export with layout='official'")
    return _to_ours(state) if layout == "mambaout_edu" else _to_official(state, residual)


def _fits(state: Mapping[str, Tensor], family: str, variants: Mapping[str, dict[str, Any]], **more: str) -> Fit:
    """Return which model a state in our layout fits; `more` are arguments that its keys tell."""
    depths: dict[int, int] = {}
    for key in state:
        if found := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.", key):
            stage, block = int(found[1]), int(found[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    dims = tuple(len(state[f"stages.{stage}.blocks.0.norm.weight"]) for stage in sorted(depths))
    rows, d_state = state["stages.0.blocks.0.mixer.A_log"].shape
    paths = state.get("stages.0.blocks.0.mixer.x_proj_weight")
    ratio = rows / (4 if paths is None else len(paths)) / dims[0]
    sizes = (tuple(depths[stage] for stage in sorted(depths)), dims, d_state, ratio)
    own = {n: (c["depths"], c["dims"], c.get("d_state", 1), c.get("ssm_ratio", 1.0)) for n, c in variants.items()}
    names = tuple(name for name, known in own.items() if known == sizes)
    call = f"{family}(depths={sizes[0]}, dims={dims}, d_state={d_state}, ssm_ratio={ratio:g}"
    classes = len(state["head.fc.weight"]) if "head.fc.weight" in state else 0
    chans = next(value.shape[1] for key, value in state.items() if key.startswith("stem.") and value.ndim == 4)
    return Fit(names, call, {**more, "num_classes": classes, "in_chans": chans})


def _identify(state: Mapping[str, Tensor]) -> Fit:
    from mambaout_edu.models.vmamba import VMAMBA

    return _fits(state, "VMamba", VMAMBA)


def _identify_residual(state: Mapping[str, Tensor]) -> Fit:
    from mambaout_edu.models.res_vmamba import RES_VMAMBA

    if not _is_residual(state):
        note = ". The published code draws its projections anew in every pass and saves none."
        return replace(_fits(state, "ResVMamba", RES_VMAMBA, residual="published"), note=note)
    sources = {value.shape[1] for key, value in state.items() if key.startswith(_RESIDUAL) and value.ndim == 4}
    return _fits(state, "ResVMamba", RES_VMAMBA, residual="stem" if len(sources) == 1 else "stage")


_EXPECTED = "the authors' keys (patch_embed.0.weight, layers.0.blocks.0.op.A_logs, ...)"

VMAMBA_KEYS = Keys(
    family="VMamba",
    expected=_EXPECTED,
    layout_of=lambda state: None if _is_residual(state) else _layout_of(state),
    convert=lambda state, source, layout: _convert(state, layout, residual=False),
    identify=_identify,
)
# The published Res-VMamba saves no projections, so its weights look like a VMamba's; both families know such keys.
RES_VMAMBA_KEYS = Keys(
    family="ResVMamba",
    expected=_EXPECTED,
    layout_of=_layout_of,
    convert=lambda state, source, layout: _convert(state, layout, residual=True),
    identify=_identify_residual,
)

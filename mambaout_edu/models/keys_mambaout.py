"""The keys of a MambaOut in timm's, the authors' and our layout, told apart by themselves.

"official"      downsample_layers.0.conv1, stages.0.0.conv, norm, head.fc1, head.norm, head.fc2
"timm"          stem.conv1, stages.0.blocks.0.conv, head.norm, head.pre_logits.fc, ...
"mambaout_edu"  timm's, but for stages.0.blocks.0.mixer
"""

import re
from collections.abc import Mapping

from torch import Tensor

from mambaout_edu.models.keys import Fit, Keys, State, rename

__all__ = ["MAMBAOUT_KEYS"]

_OFFICIAL_TO_TIMM = [
    (r"^downsample_layers\.0\.", r"stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^norm\.", r"head.norm."),
    (r"^head\.fc1\.", r"head.pre_logits.fc."),
    (r"^head\.norm\.", r"head.pre_logits.norm."),
    (r"^head\.fc2\.", r"head.fc."),
]
_TIMM_TO_OFFICIAL = [
    (r"^stem\.", r"downsample_layers.0."),
    (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.\2."),
    (r"^head\.norm\.", r"norm."),
    (r"^head\.pre_logits\.fc\.", r"head.fc1."),
    (r"^head\.pre_logits\.norm\.", r"head.norm."),
    (r"^head\.fc\.", r"head.fc2."),
]
_TIMM_TO_OURS = [(r"^(stages\.\d+\.blocks\.\d+)\.conv\.", r"\1.mixer.")]
_OURS_TO_TIMM = [(r"^(stages\.\d+\.blocks\.\d+)\.mixer\.", r"\1.conv.")]


def _layout_of(state: Mapping[str, Tensor]) -> str | None:
    if "downsample_layers.0.conv1.weight" in state:
        return "official"
    if "stem.conv1.weight" in state and "stages.0.blocks.0.fc1.weight" in state:  # the latter, as VMamba has the former
        if any(re.match(_TIMM_TO_OURS[0][0], key) for key in state):
            return "timm"
        if any(re.match(_OURS_TO_TIMM[0][0], key) for key in state):
            return "mambaout_edu"
    return None


def _convert(state: State, source: str, layout: str) -> State:
    if source == "official":
        state = rename(state, _OFFICIAL_TO_TIMM)
    elif source == "mambaout_edu":
        state = rename(state, _OURS_TO_TIMM)
    if layout == "mambaout_edu":
        return rename(state, _TIMM_TO_OURS)
    if layout == "official":
        if "stem.norm1.weight" not in state or any(".ls." in key for key in state):
            raise ValueError(
                "the authors' layout has no keys for timm's *_rw variants (LayerScale, no norm inside the stem); "
                "export them with layout='timm'"
            )
        return rename(state, _TIMM_TO_OFFICIAL)
    return state


def _identify(state: Mapping[str, Tensor]) -> Fit:
    from mambaout_edu.models.registry import MAMBAOUT

    stages = sorted({int(m[1]) for key in state if (m := re.match(r"stages\.(\d+)\.blocks\.", key))})
    depths = tuple(
        len({m[1] for key in state if (m := re.match(rf"stages\.{i}\.blocks\.(\d+)\.", key))}) for i in stages
    )
    dims = tuple(state[f"stages.{i}.blocks.0.fc2.weight"].shape[0] for i in stages)
    classes = state["head.fc.weight"].shape[0] if "head.fc.weight" in state else 0
    names = tuple(name for name, c in MAMBAOUT.items() if (c["depths"], c["dims"]) == (depths, dims))
    chans = state["stem.conv1.weight"].shape[1]
    return Fit(names, f"MambaOut(depths={depths}, dims={dims}", {"num_classes": classes, "in_chans": chans})


MAMBAOUT_KEYS = Keys(
    family="MambaOut",
    expected=(
        "the authors' keys (downsample_layers.0.conv1.weight, ...) "
        "or timm's (stem.conv1.weight, stages.0.blocks.0.conv.weight, ...)"
    ),
    layout_of=_layout_of,
    convert=_convert,
    identify=_identify,
)

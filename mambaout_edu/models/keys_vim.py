"""The keys of a Vim in its authors' layout and in ours; timm has no Vim.

"official"      patch_embed.proj, layers.0.norm, layers.0.mixer.A_log, norm_f, head
"mambaout_edu"  blocks.0 for layers.0 and norm for norm_f, as in timm's models; the rest is the same
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mambaout_edu.models.keys import Fit, Keys, State, rename

__all__ = ["VIM_KEYS"]

_OFFICIAL_TO_OURS = [(r"^layers\.(\d+)\.", r"blocks.\1."), (r"^norm_f\.", r"norm.")]
_OURS_TO_OFFICIAL = [(r"^blocks\.(\d+)\.", r"layers.\1."), (r"^norm\.", r"norm_f.")]


def _layout_of(state: Mapping[str, Tensor]) -> str | None:
    for prefix, layout in (("layers", "official"), ("blocks", "mambaout_edu")):
        if f"{prefix}.0.mixer.A_b_log" in state and "patch_embed.proj.weight" in state:
            return layout
    return None


def _convert(state: State, source: str, layout: str) -> State:
    if layout == "timm":
        raise ValueError("timm has no Vim, so it has no keys for one; export with layout='official'")
    return rename(state, _OFFICIAL_TO_OURS if layout == "mambaout_edu" else _OURS_TO_OFFICIAL)


def _identify(state: Mapping[str, Tensor]) -> Fit:
    from mambaout_edu.models.vim import VIM

    depth = len({m[1] for key in state if (m := re.match(r"blocks\.(\d+)\.", key))})
    dim, chans, patch, _ = state["patch_embed.proj.weight"].shape
    classes = state["head.weight"].shape[0] if "head.weight" in state else 0
    tokens = 1 if "cls_token" in state else 2 if "cls_token_head" in state else 0
    positions = state["pos_embed"].shape[1] - tokens if "pos_embed" in state else 0
    alike = [n for n, c in VIM.items() if (c["depth"], c["embed_dim"], c["patch_size"]) == (depth, dim, patch)]
    # The stride shows in no weight but the number of positions, if those are for the usual 224 pixels.
    alike.sort(key=lambda n: ((224 - patch) // VIM[n]["stride"] + 1) ** 2 != positions)
    side = math.isqrt(positions)
    square = side * side == positions
    arguments: dict[str, Any] = {"num_classes": classes, "in_chans": chans}
    if square and alike and (size := (side - 1) * VIM[alike[0]]["stride"] + patch) != 224:
        arguments["img_size"] = size
    if tokens != 1:
        arguments |= {"class_token": "double"} if tokens else {"class_token": None, "global_pool": "avg"}
    made_for = f" with class tokens: {tokens}, positions of patches: {f'{side} x {side}' if square else positions}."
    return Fit(tuple(alike), f"Vim(patch_size={patch}, embed_dim={dim}, depth={depth}", arguments, made_for)


VIM_KEYS = Keys(
    family="Vim",
    expected="the authors' keys (patch_embed.proj.weight, layers.0.mixer.A_b_log, ...)",
    layout_of=_layout_of,
    convert=_convert,
    identify=_identify,
)

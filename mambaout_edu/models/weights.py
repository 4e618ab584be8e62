"""Weights from elsewhere and back: timm's keys and the authors' keys, mapped to ours.

Layouts of a MambaOut state, told apart by their keys:

    "official"      downsample_layers.0.conv1, stages.0.0.conv, norm, head.fc1, head.norm, head.fc2
    "timm"          stem.conv1, stages.0.blocks.0.conv, head.norm, head.pre_logits.fc, ...
    "mambaout_edu"  timm's, but for stages.0.blocks.0.mixer
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["export_state_dict", "load_official", "to_layout"]

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

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # how training scripts nest a state


def _rename(state: Mapping[str, Tensor], rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    # A key takes the first rule that fits it, so that norm -> head.norm cannot meet head.norm -> pre_logits.norm.
    def one(key: str) -> str:
        for pattern, replacement in rules:
            renamed, hits = re.subn(pattern, replacement, key)
            if hits:
                return renamed
        return key

    return {one(key): value for key, value in state.items()}


def _unwrap(state: Mapping[str, object]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        inner = state.get(wrapper)
        if isinstance(inner, Mapping):
            return _unwrap(inner)
    return {key.removeprefix("module."): value for key, value in state.items()}  # type: ignore[misc]


def _layout(state: Mapping[str, Tensor]) -> str:
    keys = list(state)
    if "downsample_layers.0.conv1.weight" in keys:
        return "official"
    if "stem.conv1.weight" in keys:
        if any(re.match(_TIMM_TO_OURS[0][0], key) for key in keys):
            return "timm"
        if any(re.match(_OURS_TO_TIMM[0][0], key) for key in keys):
            return "mambaout_edu"
    shown = ", ".join(keys[:4]) or "no keys at all"
    raise ValueError(
        "these are not the weights of a MambaOut: expected the authors' keys (downsample_layers.0.conv1.weight, ...) "
        f"or timm's (stem.conv1.weight, stages.0.blocks.0.conv.weight, ...); got {shown}"
    )


def to_layout(state_dict: Mapping[str, object], layout: str) -> dict[str, Tensor]:
    """Return a MambaOut state under the keys of `layout`, whichever layout it comes in.

    A state nested under "model", "state_dict" or their EMA forms is taken out (the EMA first), and a
    leading "module." of data-parallel training is dropped. Tensors are shared, not copied.

    Raises ValueError if the keys are no MambaOut's, the layout is unknown, or the weights hold parts
    (timm's `*_rw` models) that the authors' layout has no keys for.

    >>> from mambaout_edu.models import create_model
    >>> state = create_model("mambaout_pico_8").state_dict()
    >>> sorted(to_layout(state, "official"))[0]
    'downsample_layers.0.conv1.bias'
    """
    if layout not in ("mambaout_edu", "official", "timm"):
        raise ValueError(f"layout must be 'timm', 'official' or 'mambaout_edu'; got {layout!r}")
    state = _unwrap(state_dict)
    source = _layout(state)
    if source == layout:
        return state
    if source == "official":
        state = _rename(state, _OFFICIAL_TO_TIMM)
    elif source == "mambaout_edu":
        state = _rename(state, _OURS_TO_TIMM)
    if layout == "mambaout_edu":
        return _rename(state, _TIMM_TO_OURS)
    if layout == "official":
        if "stem.norm1.weight" not in state or any(".ls." in key for key in state):
            raise ValueError(
                "the authors' layout has no keys for timm's *_rw variants (LayerScale, no norm inside the stem); "
                "export them with layout='timm'"
            )
        return _rename(state, _TIMM_TO_OFFICIAL)
    return state


def load_official(model: nn.Module, state_dict: Mapping[str, object]) -> None:
    """Load weights under the authors' keys, timm's or ours into a MambaOut, all of them or none.

    Parameters
    ----------
    model
        A `MambaOut` of the same variant.
    state_dict
        What `safetensors.torch.load_file` or `torch.load(path, weights_only=True)` gives.

    Raises
    ------
    ValueError
        If the weights are another family's or variant's; the message says which variant they are.

    Examples
    --------
    >>> from mambaout_edu.models import create_model
    >>> source, target = create_model("mambaout_pico_8"), create_model("mambaout_pico_8")
    >>> load_official(target, export_state_dict(source, layout="official"))
    """
    state = to_layout(state_dict, "mambaout_edu")
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    misshapen = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    if missing or unexpected or misshapen:
        details = [
            f"{len(keys)} {what} (such as {keys[0]}{_shapes(own, state, keys[0])})"
            for what, keys in (
                ("keys that the weights lack", missing),
                ("keys that the model lacks", unexpected),
                ("tensors of another shape", misshapen),
            )
            if keys
        ]
        raise ValueError(f"the weights do not fit the model: {'; '.join(details)}. {_identify(state)}")
    model.load_state_dict(state)


def _shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor], key: str) -> str:
    if key not in own or key not in state:
        return ""
    return f": weights {tuple(state[key].shape)}, model {tuple(own[key].shape)}"


def _identify(state: Mapping[str, Tensor]) -> str:
    """Say in one sentence which variant a state (in our layout) belongs to."""
    from mambaout_edu.models.registry import MODELS

    stages = sorted({int(m[1]) for key in state if (m := re.match(r"stages\.(\d+)\.blocks\.", key))})
    depths = tuple(
        len({m[1] for key in state if (m := re.match(rf"stages\.{i}\.blocks\.(\d+)\.", key))}) for i in stages
    )
    dims = tuple(state[f"stages.{i}.blocks.0.fc2.weight"].shape[0] for i in stages)
    classes = state["head.fc.weight"].shape[0] if "head.fc.weight" in state else 0
    name = next((n for n, c in MODELS.items() if (c["depths"], c["dims"]) == (depths, dims)), None)
    create = f"create_model({name!r}" if name else f"MambaOut(depths={depths}, dims={dims}"
    chans = state["stem.conv1.weight"].shape[1]
    return f"They fit {create}, num_classes={classes}, in_chans={chans})."


def export_state_dict(model: nn.Module, layout: str = "timm") -> dict[str, Tensor]:
    """Return a MambaOut's weights under timm's keys or the authors' ("timm" or "official").

    Raises ValueError for an unknown layout, or one that cannot hold this variant.

    >>> from mambaout_edu.models import create_model
    >>> "stages.0.blocks.0.conv.weight" in export_state_dict(create_model("mambaout_pico_8"))
    True
    """
    return to_layout(model.state_dict(), layout)

"""Weights from elsewhere and back: the authors' keys and timm's, mapped to ours, for every family of models.

What a family calls its weights stands in its own `keys_*.py`; a new family joins by a line in `FAMILIES`.
"""

import os
from collections.abc import Mapping

from torch import Tensor, nn

from mambaout_edu.models.keys import Fit, Keys, State, unwrap
from mambaout_edu.models.keys_mambaout import MAMBAOUT_KEYS
from mambaout_edu.models.keys_vim import VIM_KEYS
from mambaout_edu.models.keys_vmamba import RES_VMAMBA_KEYS, VMAMBA_KEYS
from mambaout_edu.models.weight_files import read_weights

__all__ = ["export_state_dict", "load_official", "to_layout"]

FAMILIES: dict[str, Keys] = {keys.family: keys for keys in (MAMBAOUT_KEYS, VIM_KEYS, VMAMBA_KEYS, RES_VMAMBA_KEYS)}
LAYOUTS = ("timm", "official", "mambaout_edu")


def to_layout(state_dict: Mapping[str, object], layout: str) -> dict[str, Tensor]:
    """Return a state under the keys of `layout`, whichever layout and family it comes in.

    A state nested under "model", "state_dict" or their EMA forms is taken out (the EMA first), and a
    leading "module." of data-parallel training is dropped. Tensors are shared, not copied.

    Raises ValueError if the keys are no known family's, the layout is unknown, or the layout has no keys
    for these weights (as timm has none for a Vim, and MambaOut's authors none for timm's `*_rw` models).

    >>> from mambaout_edu.models import create_model
    >>> state = create_model("mambaout_pico_8").state_dict()
    >>> sorted(to_layout(state, "official"))[0]
    'downsample_layers.0.conv1.bias'
    """
    _check_layout(layout)
    state = unwrap(state_dict)
    keys = recognise(state)
    if keys is None:
        raise ValueError(_unknown(state, *FAMILIES.values()))
    return relayout(keys, state, layout)


def load_official(model: nn.Module, state_dict: Mapping[str, object] | str | os.PathLike[str]) -> None:
    """Load weights under the authors' keys, timm's or ours into a model of this package, all of them or none.

    Parameters
    ----------
    model
        A model of the same family and variant.
    state_dict
        The path of a `.pth` or `.safetensors` file; or what `safetensors.torch.load_file` or
        `torch.load(path, weights_only=True)` gives.

    Raises
    ------
    TypeError
        If the model is of no family with published weights.
    ValueError
        If the weights are another family's or variant's; the message says which variant they are. Or the file is torn,
        or would need code to run; see `weight_files.read_weights`.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from mambaout_edu.models import create_model
    >>> source, target = create_model("mambaout_pico_8"), create_model("mambaout_pico_8")
    >>> load_official(target, export_state_dict(source, layout="official"))
    """
    keys = family_of(model)
    state = unwrap(state_dict) if isinstance(state_dict, Mapping) else read_weights(state_dict).state
    if keys.layout_of(state) is None:
        raise ValueError(not_of(keys, state))
    state = relayout(keys, state, "mambaout_edu")
    if misfit := misfit_of(model.state_dict(), state):
        raise ValueError(f"the weights do not fit the model: {misfit}. {fit_of(keys, state)}")
    model.load_state_dict(state)


def export_state_dict(model: nn.Module, layout: str = "timm") -> dict[str, Tensor]:
    """Return a model's weights under timm's keys or the authors' ("timm" or "official").

    Raises TypeError for a model of no family with published weights, and ValueError for an unknown layout or one that
    cannot hold this variant.

    >>> from mambaout_edu.models import create_model
    >>> "stages.0.blocks.0.conv.weight" in export_state_dict(create_model("mambaout_pico_8"))
    True
    """
    _check_layout(layout)
    keys, state = family_of(model), dict(model.state_dict())
    if keys.layout_of(state) is None:
        raise ValueError(_unknown(state, keys))
    return relayout(keys, state, layout)


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be 'timm', 'official' or 'mambaout_edu'; got {layout!r}")


def family_of(model: nn.Module) -> Keys:
    """Return what the family of a model knows of its keys; TypeError for a model of none."""
    for base in type(model).__mro__:
        if base.__name__ in FAMILIES:
            return FAMILIES[base.__name__]
    raise TypeError(f"expected a model of the families {', '.join(FAMILIES)}; got a {type(model).__name__}")


def recognise(state: Mapping[str, Tensor]) -> Keys | None:
    """Return what the family of a state knows of its keys; None for a state of none."""
    return next((keys for keys in FAMILIES.values() if keys.layout_of(state)), None)


def relayout(keys: Keys, state: State, layout: str) -> State:
    """Return a family's state under the keys of a layout: itself, if it has them already."""
    source = keys.layout_of(state)
    return state if source is None or source == layout else keys.convert(state, source, layout)


def fit_of(keys: Keys, state: Mapping[str, Tensor]) -> Fit:
    """Return which model of the family a state in our layout fits; ValueError if the state is too torn to tell."""
    try:
        return keys.identify(state)
    except (KeyError, StopIteration, IndexError, ValueError) as error:
        lacking = f"they lack {error}" if isinstance(error, KeyError) else "a weight that tells it is missing or torn"
        raise ValueError(
            f"these are weights of a {keys.family}, but of which size cannot be told: {lacking}. Fetch the file again."
        ) from error


def not_of(keys: Keys, state: State) -> str:
    """Say that a state is not of this family, and which it is."""
    other = recognise(state)
    if other is None:
        return _unknown(state, keys)
    fits = fit_of(other, relayout(other, state, "mambaout_edu"))
    return f"these are not the weights of a {keys.family}: they are a {other.family}'s. {fits}"


def _unknown(state: Mapping[str, Tensor], *families: Keys) -> str:
    shown = ", ".join(list(state)[:4]) or "no keys at all"
    names = " or ".join(f"a {keys.family}" for keys in families)
    expected = "; or ".join(keys.expected for keys in families)
    return f"these are not the weights of {names}: expected {expected}; got {shown}"


def misfit_of(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Say which keys and shapes of the weights are not the model's own; nothing where all are."""
    groups = (
        ("keys that the weights lack", sorted(own.keys() - state.keys())),
        ("keys that the model lacks", sorted(state.keys() - own.keys())),
        ("tensors of another shape", sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)),
    )
    return "; ".join(f"{len(keys)} {what} (such as {_shown(own, state, keys[0])})" for what, keys in groups if keys)


def _shown(own: Mapping[str, Tensor], state: Mapping[str, Tensor], key: str) -> str:
    if key not in own or key not in state:
        return key
    return f"{key}: weights {tuple(state[key].shape)}, model {tuple(own[key].shape)}"

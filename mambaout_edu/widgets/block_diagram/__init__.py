"""The Mamba block and the gated CNN block side by side, and the one thing that tells them apart."""

from typing import Any

import traitlets

from mambaout_edu.widgets._base import Widget

__all__ = ["PARTS", "BlockDiagram"]

PARTS = (
    "input",
    "norm",
    "value",
    "gate",
    "conv",
    "conv_act",
    "ssm",
    "gate_act",
    "product",
    "out",
    "add",
)


class BlockDiagram(Widget):
    """Show the meta-block of MambaOut twice, with the SSM and without, and count both in the page.

    Both blocks are Y = (TokenMixer(X' W1) * act(X' W2)) W3 + X with X' = Norm(X). The gated CNN
    block has TokenMixer(Z) = Conv(Z), the Mamba block TokenMixer(Z) = SSM(act(Conv(Z))). Images
    are [B, H, W, C]. The SSM acts on the channels that the convolution acts on, with the rank of
    delta at ceil(dim / 16), as in Mamba.

    Parameters
    ----------
    dim, height, width : int
        The channels and the size of the feature map, [B, height, width, dim].
    expansion_ratio : float
        Hidden channels per channel, truncated to a whole number.
    conv_ratio : float or None
        Convolved channels per channel; None convolves all hidden channels, as the equations do.
    kernel_size, d_state : int
        The side of the depthwise kernel, and the state size of the SSM.
    ssm : bool
        False takes the SSM, and the activation before it, out of the left block.
    selected : str
        The part that is explained, one of `PARTS`, or "" for none.

    Raises
    ------
    TypeError
        For an unknown name.
    traitlets.TraitError
        For a size below 1, an even kernel, or a part that does not exist.

    References
    ----------
    Yu and Wang, "MambaOut: Do We Really Need Mamba for Vision?", CVPR 2025, equations 8-11.

    Examples
    --------
    >>> from mambaout_edu.widgets import BlockDiagram
    >>> BlockDiagram(dim=96, height=56, width=56)
    BlockDiagram(dim=96, height=56, width=56, ssm=True, selected='')
    """

    strings_prefix = "block."
    repr_traits = ("dim", "height", "width", "ssm", "selected")

    dim = traitlets.Int(96, min=1).tag(sync=True)
    height = traitlets.Int(56, min=1).tag(sync=True)
    width = traitlets.Int(56, min=1).tag(sync=True)
    expansion_ratio = traitlets.Float(8 / 3).tag(sync=True)
    conv_ratio = traitlets.Float(1.0, allow_none=True).tag(sync=True)
    kernel_size = traitlets.Int(7, min=1).tag(sync=True)
    d_state = traitlets.Int(16, min=1).tag(sync=True)
    ssm = traitlets.Bool(True).tag(sync=True)
    selected = traitlets.Enum(("", *PARTS), default_value="").tag(sync=True)

    @traitlets.validate("kernel_size")
    def _odd_kernel(self, proposal: dict[str, Any]) -> int:
        size = int(proposal["value"])
        if size % 2 == 0:
            raise traitlets.TraitError(
                f"kernel_size is {size}; an even kernel has no middle, take {size - 1} or {size + 1}"
            )
        return size

    @traitlets.validate("dim", "expansion_ratio", "conv_ratio")
    def _possible_sizes(self, proposal: dict[str, Any]) -> Any:
        sizes = {name: getattr(self, name) for name in ("dim", "expansion_ratio", "conv_ratio")}
        sizes[proposal["trait"].name] = proposal["value"]
        dim, expansion, ratio = sizes.values()
        hidden = int(expansion * dim)
        convolved = hidden if ratio is None else int(ratio * dim)
        if not 1 <= convolved <= hidden:
            raise traitlets.TraitError(
                f"dim={dim}, expansion_ratio={expansion:.4g} and conv_ratio={ratio} give {hidden} hidden and "
                f"{convolved} convolved channels; at least 1 channel must be convolved and no more than are hidden"
            )
        return proposal["value"]

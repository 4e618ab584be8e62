"""The meta-block that Mamba and the gated CNN share, and the gated CNN block itself.

MambaOut (Yu and Wang, CVPR 2025) writes both as one block (eq. 8 and 9)

    X' = Norm(X)
    Y  = (TokenMixer(X' W1) * act(X' W2)) W3 + X

that differs in the token mixer alone: `TokenMixer(Z) = Conv(Z)` is the gated CNN (eq. 10),
`TokenMixer(Z) = SSM(act(Conv(Z)))` is Mamba (eq. 11). In the published code one linear layer, `fc1`,
holds W2 and W1 side by side, `fc2` is W3, and the mixer sees only some channels of X' W1: the
others pass untouched (a partial convolution, for speed).

glossary
    D   channels of the block (`dim`)
    h   hidden channels of gate and value, int(expansion_ratio * D)
    cc  channels that are mixed, int(conv_ratio * D); h - cc are not
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerScale
from torch import Tensor, nn

from mambaout_edu.blocks.counting import hidden_channels, mixed_channels
from mambaout_edu.mixers import DepthwiseConv

__all__ = ["GatedBlock", "GatedCNNBlock", "gated_product", "split_gate"]

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


def split_gate(x: Tensor, hidden: int, conv_channels: int, dim: int = -1) -> tuple[Tensor, Tensor, Tensor]:
    """Split the output of `fc1` into gate, identity and conv channels, in the published order.

    Parameters
    ----------
    x
        [..., 2 * hidden], the output of `fc1`; or its weight or bias, whose rows (`dim` 0) have the same order.
    hidden
        Channels h of the gate, and of the value.
    conv_channels
        Channels cc of the value that will be mixed, at most `hidden`.
    dim
        The axis to split.

    Returns
    -------
    tuple
        gate [..., h], identity [..., h - cc], conv [..., cc].

    Raises
    ------
    ValueError
        If the axis is not 2 * hidden long, or conv_channels is not in 0 ... hidden.

    Examples
    --------
    >>> [part.shape[-1] for part in split_gate(torch.zeros(1, 12), hidden=6, conv_channels=2)]
    [6, 4, 2]
    """
    if not 0 <= conv_channels <= hidden:
        raise ValueError(f"conv_channels must be in 0 ... hidden = {hidden}; got {conv_channels}")
    if x.shape[dim] != 2 * hidden:
        raise ValueError(
            f"axis {dim} must hold gate and value, 2 * hidden = {2 * hidden} channels; got shape {tuple(x.shape)}"
        )
    gate, identity, conv = torch.split(x, [hidden, hidden - conv_channels, conv_channels], dim=dim)
    return gate, identity, conv


def gated_product(gate: Tensor, identity: Tensor, mixed: Tensor, act: Callable[[Tensor], Tensor] = F.gelu) -> Tensor:
    """Return `act(gate) * [identity, mixed]`, the product in MambaOut's eq. 9.

    Parameters
    ----------
    gate
        [..., h]; the activation acts here and nowhere else.
    identity
        [..., h - cc], the value channels that were not mixed.
    mixed
        [..., cc], the value channels after the token mixer.
    act
        The activation, exact GELU in the paper's models.

    Returns
    -------
    Tensor
        [..., h].

    Raises
    ------
    ValueError
        If identity and mixed together do not have the gate's channels.

    Examples
    --------
    >>> gated_product(torch.ones(1, 3), torch.ones(1, 2), torch.zeros(1, 1), act=torch.relu)
    tensor([[1., 1., 0.]])
    """
    if identity.shape[-1] + mixed.shape[-1] != gate.shape[-1]:
        raise ValueError(
            f"identity and mixed must have the gate's {gate.shape[-1]} channels together; "
            f"got {identity.shape[-1]} + {mixed.shape[-1]}"
        )
    return act(gate) * torch.cat((identity, mixed), dim=-1)  # [..., h]


class GatedBlock(nn.Module):
    """Norm, expand, mix the tokens inside a gate, contract, add (MambaOut, eq. 8-9).

    Parameters
    ----------
    dim
        Channels D of the block.
    mixer
        Called with the number of mixed channels cc, returns the module that maps [B, H, W, cc] to itself.
    expansion_ratio
        Hidden channels over D; the paper's models use 8/3.
    conv_ratio
        Mixed channels over D; None mixes all hidden channels, as the paper's equations do.
    ls_init_value
        Start value of a LayerScale on the branch; None leaves it out, as the paper's models do.
    norm_layer, act_layer
        Constructors of the norm (called with D) and of the gate's activation.
    drop_path
        Probability with which training drops the branch of a whole sample.
    pad_hidden
        Compute with h rounded up to a multiple of this, the channels beyond h being zero; None computes with h as
        it is. Parameters, state and outputs stay (but for rounding); GPUs multiply matrices of such widths faster.

    Raises
    ------
    ValueError
        If a size is not positive, more channels are to be mixed than there are, or the input is not [B, H, W, D].

    Examples
    --------
    >>> block = GatedBlock(16, mixer=partial(DepthwiseConv, kernel_size=3))
    >>> block(torch.zeros(2, 7, 5, 16)).shape
    torch.Size([2, 7, 5, 16])
    """

    part = "channel mixing"  # all but the mixer, which books itself as token mixing

    def __init__(
        self,
        dim: int,
        mixer: Callable[[int], nn.Module] = DepthwiseConv,
        expansion_ratio: float = 8 / 3,
        conv_ratio: float | None = 1.0,
        ls_init_value: float | None = None,
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop_path: float = 0.0,
        pad_hidden: int | None = None,
    ) -> None:
        super().__init__()
        if pad_hidden is not None and pad_hidden < 1:
            raise ValueError(f"pad_hidden must be at least 1, such as 8, or None for no padding; got {pad_hidden}")
        hidden = hidden_channels(dim, expansion_ratio)
        mixed = mixed_channels(dim, expansion_ratio, conv_ratio)
        self.dim = dim
        self.split_indices = (hidden, hidden - mixed, mixed)  # gate, identity, conv: timm's name and order
        self.padding = -hidden % pad_hidden if pad_hidden else 0  # zero channels beside gate and value
        self.norm = norm_layer(dim)
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.act = act_layer()
        self.mixer = mixer(mixed)
        self.fc2 = nn.Linear(hidden, dim)
        self.ls = LayerScale(dim, ls_init_value) if ls_init_value is not None else nn.Identity()
        if isinstance(self.ls, LayerScale) and ls_init_value is not None:
            nn.init.constant_(self.ls.gamma, ls_init_value)  # timm 1.0.21 starts it at one, whatever it is told
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W, D] to the same shape."""
        if x.ndim != 4 or x.shape[-1] != self.dim:
            raise ValueError(
                f"{type(self).__name__}({self.dim}) expects images [B, H, W, C] with C = {self.dim} last; "
                f"got shape {tuple(x.shape)}. A torch image [B, C, H, W] becomes one with x.permute(0, 2, 3, 1)."
            )
        shortcut = x  # [B, H, W, D]
        # One large product keeps a GPU busier; on a CPU three spare the backward pass a concatenation.
        gate, identity, conv = self._expand(self.norm(x), sliced=x.device.type == "cpu")
        x = gated_product(gate, identity, self.mixer(conv), self.act)  # [B, H, W, h]
        x = self._contract(x)  # [B, H, W, D]
        return shortcut + self.drop_path(self.ls(x))

    def _expand(self, x: Tensor, sliced: bool) -> tuple[Tensor, ...]:
        """Return gate [B, H, W, h], identity [.., h - cc] and conv [.., cc], from one product or from slices of it.

        With padding p, gate and identity begin with p channels that are zero.
        """
        hidden, _, mixed = self.split_indices
        weight: Tensor = self.fc1.weight
        bias: Tensor = self.fc1.bias
        if self.padding:
            weight = F.pad(weight.view(2, hidden, self.dim), (0, 0, self.padding, 0)).flatten(0, 1)  # [2 (p + h), D]
            bias = F.pad(bias.view(2, hidden), (self.padding, 0)).flatten()  # [2 (p + h)]
            hidden += self.padding
        if not sliced:
            return split_gate(F.linear(x, weight, bias) if self.padding else self.fc1(x), hidden, mixed)
        weights, biases = split_gate(weight, hidden, mixed, dim=0), split_gate(bias, hidden, mixed, dim=0)
        return tuple(F.linear(x, w, b) for w, b in zip(weights, biases, strict=True))

    def _contract(self, x: Tensor) -> Tensor:
        """Map [B, H, W, p + h] to [B, H, W, D]."""
        if not self.padding:
            return self.fc2(x)
        return F.linear(x, F.pad(self.fc2.weight, (self.padding, 0)), self.fc2.bias)


class GatedCNNBlock(GatedBlock):
    """The block of MambaOut: `GatedBlock` with a depthwise convolution and nothing else (eq. 10).

    Parameters are those of `GatedBlock`, with the convolution's window side in place of the mixer.

    Examples
    --------
    >>> GatedCNNBlock(96).split_indices
    (256, 160, 96)
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int = 7,
        expansion_ratio: float = 8 / 3,
        conv_ratio: float | None = 1.0,
        ls_init_value: float | None = None,
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop_path: float = 0.0,
        pad_hidden: int | None = None,
    ) -> None:
        super().__init__(
            dim,
            mixer=partial(DepthwiseConv, kernel_size=kernel_size),
            expansion_ratio=expansion_ratio,
            conv_ratio=conv_ratio,
            ls_init_value=ls_init_value,
            norm_layer=norm_layer,
            act_layer=act_layer,
            drop_path=drop_path,
            pad_hidden=pad_hidden,
        )

"""Vision Mamba, "Vim" (Zhu et al., ICML 2024, arXiv 2401.09417): a ViT whose attention is a bidirectional Mamba.

    image [B, 3, H, W] -> patches [B, M, D] -> with class token and positions [B, L, D] -> blocks -> norm -> head

One resolution throughout and no MLP. The class token stands in the middle of the sequence, where a state has the least
far to carry; with two, one stands at either end. Argument names are timm's ViT's, and so are the keys of the state.

glossary
    M  patches, H / stride x W / stride       L  tokens: patches and class tokens       D  channels (`embed_dim`)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import lecun_normal_, resample_abs_pos_embed, trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mambaout_edu.mixers import BiMamba, no_weight_decay
from mambaout_edu.models.checks import check_choice, check_head, check_images
from mambaout_edu.models.parts import NormLayer
from mambaout_edu.models.tokens import CLASS_TOKENS, PatchEmbed, insert_class_tokens, separate_class_tokens
from mambaout_edu.models.vim_parts import RMSNorm, VimBlock

__all__ = ["VIM", "Vim"]

# The arguments of `Vim` behind each published name. With stride 8 the patches overlap: the authors' fine-tuned models.
VIM: dict[str, dict[str, Any]] = {
    "vim_tiny": {"patch_size": 16, "stride": 16, "embed_dim": 192, "depth": 24},
    "vim_small": {"patch_size": 16, "stride": 16, "embed_dim": 384, "depth": 24},
    "vim_base": {"patch_size": 16, "stride": 16, "embed_dim": 768, "depth": 24},
    "vim_tiny_stride8": {"patch_size": 16, "stride": 8, "embed_dim": 192, "depth": 24},
    "vim_small_stride8": {"patch_size": 16, "stride": 8, "embed_dim": 384, "depth": 24},
    "vim_base_stride8": {"patch_size": 16, "stride": 8, "embed_dim": 768, "depth": 24},
}


class Vim(nn.Module):
    """Vim for images [B, in_chans, H, W] of any size of at least one patch; source: Vim, section 3, and its code.

    Parameters
    ----------
    img_size
        Side in pixels, or (height, width), that the position embeddings are made for; for images of another size they
        are resampled on the way.
    patch_size, in_chans, num_classes, embed_dim, depth, drop_rate, pos_drop_rate, norm_layer
        As in timm's ViT; the norm is RMSNorm with epsilon 1e-5 in the published models.
    stride
        Pixels from patch to patch: `patch_size` if None, less for patches that overlap.
    global_pool
        "token" (the class token, the mean of both if there are two), "avg" (the mean of all patches) or "" (none).
    class_token
        "middle" (published), "head", "double" (one at either end) or None.
    drop_path_rate
        As in timm. Drop path rises linearly from 0 to its rate over all blocks.
    residual_in_fp32
        Whether the sum that runs through all blocks is float32 where the weights have 16 bits.
    mixer
        Called with D, returns the token mixer of a block; by default `BiMamba`.
    **mamba
        Arguments of `BiMamba`, such as `d_state` and `divide_out`.

    Raises
    ------
    ValueError
        If an option or a size is impossible, or images are of another shape or smaller than a patch.
    TypeError
        If images are not of the weights' floating type, or `mixer` comes with arguments for `BiMamba`.

    Examples
    --------
    >>> model = Vim(img_size=32, patch_size=8, embed_dim=16, depth=2, num_classes=10)
    >>> model(torch.zeros(2, 3, 32, 32)).shape, model(torch.zeros(2, 3, 40, 24)).shape
    (torch.Size([2, 10]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        embed_dim: int = 192,
        depth: int = 24,
        stride: int | None = None,
        class_token: str | None = "middle",
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: NormLayer = RMSNorm,
        residual_in_fp32: bool = True,
        mixer: Callable[[int], nn.Module] | None = None,
        **mamba: Any,
    ) -> None:
        super().__init__()
        _check(embed_dim, depth, class_token, mixer, mamba)
        self.in_chans, self.num_classes, self.embed_dim = in_chans, num_classes, embed_dim
        self.num_features = self.head_hidden_size = embed_dim
        self.class_token, self.residual_in_fp32, self.grad_checkpointing = class_token, residual_in_fp32, False
        stride = patch_size if stride is None else stride
        self.patch_embed = PatchEmbed(in_chans, embed_dim, patch_size, stride)
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grid_size = self.patch_embed.grid_size(*size)
        for name in self._class_names():
            self.register_parameter(name, nn.Parameter(torch.empty(1, 1, embed_dim)))
        length = math.prod(self.grid_size) + CLASS_TOKENS[class_token]
        self.pos_embed = nn.Parameter(torch.empty(1, length, embed_dim))  # in the order of the tokens
        self.pos_drop = nn.Dropout(pos_drop_rate)
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        mixer = mixer or partial(BiMamba, **mamba)
        self.blocks = nn.Sequential(*(VimBlock(embed_dim, mixer, norm_layer, rate) for rate in rates))
        self.feature_info = [{"num_chs": embed_dim, "reduction": stride, "module": f"blocks.{i}"} for i in range(depth)]
        self.norm = norm_layer(embed_dim)
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)
        self._init_weights()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the tokens after the last norm [B, L, D], class tokens in their places."""
        x = self._embed(x)
        for block in self.blocks:
            x = self._run(block, x)
        return self._normed(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the class scores (or the features before the last layer) of tokens [B, L, D]."""
        if self.global_pool:
            patches, tokens = separate_class_tokens(x, self.class_token)
            x = (tokens if self.global_pool == "token" else patches).mean(dim=1)  # [B, D]
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores [B, num_classes] of images [B, in_chans, H, W]."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Return the patches after the chosen blocks (all for None, the last n for an int), as timm's ViT does.

        In the form [B, D, h, w] ("NCHW") or [B, M, D] ("NLC"); with `return_prefix_tokens` each as a pair with the
        class tokens [B, T, D].
        """
        check_choice("output_fmt", output_fmt, ("NCHW", "NLC"))
        take, last = feature_take_indices(len(self.blocks), indices)
        height, width = self.patch_embed.grid_size(*x.shape[-2:]) if x.ndim == 4 else (0, 0)  # _embed refuses others
        x = self._embed(x)
        found: list[Any] = []
        for i, block in enumerate(self.blocks[: last + 1] if stop_early else self.blocks):
            x = self._run(block, x)
            if i in take:
                patches, tokens = separate_class_tokens(self._normed(x) if norm else x, self.class_token)
                if output_fmt == "NCHW":
                    patches = patches.transpose(1, 2).unflatten(2, (height, width)).contiguous()
                found.append((patches, tokens) if return_prefix_tokens else patches)
        return found if intermediates_only else (self._normed(x), found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the chosen blocks' outputs do not need; return their indices (timm's `features_only` asks)."""
        take, last = feature_take_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: last + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def set_input_size(self, img_size: int | tuple[int, int], stride: int | None = None) -> None:
        """Resample the position embeddings to another image size or stride for good, to train at that size."""
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if stride is not None:
            if stride < 1:
                raise ValueError(f"stride must be at least 1; got {stride}")
            self.patch_embed.stride, self.patch_embed.proj.stride = stride, (stride, stride)
            for info in self.feature_info:
                info["reduction"] = stride
        grid = self.patch_embed.grid_size(height, width)
        self.pos_embed = nn.Parameter(self._positions(grid).detach().clone(), self.pos_embed.requires_grad)
        self.grid_size = grid

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a new, untrained last layer (none for 0 classes)."""
        check_head(num_classes, global_pool, ("token", "avg"))
        if global_pool == "token" and self.class_token is None:
            raise ValueError("global_pool='token' needs a class token; with class_token=None use global_pool='avg'")
        if global_pool is not None:
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = nn.Linear(self.embed_dim, num_classes) if num_classes else nn.Identity()
        self.head.to(self.pos_embed.device, self.pos_embed.dtype).train(self.training)
        self.head.part = "head"  # type: ignore[assignment]  # for models.profile
        if isinstance(self.head, nn.Linear):
            _start(self.head, partial(trunc_normal_, std=0.02))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of storing its activations."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay must leave alone: positions, class tokens, and those of the SSMs."""
        return no_weight_decay(self) | {"pos_embed", *self._class_names()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns for layer-wise learning rates."""
        return {
            "stem": r"^cls_token|pos_embed|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def _class_names(self) -> list[str]:
        two = ["cls_token_head", "cls_token_tail"]
        return two if self.class_token == "double" else ["cls_token"] * CLASS_TOKENS[self.class_token]

    def _embed(self, x: Tensor) -> Tensor:
        """Return the tokens [B, L, D] of images [B, in_chans, H, W]: patches and class tokens with their positions."""
        check_images(x, self.in_chans, self.pos_embed)
        patches = self.patch_embed(x)  # [B, h, w, D]
        batch, *grid, _ = patches.shape
        x = patches.flatten(1, 2)  # [B, M, D]
        if self.class_token is not None:
            tokens = torch.cat([getattr(self, name) for name in self._class_names()], dim=1)  # [1, T, D]
            x = insert_class_tokens(x, tokens.expand(batch, -1, -1), self.class_token)  # [B, L, D]
        x = self.pos_drop(x + self._positions((grid[0], grid[1])))
        return x.float() if self.residual_in_fp32 and x.dtype in (torch.float16, torch.bfloat16) else x

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Return position embeddings [1, L, D] for a grid of patches; those of class tokens stay as they are."""
        if grid == self.grid_size:
            return self.pos_embed
        patches, tokens = separate_class_tokens(self.pos_embed, self.class_token)
        patches = resample_abs_pos_embed(patches, list(grid), list(self.grid_size), num_prefix_tokens=0)
        return insert_class_tokens(patches, tokens, self.class_token)

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _normed(self, x: Tensor) -> Tensor:
        return self.norm(x.to(self.pos_embed.dtype))

    def _init_weights(self) -> None:
        """Set start values as the authors do; those of the mixers' SSMs are set already."""
        _start(self.patch_embed.proj, lecun_normal_)
        for name in ("pos_embed", *self._class_names()):
            trunc_normal_(getattr(self, name), std=0.02)
        for name, weight in self.blocks.named_parameters():
            if name.endswith("mixer.out_proj.weight"):  # what each block adds, so that the sum does not grow with depth
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
                weight.data.div_(math.sqrt(len(self.blocks)))


def _start(layer: nn.Linear | nn.Conv2d, draw: Callable[[Tensor], object]) -> None:
    draw(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _check(
    embed_dim: int,
    depth: int,
    class_token: str | None,
    mixer: Callable[[int], nn.Module] | None,
    mamba: dict[str, Any],
) -> None:
    if min(embed_dim, depth) < 1:
        raise ValueError(f"embed_dim and depth must be at least 1; got {embed_dim} and {depth}")
    check_choice("class_token", class_token, tuple(CLASS_TOKENS))
    if mixer is not None and mamba:
        raise TypeError(f"mixer replaces BiMamba, so its arguments {', '.join(mamba)} have no use; give them to mixer")

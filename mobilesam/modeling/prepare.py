"""Make a model quicker without changing what it computes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobilesam.modeling.sam import Sam
from mobilesam.modeling.timm_import import timm

TinyVitAttention = timm.models.tiny_vit.Attention
ConvNorm = timm.models.tiny_vit.ConvNorm


class BiasedWindowAttention(nn.Module):
    """TinyViT's window attention with its position bias laid out once.

    PyTorch's CPU attention takes its slow path for the 3-D bias that timm hands it; the same
    values as a 4-D tensor take the fast one.
    """

    def __init__(self, attention: TinyVitAttention) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = attention.norm, attention.qkv, attention.proj
        self.num_heads = attention.num_heads
        self.split = [attention.key_dim, attention.key_dim, attention.val_dim]
        bias = attention.attention_biases[:, attention.attention_bias_idxs]  # (heads, N, N)
        self.register_buffer("bias", bias.detach().unsqueeze(0).contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within each of B windows of N cells: (B, N, C) to (B, N, C)."""
        return _attend(self, x, self.split, self.bias)


class TrainableWindowAttention(TinyVitAttention):
    """TinyViT's window attention with its position bias laid out anew each time.

    timm's keeps it in evaluation mode: changed weights would go unnoticed, and a second backward
    pass would fail. The parameters are timm's own.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within each of B windows of N cells: (B, N, C) to (B, N, C)."""
        bias = self.attention_biases[:, self.attention_bias_idxs].unsqueeze(0)
        return _attend(self, x, [self.key_dim, self.key_dim, self.val_dim], bias)


def _attend(
    attention: nn.Module, x: torch.Tensor, split: list[int], bias: torch.Tensor
) -> torch.Tensor:
    qkv = attention.qkv(attention.norm(x)).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    q, k, v = qkv.split(split, dim=-1)  # (B, heads, N, d)
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return attention.proj(x.transpose(1, 2).flatten(2))


def prepare_for_training(model: Sam) -> Sam:
    """Make ``model`` one that may be trained and used in turns, in place; returns it.

    In evaluation mode it computes what it did. The state dict's keys stay, gradients are on.
    """
    for module in model.modules():
        if type(module) is TinyVitAttention:
            module.__class__ = TrainableWindowAttention
    return model.requires_grad_(True).eval()


def prepare_for_inference(model: Sam) -> Sam:
    """Fold, lay out and freeze ``model`` in place; returns it.

    BatchNorm is folded into the convolution before it, convolutions work channels-last, TinyViT's
    attention bias becomes a 4-D tensor, gradients are off. Outputs change by float rounding only
    (measured by the tests: below 1e-4). The state dict's keys change, so do it after loading; it
    can be loaded back into a model of either form.
    """
    model.eval()
    _replace(model.image_encoder)
    model.requires_grad_(False)  # last: folding has made new convolutions
    return model.to(memory_format=torch.channels_last)


def _replace(module: nn.Module) -> None:
    """Replace every part of ``module`` that has a quicker equal."""
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            setattr(module, name, child.fuse())
        elif isinstance(child, TinyVitAttention):
            setattr(module, name, BiasedWindowAttention(child))
        else:
            _replace(child)

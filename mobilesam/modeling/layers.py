"""Small layers that several networks share."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of a (B, C, H, W) tensor.

    Computed in channels-last order: for a channels-last tensor both permutations are free.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x``, (B, C, H, W), at each position."""
        x_bhwc = x.permute(0, 2, 3, 1)
        x_bhwc = F.layer_norm(x_bhwc, self.weight.shape, self.weight, self.bias, self.eps)
        return x_bhwc.permute(0, 3, 1, 2)


class MLP(nn.Module):
    """``depth`` linear layers with ReLU between them, named as in SAM's checkpoints."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, depth: int) -> None:
        super().__init__()
        dims = [input_dim, *[hidden_dim] * (depth - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def neck(input_dim: int, output_dim: int) -> nn.Sequential:
    """Return SAM's neck: 1x1 convolution, norm, 3x3 convolution, norm (SAM, appendix A)."""
    return nn.Sequential(
        nn.Conv2d(input_dim, output_dim, 1, bias=False),
        LayerNorm2d(output_dim),
        nn.Conv2d(output_dim, output_dim, 3, padding=1, bias=False),
        LayerNorm2d(output_dim),
    )


def image_cells(features: torch.Tensor) -> torch.Tensor:
    """Turn (B, C, h, w) into (B, h * w, C)."""
    return features.flatten(2).transpose(1, 2)


def as_map(cells: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Turn (B, h * w, C) into (B, C, h, w); undoes ``image_cells``."""
    return cells.transpose(1, 2).unflatten(2, grid)

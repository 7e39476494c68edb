"""Attention between few tokens and many image cells, without projecting every cell.

The image cells of a decoder layer differ from prompt to prompt, so their query, key and value
projections, 256 values to 128 for each of 4,096 cells, are most of what a click costs. But there
are only some seven tokens. A product with a projection can be taken on the tokens' side instead::

    scores = (x W + b) k = x (W k) + b k        with W k, (256, heads * N), made once per prompt

which leaves 256 * 8 * 7 products per cell where the projection has 256 * 128 and comes twice or
three times. The results are the same but for rounding. A bias of the keys adds the same to all
scores of a query and drops out of the softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from mobilesam.modeling.transformer import Attention

MAX_TOKENS = 14  # beyond, the folded products outnumber those of the projections


def tokens_attend(
    attention: Attention, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Do as ``attention(queries, keys, values)`` with few queries and many keys.

    Args:
        attention: The module whose weights are used.
        queries: (B, N, C) tokens.
        keys: (B, L, C) image cells with their position encoding.
        values: (B, L, C) image cells.

    Returns:
        (B, N, C).
    """
    q = _heads(attention, attention.q_proj(queries)) * _scale(attention)  # (B, heads, N, d)
    folded = (q @ _by_head(attention, attention.k_proj)).flatten(1, 2)  # (B, heads * N, C)
    weights = (folded @ keys.transpose(1, 2)).softmax(dim=-1)  # (B, heads * N, L)
    gathered = (weights @ values).unflatten(1, (attention.num_heads, -1))  # (B, heads, N, C)
    out = gathered @ _by_head(attention, attention.v_proj).transpose(1, 2)  # (B, heads, N, d)
    return attention.out_proj(out.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def cells_attend(
    attention: Attention,
    cells: torch.Tensor,
    cells_with_pe: torch.Tensor | None,
    queries: torch.Tensor | None,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> torch.Tensor:
    """Do as ``cells + attention(cells_with_pe, keys, values)`` with few keys and many queries.

    Args:
        attention: The module whose weights are used.
        cells: (B or 1, L, C) image cells.
        cells_with_pe: (B or 1, L, C), the same with their position encoding; only needed without
            ``queries``.
        queries: (1, L, inner) what ``q_proj`` makes of ``cells_with_pe``, where already known.
        keys: (B, N, C) tokens with their position encoding.
        values: (B, N, C) tokens.

    Returns:
        (B, L, C).
    """
    k = _heads(attention, attention.k_proj(keys)) * _scale(attention)  # (B, heads, N, d)
    if queries is not None:
        scores = k @ _heads(attention, queries).transpose(2, 3)  # (B, heads, N, L)
    else:
        folded = (k @ _by_head(attention, attention.q_proj)).flatten(1, 2)  # (B, heads * N, C)
        bias = k @ attention.q_proj.bias.unflatten(0, (attention.num_heads, -1, 1))
        scores = folded @ cells_with_pe.transpose(1, 2) + bias.flatten(1, 2)
        scores = scores.unflatten(1, (attention.num_heads, -1))
    weights = scores.softmax(dim=2).flatten(1, 2)  # (B, heads * N, L)
    v = _heads(attention, attention.v_proj(values))
    out_by_head = attention.out_proj.weight.T.unflatten(0, (attention.num_heads, -1))
    folded = (v @ out_by_head).flatten(1, 2)  # (B, heads * N, C)
    start = (cells + attention.out_proj.bias).expand(len(folded), -1, -1)
    return torch.baddbmm(start, weights.transpose(1, 2), folded)


def _heads(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """Split (B, N, inner) into (B, heads, N, d)."""
    return x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)


def _by_head(attention: Attention, layer: torch.nn.Linear) -> torch.Tensor:
    """Return a projection's weight as (heads, d, C)."""
    return layer.weight.unflatten(0, (attention.num_heads, -1))


def _scale(attention: Attention) -> float:
    return (attention.q_proj.out_features // attention.num_heads) ** -0.5

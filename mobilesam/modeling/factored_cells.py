"""The image cells of a prompt as factors, and what the decoder's layers do to them.

SAM's decoder gives each prompt a copy of the picture's 4,096 image cells, 4 MiB, and changes it
twice. But what a prompt adds to a cell is a mixture of the few vectors that attention carries
over from its tokens, heads * tokens of them per layer, and all else is the same for all prompts.
So the cells of a prompt are held as factors::

    cells = scale * picture + mixture.T @ vectors + constant

with one scale per cell, ``mixture`` (rows, cells) and ``vectors`` (rows, C), some 57 rows after
the first layer and 114 after the second. A linear layer maps ``picture`` once for all prompts,
and ``vectors`` for each. Layer normalisation needs each cell's mean, which is zero once
``picture`` and ``vectors`` are centred, and its mean square, which follows from the products of
``picture`` and ``vectors`` among themselves. What a model that draws its prompts sees of a drawing
is 16 rows more.

B is the number of prompts, T that of a prompt's tokens, L that of cells, C their width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mobilesam.modeling.transformer import Attention, TwoWayBlock


@dataclass(eq=False)
class Cells:
    """The image cells of B prompts, as factors; only the first ``used`` rows count.

    Row after row, not prompt after prompt, lie in memory: so attention, whose scores come head
    after head and token after token, is computed for all prompts at once without a copy.

    Attributes:
        scale: (B, L).
        mixture: (rows, B, L).
        vectors: (B, rows, C).
        used: How many rows there are so far.
    """

    scale: torch.Tensor
    mixture: torch.Tensor
    vectors: torch.Tensor
    used: int


@dataclass(eq=False)
class SharedCells:
    """What all prompts against a picture share, as it goes through the layers.

    Attributes:
        picture: (L, C).
        position: (L, C) position encoding.
        constant: (C,).
        rows: (rows, C) the vectors that are the same for all prompts: those of a drawing, and
            for each layer what its constants turn into.
        drawn_rows: How many of them are a drawing's.
        carries: For each layer so far, what takes a token's values to the cells: (inner, C).
    """

    picture: torch.Tensor
    position: torch.Tensor
    constant: torch.Tensor
    rows: torch.Tensor
    drawn_rows: int
    carries: list[torch.Tensor]


class Workspace:
    """Scratch memory, reused from layer to layer.

    Args:
        like: Has the wanted type and device.
        heads: How many the cells' attention has.
        tokens: T.
        rows: Of the cells' mixture, in the end.
        scale: The cells'.
    """

    def __init__(
        self, like: torch.Tensor, heads: int, tokens: int, rows: int, scale: torch.Tensor
    ) -> None:
        self.scores, self.weights = (like.new_empty(heads, tokens, *scale.shape) for _ in range(2))
        self.rows = like.new_empty(rows, *scale.shape)


class _Scores:
    """Scores between tokens and cells, whose keys or queries ``layer`` makes of them.

    Args:
        layer: The cells' projection.
        heads: How many heads share its output.
        picture: (L, C).
        constant: (L, C), what else the projection is applied to.
        first: Whether no prompt has touched the cells yet: ``scale`` is 1.
    """

    def __init__(
        self,
        layer: nn.Linear,
        heads: int,
        picture: torch.Tensor,
        constant: torch.Tensor,
        first: bool,
    ) -> None:
        self.weight, self.heads, self.first = layer.weight, heads, first
        scaled, fixed = F.linear(picture, layer.weight), F.linear(constant, *_parameters(layer))
        if first:
            fixed = fixed + scaled
        self.fixed = _by_head(fixed, heads).transpose(1, 2).contiguous()  # (heads, d, L)
        self.scaled = _by_head(scaled, heads).transpose(1, 2).contiguous()

    def __call__(
        self, tokens: torch.Tensor, cells: Cells, out: torch.Tensor, spare: torch.Tensor
    ) -> torch.Tensor:
        """Write the scores of (B, heads, T, d) tokens into ``out``, (heads, T, B, L)."""
        flat = _head_after_head(tokens)
        torch.bmm(flat, self.fixed, out=out.flatten(1, 2))
        if not self.first:
            torch.bmm(flat, self.scaled, out=spare.flatten(1, 2))
            out.addcmul_(spare, cells.scale)
        vectors = F.linear(cells.vectors[:, : cells.used], self.weight)
        by_row = (tokens @ _by_head(vectors, self.heads).transpose(2, 3)).flatten(1, 2)
        for prompt, from_rows in enumerate(by_row):  # (heads * T, rows)
            mixture = cells.mixture[: cells.used, prompt]
            out.flatten(0, 1)[:, prompt].addmm_(from_rows, mixture)
        return out


class TokenReader:
    """Attention from tokens to cells.

    Args:
        attention: The module; the cells are its keys and values.
        shared: What all prompts share at this layer.
        first: Whether no prompt has touched the cells yet.
    """

    def __init__(self, attention: Attention, shared: SharedCells, first: bool) -> None:
        picture, constant = shared.picture, shared.constant
        self.attention, heads = attention, attention.num_heads
        self.scores = _Scores(attention.k_proj, heads, picture, constant + shared.position, first)
        values = attention.v_proj
        self.values = _by_head(F.linear(picture, values.weight), heads).contiguous()
        self.fixed = F.linear(constant, *_parameters(values))

    def __call__(self, tokens: torch.Tensor, cells: Cells, work: Workspace) -> torch.Tensor:
        """Attend from (B, T, C) tokens; returns (B, T, C)."""
        queries = _queries(self.attention, self.attention.q_proj(tokens))
        scores = self.scores(queries, cells, work.scores, work.weights)
        weights = torch.softmax(scores, dim=-1, out=work.weights)  # (heads, T, B, L)
        mixture = cells.mixture[: cells.used].permute(1, 2, 0)
        by_row = weights.flatten(0, 1).transpose(0, 1) @ mixture  # (B, heads * T, rows)
        vectors = F.linear(cells.vectors[:, : cells.used], self.attention.v_proj.weight)
        vectors = _by_head(vectors, self.attention.num_heads)  # (B, heads, rows, d)
        found = by_row.unflatten(1, queries.shape[1:3]) @ vectors  # (B, heads, T, d)
        scaled = torch.bmm(weights.mul_(cells.scale).flatten(1, 2), self.values)
        found += scaled.unflatten(1, weights.shape[1:3]).permute(2, 0, 1, 3)
        return self.attention.out_proj(found.transpose(1, 2).flatten(2) + self.fixed)


class CellUpdate:
    """Attention from cells to tokens and the norm behind it: adds rows to the cells.

    Args:
        block: The layer.
        index: Which layer it is.
        shared: What all prompts share, see ``SharedCells``; brought to the state behind this layer.
    """

    def __init__(self, block: TwoWayBlock, index: int, shared: SharedCells) -> None:
        self.attention = attention = block.cross_attn_image_to_token
        self.norm, self.index, heads = block.norm4, index, attention.num_heads
        constant = shared.constant + shared.position
        self.scores = _Scores(attention.q_proj, heads, shared.picture, constant, index == 0)
        self.carry = _by_head(attention.out_proj.weight.T, heads, dim=0)  # (heads, d, C)
        self.own_row = shared.drawn_rows + index
        shared.rows[self.own_row] = shared.constant + attention.out_proj.bias
        shared.carries.append(attention.out_proj.weight.T)
        self.rows = shared.rows.clone()
        shared.picture, shared.rows, *shared.carries = (
            _centred(t) for t in (shared.picture, shared.rows, *shared.carries)
        )
        self.squares = shared.picture.square().sum(1)  # (L,)
        self.row_products = shared.rows @ shared.picture.T
        self.carry_products = [
            _by_head(carry @ shared.picture.T, heads, dim=0) for carry in shared.carries
        ]  # (heads, d, L) for each layer so far
        for tensor in (shared.picture, shared.rows, *shared.carries):
            tensor.mul_(self.norm.weight)
        shared.constant = self.norm.bias

    def __call__(
        self,
        tokens: torch.Tensor,
        token_pe: torch.Tensor,
        cells: Cells,
        carried: list[torch.Tensor],
        work: Workspace,
    ) -> None:
        """Let the cells attend to (B, T, C) tokens.

        Args:
            tokens: (B, T, C).
            token_pe: (B, T, C).
            cells: Changed in place.
            carried: The tokens' values in each layer so far, (heads, T * B, d); one is added.
            work: Scratch memory.
        """
        attention = self.attention
        keys = _queries(attention, attention.k_proj(tokens + token_pe))
        values = _by_head(attention.v_proj(tokens), attention.num_heads)
        carried.append(_head_after_head(values))
        scores = self.scores(keys, cells, work.scores, work.weights)
        old, shared_rows = cells.used, len(self.rows)
        cells.used = new = old + scores.shape[0] * scores.shape[1]
        torch.softmax(scores, dim=1, out=cells.mixture[old:new].view(scores.shape))
        cells.mixture[self.own_row] = 1
        vectors = cells.vectors[:, :new]
        vectors[:, :shared_rows] = self.rows
        vectors[:, old:] = (values @ self.carry).flatten(1, 2)
        vectors -= vectors.mean(dim=-1, keepdim=True)
        self._normalise(cells, carried, work.rows[:new])
        vectors *= self.norm.weight

    def _normalise(
        self, cells: Cells, carried: list[torch.Tensor], with_picture: torch.Tensor
    ) -> None:
        """Bring the cells, whose vectors are centred, to variance 1."""
        mixture, vectors = cells.mixture[: cells.used], cells.vectors[:, : cells.used]
        start = len(self.rows)
        with_picture[:start] = self.row_products.unsqueeze(1)
        for values, product in zip(carried, self.carry_products, strict=True):
            end = start + values.shape[0] * values.shape[1] // mixture.shape[1]
            out = with_picture[start:end].view(values.shape[0], values.shape[1], -1)
            torch.bmm(values, product, out=out)
            start = end
        with_picture *= 2 * cells.scale
        for prompt, products in enumerate(vectors @ vectors.transpose(1, 2)):
            with_picture[:, prompt].addmm_(products, mixture[:, prompt])
        squares = with_picture.mul_(mixture).sum(0).addcmul_(self.squares, cells.scale.square())
        deviation = squares.div_(vectors.shape[2]).clamp_(min=0).add_(self.norm.eps).sqrt_()
        cells.scale /= deviation
        mixture /= deviation


def _by_head(x: torch.Tensor, heads: int, dim: int = -1) -> torch.Tensor:
    """Split the inner width: (..., L, inner) to (..., heads, L, d); along dim 0 (heads, d, L)."""
    if dim == 0:
        return x.unflatten(0, (heads, -1)).contiguous()
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def _head_after_head(tokens: torch.Tensor) -> torch.Tensor:
    """Reorder (B, heads, T, d) as (heads, T * B, d)."""
    return tokens.permute(1, 2, 0, 3).flatten(1, 2)


def _queries(attention: Attention, projected: torch.Tensor) -> torch.Tensor:
    """Split (B, T, inner) into (B, heads, T, d), scaled for the softmax."""
    by_head = _by_head(projected, attention.num_heads)
    return by_head * by_head.shape[-1] ** -0.5


def _parameters(layer: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight, layer.bias


def _centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(dim=-1, keepdim=True)

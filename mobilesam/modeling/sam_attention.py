"""SAM's attention with relative positions, for attention kernels that never see its bias.

SAM adds to the score of a query q at (y, x) with a key at (y', x') the two products
``q · R_h[y - y']`` and ``q · R_w[x - x']`` (decomposed relative positions: MViTv2, 2112.01526,
section 4.1; SAM has them from ViTDet, 2203.16527). timm hands PyTorch q, k, v and that sum with
three axes, which only its slowest attention takes, and works out the places in R on the CPU anew in
every block. Here they are buffers, and there are four axes.

In half precision on a GPU the sum is never written out, 400 MB for each picture and block of SAM
ViT-B: a query is made longer by its products with every row and every column, a key by a one
at its own row and its own column, and their scalar product is the score, bias included.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobilesam.modeling.timm_import import timm

_timm_sam = timm.models.vision_transformer_sam


class RelativeAttention(nn.Module):
    """Stands for timm's attention with relative positions, with the same parameters and results.

    Args:
        attention: timm's, whose parameters are taken over, under their names.

    Attributes:
        fused_attn: Whether PyTorch's fused attention is used; written out, it is quicker to train
            on a CPU.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.scale = attention.scale
        self.fused_attn = attention.fused_attn
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w
        self.qkv, self.proj = attention.qkv, attention.proj
        for name, table in (("rows", self.rel_pos_h), ("columns", self.rel_pos_w)):
            places = torch.arange((len(table) + 1) // 2)
            index = places[:, None] - places + len(places) - 1  # (n, n) of query and key
            self.register_buffer(f"{name}_index", index, persistent=False)
            self.register_buffer(f"{name}_one_hot", torch.eye(len(places)), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within each of B pictures or windows: (B, H, W, C) to (B, H, W, C)."""
        height, width = x.shape[1:3]
        qkv = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, d)
        by_row, by_column = self._relative(q, height, width)
        if not self.fused_attn:
            x = self._written_out(q, k, v, by_row, by_column)
        elif self._lengthens(q) and self._fits(height, width):
            x = self._lengthened(q, k, v, by_row, by_column)
        else:
            bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(-2)  # (B, heads, N, N)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        return self.proj(x.transpose(1, 2).flatten(2)).unflatten(1, (height, width))

    def _lengthens(self, q: torch.Tensor) -> bool:
        """Tell whether there is a kernel that gains by it: those for float32 rather take a bias."""
        return q.is_cuda and q.dtype != torch.float32

    def _fits(self, height: int, width: int) -> bool:
        return (height, width) == (len(self.rows_index), len(self.columns_index))

    def _relative(
        self, q: torch.Tensor, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return q's products with all rows, (B, heads, N, H), and columns, (B, heads, N, W)."""
        if self._fits(height, width):
            rows, columns = self.rel_pos_h[self.rows_index], self.rel_pos_w[self.columns_index]
        else:  # interpolated for a picture of another size
            rows = _timm_sam.get_rel_pos(height, height, self.rel_pos_h)
            columns = _timm_sam.get_rel_pos(width, width, self.rel_pos_w)
        q = q.unflatten(2, (height, width))
        by_row = torch.einsum("bnhwc,hkc->bnhwk", q, rows).flatten(2, 3)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", q, columns).flatten(2, 3)
        return by_row.contiguous(), by_column.contiguous()

    def _written_out(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        by_row: torch.Tensor,
        by_column: torch.Tensor,
    ) -> torch.Tensor:
        scores = ((q * self.scale) @ k.transpose(-2, -1)).unflatten(
            -1, (by_row.shape[-1], by_column.shape[-1])
        )
        scores = scores + by_row[..., :, None] + by_column[..., None, :]
        return scores.flatten(-2).softmax(dim=-1) @ v

    def _lengthened(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        by_row: torch.Tensor,
        by_column: torch.Tensor,
    ) -> torch.Tensor:
        """Attend without the (N, N) bias; kernels that do so want v as long as q and k."""
        height, width = by_row.shape[-1], by_column.shape[-1]
        own_row = self.rows_one_hot[:, None].expand(-1, width, -1).flatten(0, 1)  # (N, H)
        own_column = self.columns_one_hot.expand(height, -1, -1).flatten(0, 1)  # (N, W)
        own = torch.cat([own_row, own_column], dim=-1).to(k.dtype).expand(*k.shape[:2], -1, -1)
        # the scores are scaled afterwards, the bias is not
        products = torch.cat([by_row, by_column], dim=-1).to(q.dtype) / self.scale
        lengthened = F.scaled_dot_product_attention(
            torch.cat([q, products], dim=-1),
            torch.cat([k, own], dim=-1),
            F.pad(v, (0, height + width)),
            scale=self.scale,
        )
        return lengthened[..., : v.shape[-1]]

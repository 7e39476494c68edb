"""SAM's two-way transformer between prompt tokens and image cells."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mobilesam.modeling.folded_attention import MAX_TOKENS, cells_attend, tokens_attend


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the embeddings' width.

    ``fused_attn`` (timm's name for it) chooses PyTorch's fused attention: half the time of the
    written-out one when decoding on a CPU, but up to three times as long when training there.
    """

    def __init__(self, embed_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner_dim = embed_dim // downsample_rate
        self.num_heads = num_heads
        self.fused_attn = True
        self.q_proj = nn.Linear(embed_dim, inner_dim)
        self.k_proj = nn.Linear(embed_dim, inner_dim)
        self.v_proj = nn.Linear(embed_dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, embed_dim)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from (B, Nq, C) to (B, Nk, C); returns (B, Nq, C)."""
        return self.attend(self.q_proj(q), self.k_proj(k), self.v_proj(v))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend with projections already made, (B or 1, N, inner_dim) each."""
        batch = max(q.shape[0], k.shape[0])
        q, k, v = (
            t.expand(batch, -1, -1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t in (q, k, v)
        )  # (B, heads, N, d)
        if self.fused_attn:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, heads, Nq, Nk)
            out = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(embed_dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., C) to (..., C)."""
        return self.lin2(F.relu(self.lin1(x)))


@dataclass(frozen=True, eq=False)
class ImageProjections:
    """What the first layer needs of a picture, whatever the prompt: (B, h * w, inner) each.

    Until the first layer's image-to-token attention the image cells have not met a prompt, so
    these three can be computed once per picture instead of once per click.
    """

    token_to_image_k: torch.Tensor
    token_to_image_v: torch.Tensor
    image_to_token_q: torch.Tensor
    changes: int = 0  # of the weights up to then, as ``Sam.changes`` counts them

    @property
    def nbytes(self) -> int:
        """Bytes held by the three tensors."""
        tensors = (self.token_to_image_k, self.token_to_image_v, self.image_to_token_q)
        return sum(tensor.nbytes for tensor in tensors)


class TwoWayBlock(nn.Module):
    """Self-attention, tokens to image, feed-forward, image to tokens (SAM, figure 14)."""

    def __init__(self, embed_dim: int, num_heads: int, mlp_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(embed_dim, num_heads)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.cross_attn_token_to_image = Attention(embed_dim, num_heads, downsample_rate=2)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = FeedForward(embed_dim, mlp_dim)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.norm4 = nn.LayerNorm(embed_dim)
        self.cross_attn_image_to_token = Attention(embed_dim, num_heads, downsample_rate=2)

    def project(self, image: torch.Tensor, image_pe: torch.Tensor) -> ImageProjections:
        """Return the projections of (B, h * w, C) image cells that this block starts with."""
        image_with_pe = image + image_pe
        return ImageProjections(
            self.cross_attn_token_to_image.k_proj(image_with_pe),
            self.cross_attn_token_to_image.v_proj(image),
            self.cross_attn_image_to_token.q_proj(image_with_pe),
        )

    def attend_among_tokens(self, tokens: torch.Tensor, token_pe: torch.Tensor) -> torch.Tensor:
        """Let (B, N, C) tokens attend to each other, with the norm behind it."""
        if self.first:  # the tokens are their own position encoding still
            return self.norm1(self.self_attn(tokens, tokens, tokens))
        q = tokens + token_pe
        return self.norm1(tokens + self.self_attn(q, q, tokens))

    def forward(
        self,
        tokens: torch.Tensor,
        token_pe: torch.Tensor,
        image: torch.Tensor,
        image_pe: torch.Tensor,
        projections: ImageProjections | None,
        folds: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update (B, N, C) tokens and (B or 1, h * w, C) image cells.

        Args:
            tokens: (B, N, C).
            token_pe: (B, N, C) what marks each token throughout.
            image: (B or 1, h * w, C).
            image_pe: (1, h * w, C).
            projections: Those of ``image``, where already known.
            folds: Whether to spare the projections of the cells, see ``folded_attention``.
        """
        tokens = self.attend_among_tokens(tokens, token_pe)
        to_image, to_tokens = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        image_with_pe = None
        if projections is None and folds:
            image_with_pe = image + image_pe
            attended = tokens_attend(to_image, tokens + token_pe, image_with_pe, image)
        else:
            projections = projections or self.project(image, image_pe)
            q = to_image.q_proj(tokens + token_pe)
            attended = to_image.attend(
                q, projections.token_to_image_k, projections.token_to_image_v
            )
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))

        known = None if projections is None else projections.image_to_token_q
        if folds:
            image = cells_attend(to_tokens, image, image_with_pe, known, tokens + token_pe, tokens)
        else:
            k = to_tokens.k_proj(tokens + token_pe)
            image = image + to_tokens.attend(known, k, to_tokens.v_proj(tokens))
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """The mask decoder's transformer (SAM, appendix A)."""

    def __init__(self, depth: int, embed_dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(embed_dim, num_heads, mlp_dim, first=index == 0) for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(embed_dim, num_heads, downsample_rate=2)
        self.norm_final_attn = nn.LayerNorm(embed_dim)

    @property
    def is_plain(self) -> bool:
        """Whether all projections do no more than their weights say.

        Not with adapters such as LoRA, hooks or quantised layers in their places: only as modules
        do these what they are there for, and what folds weights would pass them by.
        """
        return all(
            type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks
            for attention in self.modules()
            if isinstance(attention, Attention)
            for layer in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        )

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        image_pe: torch.Tensor,
        projections: ImageProjections | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run tokens and image through all layers.

        Args:
            tokens: (B, N, C) output tokens and sparse prompt embeddings.
            image: (B or 1, h * w, C) image embedding plus dense prompt embedding.
            image_pe: (1, h * w, C) position encoding of the cells.
            projections: The first layer's projections of ``image``, where already known.

        Returns:
            (B, N, C) tokens and (B, h * w, C) image cells.
        """
        token_pe = tokens
        folds = _folding_pays(tokens, image) and self.is_plain
        for layer in self.layers:
            known = projections if layer.first else None
            tokens, image = layer(tokens, token_pe, image, image_pe, known, folds)
        attend = self.final_attn_token_to_image
        if folds:
            attended = tokens_attend(attend, tokens + token_pe, image + image_pe, image)
        else:
            attended = attend(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image


def _folding_pays(tokens: torch.Tensor, image: torch.Tensor) -> bool:
    """Tell whether folded attention is quicker: decoding few tokens on a CPU.

    An exported or compiled decoder must not depend on the number of tokens it was made with.
    """
    return (
        image.device.type == "cpu"
        and tokens.shape[1] <= MAX_TOKENS
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.onnx.is_in_onnx_export()
    )

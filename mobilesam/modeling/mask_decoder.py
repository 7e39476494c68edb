"""SAM's mask decoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobilesam.modeling.layers import MLP, LayerNorm2d, image_cells
from mobilesam.modeling.sharing import Shareable
from mobilesam.modeling.transformer import ImageProjections, TwoWayTransformer

NUM_MULTIMASK_OUTPUTS = 3
NUM_MASK_TOKENS = NUM_MULTIMASK_OUTPUTS + 1  # token 0 is the single-mask output


class MaskDecoder(Shareable):
    """Predict masks and their quality from an image embedding and prompts (SAM, appendix A).

    Differs from the reference in how, not in what: image cells stay channels-last throughout,
    and the two transposed convolutions, whose windows do not overlap, are computed as matrix
    products.
    """

    num_multimask_outputs = NUM_MULTIMASK_OUTPUTS
    num_mask_tokens = NUM_MASK_TOKENS

    def __init__(self, embed_dim: int = 256) -> None:
        super().__init__()
        self.transformer_dim = embed_dim
        self.transformer = TwoWayTransformer(
            depth=2, embed_dim=embed_dim, num_heads=8, mlp_dim=2048
        )
        self.iou_token = nn.Embedding(1, embed_dim)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, embed_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(embed_dim, embed_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(embed_dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(embed_dim // 4, embed_dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(embed_dim, embed_dim, embed_dim // 8, depth=3) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_prediction_head = MLP(embed_dim, 256, NUM_MASK_TOKENS, depth=3)

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_pe: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor,
        dense_prompt_embeddings: torch.Tensor,
        multimask_output: bool | None,
        projections: ImageProjections | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict masks for B prompts by SAM's own call.

        A picture that does not fill the frame of a model that does not pad has fewer cells than
        the frame: then those of ``image_pe`` and the dense embeddings that lie beyond are left
        out, as they say nothing of the others.

        Args:
            image_embeddings: (1 or B, C, h, w), one picture for all prompts or one for each.
            image_pe: (1, C, h, w) ``PromptEncoder.get_dense_pe()``.
            sparse_prompt_embeddings: (B, N, C) from the prompt encoder.
            dense_prompt_embeddings: (1 or B, C, h, w) from the prompt encoder.
            multimask_output: Three masks for each prompt, or one; None for all four.
            projections: What the first layer needs of the picture, where already known.

        Returns:
            (B, M, 4h, 4w) low-res mask logits and (B, M) predicted IoU.

        Raises:
            ValueError: If the number of pictures or cells does not fit.
        """
        height, width = image_embeddings.shape[-2:]
        batch = len(sparse_prompt_embeddings)
        if len(image_embeddings) not in (1, batch):
            raise ValueError(
                f"image_embeddings must hold one picture, or one for each of the {batch} prompts; "
                f"got {len(image_embeddings)}."
            )
        pe, dense = (each[..., :height, :width] for each in (image_pe, dense_prompt_embeddings))
        if pe.shape[-2:] != (height, width) or dense.shape[-2:] not in ((height, width), (1, 1)):
            raise ValueError(
                f"image_pe and dense_prompt_embeddings must have the {height} x {width} cells of "
                f"image_embeddings; got {tuple(pe.shape)} and {tuple(dense.shape)}."
            )
        if batch == 0:
            masks = image_embeddings.new_zeros((0, NUM_MASK_TOKENS, 4 * height, 4 * width))
            iou = image_embeddings.new_zeros((0, NUM_MASK_TOKENS))
        else:
            image = image_cells(image_embeddings + dense)
            masks, iou = self.decode_cells(
                image, image_cells(pe), sparse_prompt_embeddings, (height, width), projections
            )
        if multimask_output is None:
            return masks, iou
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return masks[:, wanted], iou[:, wanted]

    def decode_cells(
        self,
        image: torch.Tensor,
        image_pe: torch.Tensor,
        sparse: torch.Tensor,
        grid: tuple[int, int],
        projections: ImageProjections | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict all four masks for each of B prompts.

        Args:
            image: (B or 1, h * w, C) image embedding plus dense prompt embedding.
            image_pe: (1, h * w, C) position encoding of the cells.
            sparse: (B, N, C) sparse prompt embeddings.
            grid: (h, w), the image embedding's cells.
            projections: The first layer's projections of ``image``, where already known.

        Returns:
            (B, 4, 4h, 4w) low-res mask logits and (B, 4) predicted IoU; mask 0 is the
            single-mask output, masks 1 to 3 the multimask output.
        """
        tokens, cells = self.transformer(self.tokens(sparse), image, image_pe, projections)
        sub_cells = self.upscale(_spread(cells, self.output_upscaling[0])).flatten(1, 3)
        logits = self.mask_weights(tokens) @ sub_cells.transpose(1, 2)  # (B, 4, h * w * 16)
        return arrange_sub_cells(logits, grid), self.iou_prediction_head(tokens[:, 0])

    def tokens(self, sparse: torch.Tensor) -> torch.Tensor:
        """Put the IoU token and the four mask tokens before (B, N, C) prompt embeddings."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        return torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)

    def mask_weights(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, 5 + N, C) tokens behind the transformer into the masks' (B, 4, C/8) weights."""
        return torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )

    def upscale(self, x: torch.Tensor) -> torch.Tensor:
        """Do the upscaling behind its first layer: (..., 4, C/4) sub-cells to (..., 4, 4, C/8)."""
        _, norm, act1, up2, act2 = self.output_upscaling
        x = act1(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        return act2(_spread(x, up2))


def arrange_sub_cells(logits: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Lay out 16 logits for each of h * w cells, (..., h * w * 16), as maps (..., 4h, 4w)."""
    height, width = grid
    maps = logits.reshape(-1, height, width, 2, 2, 2, 2)  # y, x, y1, x1, y2, x2
    maps = maps.permute(0, 1, 3, 5, 2, 4, 6)
    return maps.reshape(*logits.shape[:-1], height * 4, width * 4)


def spread_weight(layer: nn.ConvTranspose2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a 2 x 2, stride 2 transposed convolution as a linear layer: weight and bias.

    Its output, 4 * C_out wide, holds the four sub-cells one after the other.
    """
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4)


def _spread(x: torch.Tensor, layer: nn.ConvTranspose2d) -> torch.Tensor:
    """Apply a 2 x 2, stride 2 transposed convolution to (..., C): (..., 4, C_out) sub-cells."""
    return F.linear(x, *spread_weight(layer)).unflatten(-1, (4, -1))

"""Image encoders, all of them timm's, brought to the one form the mask decoder needs.

Each maps normalised pixels, (B, 3, H, W) with H and W multiples of 16, to an image embedding,
(B, 256, H/16, W/16).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from mobilesam.modeling.layers import neck
from mobilesam.modeling.sam_attention import RelativeAttention
from mobilesam.modeling.sharing import Shareable
from mobilesam.modeling.timm_import import timm

EMBED_DIM = 256
EMBED_STRIDE = 16  # px of the input frame per cell of the image embedding

SAM_ENCODERS = {
    "sam_vit_b": "samvit_base_patch16",
    "sam_vit_l": "samvit_large_patch16",
    "sam_vit_h": "samvit_huge_patch16",
}


class TinyVitEncoder(Shareable):
    """MobileSAM's image encoder (MobileSAM, section 3): TinyViT-5M and SAM's neck.

    The last stage keeps the resolution of the one before it (stride 1 instead of 2), so that the
    embedding has 64 x 64 cells for 1024 x 1024 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("tiny_vit_5m_224", num_classes=0, drop_path_rate=0.0)
        self.backbone.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.backbone.head = nn.Identity()
        self.neck = neck(self.backbone.num_features, EMBED_DIM)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, 256, H/16, W/16)."""
        return self.neck(self.backbone.forward_features(pixels))


class SamVitEncoder(Shareable):
    """SAM's image encoder, neck included, as timm has it but for how its attention is computed."""

    def __init__(self, timm_name: str, image_size: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)  # SAM's; timm's default is 1e-5
        self.backbone = timm.create_model(
            timm_name, num_classes=0, img_size=image_size, norm_layer=norm
        )
        for block in self.backbone.blocks:
            block.attn = RelativeAttention(block.attn)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, 256, H/16, W/16)."""
        return self.backbone.forward_features(pixels)


class PlainVitEncoder(Shareable):
    """A plain ViT whose features from several depths are fused by the neck.

    The last layer of a classifier knows what is in a picture, earlier ones where its edges run;
    fusing ``levels`` gives the decoder both. A picture that does not fill the square frame takes
    the position embeddings of its own cells, so nothing is spent on padding.

    Args:
        timm_name: A timm Vision Transformer with patches of 16 pixels and a class token.
        image_size: Side of the frame, pixels.
        levels: Numbers of the blocks (from 1) whose outputs are fused.
    """

    def __init__(self, timm_name: str, image_size: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = timm.create_model(timm_name, num_classes=0, img_size=image_size)
        self.backbone.norm = nn.Identity()
        self.levels = levels
        dim = self.backbone.embed_dim
        self.level_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in levels)
        self.neck = neck(dim * len(levels), EMBED_DIM)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, 256, H/16, W/16); H and W at most the frame's side."""
        vit = self.backbone
        patches = vit.patch_embed.proj(pixels)  # (B, C, h, w)
        height, width = patches.shape[-2:]
        side = vit.patch_embed.grid_size[0]
        positions = vit.pos_embed[:, 1:].unflatten(1, (side, side))[:, :height, :width]
        x = patches.flatten(2).transpose(1, 2) + positions.flatten(1, 2)
        class_token = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([class_token, x], dim=1)
        fused: list[torch.Tensor] = []
        for number, block in enumerate(vit.blocks, start=1):
            x = block(x)
            if number in self.levels:
                fused.append(self.level_norms[len(fused)](x[:, 1:]))
        x = torch.cat(fused, dim=-1).transpose(1, 2).unflatten(2, (height, width))
        return self.neck(x)


def build_image_encoder(name: str, image_size: int) -> nn.Module:
    """Build an image encoder with untrained weights.

    Args:
        name: ``tiny_vit``, ``sam_vit_b``, ``sam_vit_l``, ``sam_vit_h`` or ``deit_tiny``.
        image_size: Side of the square input frame, pixels; a multiple of 16.

    Raises:
        ValueError: For another name or size.
    """
    if image_size <= 0 or image_size % EMBED_STRIDE:
        raise ValueError(
            f"image_size must be a positive multiple of {EMBED_STRIDE}; got {image_size}."
        )
    if name == "tiny_vit":
        return TinyVitEncoder()
    if name in SAM_ENCODERS:
        return SamVitEncoder(SAM_ENCODERS[name], image_size)
    if name == "deit_tiny":
        return PlainVitEncoder("deit_tiny_patch16_224", image_size, levels=(3, 6, 9, 12))
    known = ["tiny_vit", *SAM_ENCODERS, "deit_tiny"]
    raise ValueError(f"Unknown image encoder {name!r}; expected one of {', '.join(known)}.")


def pad_to(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pad (..., h, w) with zeros at the right and the bottom to (..., height, width)."""
    return F.pad(pixels, (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))

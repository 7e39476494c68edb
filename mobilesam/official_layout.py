"""Names of the tensors in official SAM and MobileSAM checkpoints, and ours.

Prompt encoder and mask decoder have the same names here as there. The image encoders are timm's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

TINY_VIT_RULES = (
    (r"^layers\.(\d+)\.downsample\.", lambda m: f"stages.{int(m[1]) + 1}.downsample."),
    (r"^layers\.", lambda m: "stages."),
    (r"^patch_embed\.seq\.0\.", lambda m: "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", lambda m: "patch_embed.conv2."),
    (r"\.c\.", lambda m: ".conv."),
)
TINY_VIT_UNUSED = ("head.", "norm_head.")  # the ImageNet classifier's; never computed


def encoder_of(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Tell which image encoder an official-layout state dict belongs to; None if none is known."""
    if "image_encoder.patch_embed.seq.0.c.weight" in state_dict:
        return "tiny_vit"
    projection = state_dict.get("image_encoder.patch_embed.proj.weight")
    if projection is None or "image_encoder.neck.0.weight" not in state_dict:
        return None
    return {768: "sam_vit_b", 1024: "sam_vit_l", 1280: "sam_vit_h"}.get(projection.shape[0])


def convert(state_dict: Mapping[str, torch.Tensor], encoder: str) -> dict[str, torch.Tensor]:
    """Rename an official-layout state dict's tensors to ours.

    Args:
        state_dict: As read from an official file.
        encoder: What ``encoder_of`` said of it.

    Returns:
        A new dict over the same tensors, without those that no output depends on.
    """
    prefix = "image_encoder."
    converted = {}
    for key, tensor in state_dict.items():
        if not key.startswith(prefix):
            converted[key] = tensor
            continue
        name = key.removeprefix(prefix)
        if encoder == "tiny_vit":
            if name.startswith(TINY_VIT_UNUSED):
                continue
            name = name if name.startswith("neck.") else f"backbone.{_tiny_vit_name(name)}"
        else:
            name = f"backbone.{name.replace('.mlp.lin', '.mlp.fc')}"
        converted[prefix + name] = tensor
    return converted


def _tiny_vit_name(name: str) -> str:
    for pattern, replacement in TINY_VIT_RULES:
        name = re.sub(pattern, replacement, name)
    return name

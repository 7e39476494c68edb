"""Names of the tensors in official SAM and MobileSAM checkpoints, and ours.

Prompt encoder and mask decoder have the same names here as there. The image encoders are timm's.
State dicts of MobileSAM that ``prepare_for_inference`` has folded are told and unfolded here, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

PLACE = "image_encoder."
OURS = f"{PLACE}backbone."
CLASS_TOKEN = f"{OURS}cls_token"  # of an encoder that neither SAM nor MobileSAM has
POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
MOST_VARIANCE = 1.6  # of SAM's frequencies, drawn with 1; this project's training draws with 3
SAM_WIDTHS = {768: "sam_vit_b", 1024: "sam_vit_l", 1280: "sam_vit_h"}
TINY_VIT_FIRST = (
    f"{PLACE}patch_embed.seq.0.c.weight",
    f"{OURS}patch_embed.conv1.conv.weight",
)
FOLDED_FIRST = f"{OURS}patch_embed.conv1.weight"
TINY_VIT_RULES = (
    (r"^layers\.(\d+)\.downsample\.", lambda m: f"stages.{int(m[1]) + 1}.downsample."),
    (r"^layers\.", lambda m: "stages."),
    (r"^patch_embed\.seq\.0\.", lambda m: "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", lambda m: "patch_embed.conv2."),
    (r"\.c\.", lambda m: ".conv."),
)
FOLDED_CONVOLUTION = re.compile(r"(.+\.(?:conv\d|local_conv))\.(weight|bias)")
BATCH_NORM_EPS = 1e-5
TINY_VIT_UNUSED = ("head.", "norm_head.")  # the ImageNet classifier's; never computed


def encoder_of(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Tell which official image encoder a state dict belongs to; None if none is known.

    Args:
        state_dict: In the official layout or ours.
    """
    if any(key in state_dict for key in TINY_VIT_FIRST) or is_folded(state_dict):
        return "tiny_vit"
    for place in (PLACE, OURS):
        projection = state_dict.get(f"{place}patch_embed.proj.weight")
        if projection is not None and f"{place}neck.0.weight" in state_dict:
            return SAM_WIDTHS.get(projection.shape[0])
    return None


def is_this_projects(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether these are tensors of a model that only this project's training makes.

    Their names do not tell: a student's image encoder may be MobileSAM's.
    """
    frequencies = state_dict.get(POSITIONS)
    if CLASS_TOKEN in state_dict or frequencies is None:
        return CLASS_TOKEN in state_dict
    return float(frequencies.float().square().mean()) > MOST_VARIANCE


def is_folded(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether these are MobileSAM's tensors after ``prepare_for_inference``."""
    return FOLDED_FIRST in state_dict


def convert(state_dict: Mapping[str, torch.Tensor], encoder: str) -> dict[str, torch.Tensor]:
    """Rename an official-layout state dict's tensors to ours; those that are ours stay.

    Args:
        state_dict: As read from an official file, or saved from a model here.
        encoder: What ``encoder_of`` said of it.

    Returns:
        A new dict over the same tensors, without those that no output depends on.
    """
    converted = {}
    folded = is_folded(state_dict)
    for key, tensor in state_dict.items():
        if not key.startswith(PLACE):
            converted[key] = tensor
            continue
        if key.startswith(OURS):
            converted.update(_unfolded(key, tensor) if folded else {key: tensor})
            continue
        name = key.removeprefix(PLACE)
        if encoder == "tiny_vit":
            if name.startswith(TINY_VIT_UNUSED):
                continue
            name = name if name.startswith("neck.") else f"backbone.{_tiny_vit_name(name)}"
        else:
            name = f"backbone.{name.replace('.mlp.lin', '.mlp.fc')}"
        converted[PLACE + name] = tensor
    return converted


def _unfolded(key: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what a folded model's tensor was: a BatchNorm that changes nothing but the bias."""
    if key.endswith(".attn.bias"):  # (1, heads, N, N); its first row has every offset, in order
        return {key.removesuffix("bias") + "attention_biases": tensor[0, :, 0]}
    found = FOLDED_CONVOLUTION.fullmatch(key)
    if found is None:
        return {key: tensor}
    if found[2] == "weight":
        return {f"{found[1]}.conv.weight": tensor}
    norm = {
        "bias": tensor,
        "weight": torch.ones_like(tensor),
        "running_mean": torch.zeros_like(tensor),
        "running_var": torch.full_like(tensor, 1 - BATCH_NORM_EPS, dtype=torch.float32),
        "num_batches_tracked": torch.tensor(0),
    }
    return {f"{found[1]}.bn.{name}": value for name, value in norm.items()}


def _tiny_vit_name(name: str) -> str:
    for pattern, replacement in TINY_VIT_RULES:
        name = re.sub(pattern, replacement, name)
    return name

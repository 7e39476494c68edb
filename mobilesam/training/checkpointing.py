"""Checkpoints of a training run, and the file that ships."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from mobilesam.modeling import Sam

POSITION_EMBEDDING = "image_encoder.backbone.pos_embed"


def save_model(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write a model's tensors as half-precision safetensors, whole or not at all.

    The metadata of the model itself (encoder, image size, padding) is added.
    """
    tensors = {
        key: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in model.state_dict().items()
    }
    described = {
        "encoder": model.encoder_name,
        "image_size": str(model.image_size),
        "pads_to_square": str(model.pads_to_square).lower(),
        "draws_prompts": str(model.draws_prompts).lower(),
        **metadata,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata=described)
    os.replace(part, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def load_initial(model: Sam, path: Path) -> None:
    """Start from an earlier model of the same encoder; its image size may be another."""
    tensors = {key: tensor.float() for key, tensor in load_file(path).items()}
    if POSITION_EMBEDDING in tensors:
        side = model.image_size // 16
        tensors[POSITION_EMBEDDING] = resample_abs_pos_embed(
            tensors[POSITION_EMBEDDING], [side, side], num_prefix_tokens=1
        )
    model.load_state_dict(tensors)


def load_backbone(model: Sam, path: Path) -> None:
    """Start the plain ViT from a classifier's weights in timm's names; its head is left out."""
    backbone = model.image_encoder.backbone
    tensors = {key: tensor.float() for key, tensor in load_file(path).items()}
    side = model.image_size // 16
    tensors["pos_embed"] = resample_abs_pos_embed(
        tensors["pos_embed"], [side, side], num_prefix_tokens=1
    )
    unused = ("head.", "norm.")
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(unused)}
    backbone.load_state_dict(tensors)


def save_state(path: Path, state: dict) -> None:
    """Write a run's state, whole or not at all: a kill in the middle leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def load_state(path: Path) -> dict:
    """Read a run's state."""
    return torch.load(path, map_location="cpu", weights_only=True)

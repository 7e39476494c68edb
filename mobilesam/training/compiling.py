"""Compile what a network repeats, block by block (torch.compile).

A whole network takes minutes to compile, for every shape of photos again. Its blocks are the same
code many times over: each kind is compiled once, for any number of photos, cells and prompts.
"""

from __future__ import annotations

import torch

from mobilesam.modeling import Sam
from mobilesam.modeling.timm_import import timm
from mobilesam.modeling.transformer import TwoWayBlock

REPEATED = (
    timm.models.vision_transformer.Block,
    timm.models.vision_transformer_sam.Block,
    timm.models.tiny_vit.Attention,
    timm.models.tiny_vit.MBConv,
    timm.models.tiny_vit.NormMlp,
    TwoWayBlock,
)


def compile_parts(model: Sam) -> None:
    """Let a model's blocks be compiled when they are first used; it computes the same."""
    for module in model.modules():
        if isinstance(module, REPEATED):
            module.compile(dynamic=True)
    decoder = model.mask_decoder
    decoder.upscale = torch.compile(decoder.upscale, dynamic=True)

"""Where an untrained decoder starts from, so that a short training gets somewhere."""

from __future__ import annotations

import torch

from mobilesam.modeling import Sam
from mobilesam.modeling.transformer import Attention

FREQUENCY_SCALES = (0.25, 0.7, 1.5, 3.0)  # of the position encoding, taken in turn
SHARPNESS = 1.5


@torch.no_grad()
def initialise_decoder(model: Sam) -> None:
    """Let prompts look at their own place in the picture from the first step on.

    Prompts and image cells carry the same position encoding, but with independent query and key
    projections an untrained decoder cannot tell where a prompt is, and learning that takes SAM's
    long schedule. Equal projections make attention a matter of distance at once. Frequencies from
    low to high let it tell the two sides of a large box as well as a small object's place.
    """
    matrix = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    scales = torch.tensor(FREQUENCY_SCALES, device=matrix.device)
    matrix *= scales.repeat(-(-matrix.shape[1] // len(scales)))[: matrix.shape[1]]
    transformer = model.mask_decoder.transformer
    attentions: list[Attention] = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        attention.q_proj.weight *= SHARPNESS
        attention.k_proj.weight.copy_(attention.q_proj.weight)

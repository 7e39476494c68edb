"""The model that a run starts with."""

from __future__ import annotations

from pathlib import Path

import torch

from mobilesam.checkpoints import CheckpointError, read_checkpoint
from mobilesam.modeling import Sam, build_model
from mobilesam.modeling.image_encoder import EMBED_STRIDE, SAM_ENCODERS
from mobilesam.modeling.timm_import import timm
from mobilesam.modeling.transformer import Attention
from mobilesam.registry import locate, misfits, model_from_state_dict

FREQUENCY_SCALES = (0.25, 0.7, 1.5, 3.0)  # of the position encoding, taken in turn
SHARPNESS = 1.5
POSITION_EMBEDDING = "image_encoder.backbone.pos_embed"
INHERITED = ("training_data",)  # what a student's metadata takes over
CLASSIFIER = ("head.", "norm.", "fc_norm.", "norm_head.")  # what a backbone leaves out


def read_trainable(name_or_path: str | Path, image_size: int | None = None) -> Sam:
    """Read a model by name or path as ``load_model`` does, but fit for training.

    Args:
        name_or_path: A key of ``registry.MODELS`` or a checkpoint's path.
        image_size: Another side of the input frame, pixels.

    Raises:
        ValueError: If there is neither a model nor a file of that name, or the model cannot take
            another image size.
        CheckpointError: If the checkpoint cannot be had or is not what it should be.
    """
    path, name = locate(name_or_path)
    model = model_from_state_dict(*read_checkpoint(path), name)
    if image_size in (None, model.image_size):
        return model
    if model.encoder_name in SAM_ENCODERS:
        raise ValueError(
            f"{name} ({model.encoder_name}) takes {model.image_size} px only; got an image_size of "
            f"{image_size}: leave it out."
        )
    resized = build_model(
        model.encoder_name,
        image_size,
        name=name,
        pads_to_square=model.pads_to_square,
        draws_prompts=model.draws_prompts,
        metadata=model.metadata,
    )
    tensors = model.state_dict()
    if POSITION_EMBEDDING in tensors:
        tensors[POSITION_EMBEDDING] = _resample(tensors[POSITION_EMBEDDING], image_size)
    resized.load_state_dict(tensors)
    return resized


def student_of(teacher: Sam, encoder: str) -> Sam:
    """Build a model with an untrained image encoder and all else its teacher's.

    Args:
        teacher: The model whose prompt encoder, mask decoder and input frame are taken.
        encoder: The student's image encoder.

    Raises:
        ValueError: If the encoder takes whole squares only and the teacher does not pad to them.
    """
    student = build_model(
        encoder,
        teacher.image_size,
        pads_to_square=choose_padding(encoder, teacher.pads_to_square),
        draws_prompts=teacher.draws_prompts,
        metadata={key: teacher.metadata[key] for key in INHERITED if key in teacher.metadata},
    )
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    return student


def short_name(name_or_path: str) -> str:
    """Return what to call a model: a run's weights by their folder, other files by their name."""
    path = Path(name_or_path)
    return path.resolve().parent.name if path.stem == "model" else path.stem


def choose_padding(encoder: str, wanted: bool | None) -> bool:
    """Tell whether a model shall pad to a square; where nothing is wanted, only if it must.

    Raises:
        ValueError: If the encoder takes whole squares only and shall not get them.
    """
    must = encoder in SAM_ENCODERS
    if must and wanted is False:
        raise ValueError(f"{encoder} takes whole squares only; let the model pad to a square.")
    return must if wanted is None else wanted


def load_encoder(student: Sam, name_or_path: str | Path) -> None:
    """Start a student's image encoder from that of an earlier model, at the student's size.

    Raises:
        ValueError: If there is no such model, or its image encoder is another one.
        CheckpointError: If the checkpoint cannot be had or is not what it should be.
    """
    earlier = read_trainable(name_or_path, student.image_size)
    if earlier.encoder_name != student.encoder_name:
        raise ValueError(
            f"The student's image encoder is {student.encoder_name}, that of {name_or_path} is "
            f"{earlier.encoder_name}; name a model of the same kind, or another student."
        )
    student.image_encoder.load_state_dict(earlier.image_encoder.state_dict())


def load_backbone(model: Sam, path: Path) -> None:
    """Start a backbone from a classifier's weights in timm's names; its head is left out.

    Raises:
        CheckpointError: If the file is not the classifier that belongs to the backbone.
    """
    backbone = model.image_encoder.backbone
    tensors = {key: tensor.float() for key, tensor in read_checkpoint(path)[0].items()}
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(CLASSIFIER)}
    if model.encoder_name == "deit_tiny" and "pos_embed" in tensors:
        tensors["pos_embed"] = _resample(tensors["pos_embed"], model.image_size)
    wrong = misfits(backbone.state_dict(), tensors)
    if wrong:
        raise CheckpointError(
            f"{path} does not fit the backbone of {model.encoder_name}: {wrong}; expected a "
            "classifier of that architecture in timm's names."
        )
    backbone.load_state_dict(tensors)


def _resample(positions: torch.Tensor, image_size: int) -> torch.Tensor:
    """Bring a plain ViT's (1, 1 + cells, C) position embedding to another image size."""
    side = image_size // EMBED_STRIDE
    return timm.layers.resample_abs_pos_embed(positions, [side, side], num_prefix_tokens=1)


def choose_attention(model: Sam) -> None:
    """Write attention out on the CPU, whose fused attention is slow backwards."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = model.device.type != "cpu"


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

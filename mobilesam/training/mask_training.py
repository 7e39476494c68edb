"""The stages that learn from masks: teacher, coupled, finetune (SAM, section 3 and appendix A)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from mobilesam.modeling import Sam, build_model
from mobilesam.modeling.layers import as_map
from mobilesam.modeling.prompt_encoder import embed_prompts
from mobilesam.registry import load_model
from mobilesam.training.batches import Batch, TrainingBatches
from mobilesam.training.config import (
    DEFAULT_IMAGE_SIZE,
    CoupledConfig,
    FinetuneConfig,
    MaskConfig,
    TeacherConfig,
)
from mobilesam.training.initialise import (
    choose_padding,
    initialise_decoder,
    load_backbone,
    read_trainable,
    short_name,
    student_of,
)
from mobilesam.training.losses import prompt_loss
from mobilesam.training.prompts import (
    BOX_NUMBERS,
    CORRECTION_NUMBERS,
    POINT_NUMBERS,
    box_prompts,
    correction_clicks,
    point_prompts,
    prompt_numbers,
)
from mobilesam.training.run import Run

Decoder = Callable[..., tuple[torch.Tensor, torch.Tensor]]

LARGEST_LOGIT = 32.0  # of a mask that goes back in as a prompt
_ROUNDS_STREAM = 2  # the data and the prompts of a step are drawn from other streams
_FIRST_NUMBERS = 1 + BOX_NUMBERS + POINT_NUMBERS


class _InHalf(torch.autograd.Function):
    """Copies of parameters in bf16, made by one operation: launching one for each takes longer."""

    @staticmethod
    def forward(ctx: Any, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)  # what was not used shall have no gradient
        copies = [torch.empty_like(parameter, dtype=torch.bfloat16) for parameter in parameters]
        torch._foreach_copy_(copies, [parameter.detach() for parameter in parameters])
        return tuple(copies)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        used = [gradient for gradient in gradients if gradient is not None]
        copies = [torch.empty_like(gradient, dtype=torch.float32) for gradient in used]
        torch._foreach_copy_(copies, used)
        remaining = iter(copies)
        return tuple(None if gradient is None else next(remaining) for gradient in gradients)


class MaskStep(nn.Module):
    """The loss of one step: prompt every mask, then correct the prediction a few times.

    Args:
        model: What is trained.
        config: The weights of the losses, the share of boxes, the precision.
        casts_decoder: Whether the mask decoder computes in bf16 throughout, its norms and sums as
            well: it moves much and computes little, and autocast keeps those in float32. By
            default on a GPU with bf16.
    """

    def __init__(self, model: Sam, config: MaskConfig, casts_decoder: bool | None = None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        by_default = config.precision == "bf16" and model.device.type == "cuda"
        self.casts_decoder = by_default if casts_decoder is None else casts_decoder
        self._loss = torch.compile(prompt_loss, dynamic=True) if config.compile else prompt_loss

    def forward(
        self, batch: Batch, numbers: torch.Tensor, keep_mask: tuple[bool, ...]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the mean loss over all rounds, and what to log.

        Args:
            batch: Photos and masks.
            numbers: (B, n) random numbers for the prompts of each mask.
            keep_mask: For each correction, whether the mask before goes in with the click.
        """
        config = self.config
        rows, columns = batch.targets.shape[-2:]
        with self._autocast(batch.pixels.device):
            features = self.model.encode_image(batch.pixels.float())
        decode = self._decoder()
        features = _repeat(features, len(batch.targets) // len(batch.pixels))
        first, later = numbers[:, :_FIRST_NUMBERS], numbers[:, _FIRST_NUMBERS:]
        coords, labels, single_click = self._first_prompts(batch, first)
        rounds = 1 + len(keep_mask)
        total = torch.zeros((), device=numbers.device)
        first_logged: dict[str, torch.Tensor] = {}
        mask_input = None
        for number in range(rounds):
            logits, iou = decode(features, coords, labels, mask_input)
            covered = logits[..., :rows, :columns]  # of a padded square, what the picture covers
            loss, logged = self._loss(
                covered,
                iou,
                batch.targets,
                batch.valid,
                single_click,
                iou_weight=config.iou_weight,
                other_masks_weight=config.other_masks_weight,
            )
            total = total + loss / rounds
            first_logged = first_logged or logged
            if number + 1 < rounds:
                shown = _shown_logits(logits, iou, single_click)
                extra = correction_clicks(
                    shown[:, :rows, :columns],
                    batch.targets,
                    batch.valid,
                    later[:, number * CORRECTION_NUMBERS : (number + 1) * CORRECTION_NUMBERS],
                )
                coords = torch.cat([extra[0], coords], dim=1)
                labels = torch.cat([extra[1], labels], dim=1)
                single_click = torch.zeros_like(single_click)
                mask_input = shown[:, None] if keep_mask[number] else None
        return total, {"loss": total.detach(), **first_logged, "iou_last": logged["iou_single"]}

    def _decoder(self) -> Decoder:
        """Return what decodes as ``Sam.decode_masks`` does, in this step's precision."""
        model, device = self.model, self.model.device

        def decode(
            features: torch.Tensor,
            coords: torch.Tensor,
            labels: torch.Tensor,
            mask_input: torch.Tensor | None,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            with self._autocast(device):
                return model.decode_masks(features, coords, labels, mask_input)

        if not self.casts_decoder:
            return decode
        half = torch.bfloat16
        named = dict(model.mask_decoder.named_parameters())
        weights = dict(zip(named, _InHalf.apply(*named.values()), strict=True))

        def decode_in_half(
            features: torch.Tensor,
            coords: torch.Tensor,
            labels: torch.Tensor,
            mask_input: torch.Tensor | None,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            grid = (features.shape[-2], features.shape[-1])
            with self._autocast(device):
                sparse, dense = embed_prompts(
                    model.prompt_encoder, coords, labels, mask_input, grid, model.draws_prompts
                )
                pe = as_map(model.prompt_encoder.dense_pe(*grid), grid)
            inputs = (each.to(half) for each in (features, pe, sparse, dense))
            return functional_call(model.mask_decoder, weights, (*inputs, None))

        return decode_in_half

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _first_prompts(
        self, batch: Batch, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw a box or a click for each mask; (B, 2, 2), (B, 2) and which are lone clicks."""
        use_box = numbers[:, 0] < self.config.box_share
        box_coords, box_labels = box_prompts(batch.boxes, numbers[:, 1 : 1 + BOX_NUMBERS])
        point_coords, point_labels = point_prompts(batch.targets, numbers[:, 1 + BOX_NUMBERS :])
        coords = torch.where(use_box[:, None, None], box_coords, point_coords)
        labels = torch.where(use_box[:, None], box_labels, point_labels)
        return coords, labels, ~use_box


def _repeat(features: torch.Tensor, times: int) -> torch.Tensor:
    """Return each of (I, C, h, w) so many times in a row, cells' channels side by side."""
    cells = features.permute(0, 2, 3, 1)[:, None].expand(-1, times, -1, -1, -1)
    return cells.flatten(0, 1).permute(0, 3, 1, 2)


@torch.no_grad()
def _shown_logits(
    logits: torch.Tensor, iou: torch.Tensor, single_click: torch.Tensor
) -> torch.Tensor:
    """Return the (B, h, w) logits a person would see: the best of three for a lone click."""
    best = 1 + iou[:, 1:].argmax(1)
    index = torch.where(single_click, best, 0)
    shown = logits[torch.arange(len(logits), device=logits.device), index]
    return shown.float().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


class MaskRun(Run):
    """A run that learns from masks; its stages differ in the model they start with."""

    config: MaskConfig
    freeze: str = "nothing"

    def build_step(self) -> nn.Module:
        """Return the module that computes a step's loss."""
        for part in self._frozen():
            part.requires_grad_(False)
        return MaskStep(self.model, self.config)

    def set_modes(self) -> None:
        """Put all into training mode but what is frozen."""
        self.model.train()
        for part in self._frozen():
            part.eval()

    def _frozen(self) -> tuple[nn.Module, ...]:
        if self.freeze == "image_encoder":
            return (self.model.image_encoder,)
        if self.freeze == "decoder":
            return self.model.prompt_encoder, self.model.mask_decoder
        return ()

    def uses_all_parameters(self) -> bool:
        """The image encoder is used whole; which prompts a step has, the others depend on."""
        return self.freeze == "decoder"

    def batches(self, first_step: int) -> TrainingBatches:
        """Return this process's share of the photos and masks of each step."""
        return TrainingBatches(
            self.config.data, self.config.seed, self.rank, self.world, first_step
        )

    def step_arguments(self, batch: Batch) -> tuple[Batch, torch.Tensor, tuple[bool, ...]]:
        """Draw the numbers of a step's prompts, and how many corrections it has."""
        config = self.config
        photos = len(batch.pixels)
        numbers = prompt_numbers(
            config.seed,
            self.step,
            self.rank * photos,
            photos,
            len(batch.targets) // photos,
            _FIRST_NUMBERS + CORRECTION_NUMBERS * config.max_corrections,
        )
        keep_mask: tuple[bool, ...] = ()
        if self.progress >= config.one_round_share:
            rng = np.random.default_rng([config.seed, self.step, 0, _ROUNDS_STREAM])
            kept = rng.random(rng.integers(config.max_corrections + 1)) < config.keep_mask_share
            keep_mask = tuple(kept.tolist())
        return batch, self.to_device(numbers), keep_mask


class TeacherRun(MaskRun):
    """Train a whole model on masks."""

    config: TeacherConfig

    def build_model(self) -> Sam:
        """Return an untrained model, its backbone perhaps a classifier's."""
        config = self.config
        pads = choose_padding(config.encoder, config.pads_to_square)
        return _untrained(
            config.encoder, config.image_size, pads, config.draws_prompts, config.backbone
        )


class CoupledRun(MaskRun):
    """Train a student's encoder and decoder together from the start."""

    config: CoupledConfig

    def build_model(self) -> Sam:
        """Return the student: untrained, or with its teacher's decoder."""
        config = self.config
        self.freeze = config.freeze
        if config.teacher is None:
            draws = True if config.draws_prompts is None else config.draws_prompts
            return _untrained(
                config.student,
                config.image_size or DEFAULT_IMAGE_SIZE,
                choose_padding(config.student, None),
                draws,
                config.backbone,
            )
        student = student_of(load_model(config.teacher), config.student)
        if config.backbone:
            load_backbone(student, Path(config.backbone))
        return student

    def facts(self) -> dict[str, str]:
        """Name the teacher, too."""
        teacher = self.config.teacher
        return {**super().facts(), **({"teacher": short_name(teacher)} if teacher else {})}


class FinetuneRun(MaskRun):
    """Train encoder and decoder of an earlier model together."""

    config: FinetuneConfig

    def build_model(self) -> Sam:
        """Return the earlier model."""
        self.freeze = self.config.freeze
        return read_trainable(self.config.init, self.config.image_size)

    def facts(self) -> dict[str, str]:
        """Name what the model was before, too, and the teacher it had then."""
        had = {key: value for key, value in self.model.metadata.items() if key == "teacher"}
        return {**super().facts(), **had, "init": short_name(self.config.init)}


def _untrained(
    encoder: str, image_size: int, pads_to_square: bool, draws_prompts: bool, backbone: str | None
) -> Sam:
    model = build_model(
        encoder, image_size, pads_to_square=pads_to_square, draws_prompts=draws_prompts
    )
    if backbone:
        load_backbone(model, Path(backbone))
    initialise_decoder(model)
    return model

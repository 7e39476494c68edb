"""The stages that learn from masks: teacher, coupled, finetune (SAM, section 5 and appendix A)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mobilesam.modeling import Sam, build_model
from mobilesam.registry import load_model
from mobilesam.training.config import (
    DEFAULT_IMAGE_SIZE,
    CoupledConfig,
    FinetuneConfig,
    MaskConfig,
    TeacherConfig,
)
from mobilesam.training.data import Batch, TrainingBatches
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

LARGEST_LOGIT = 32.0  # of a mask that goes back in as a prompt
_ROUNDS_STREAM = 2  # the data and the prompts of a step are drawn from other streams
_FIRST_NUMBERS = 1 + BOX_NUMBERS + POINT_NUMBERS


class MaskStep(nn.Module):
    """The loss of one step: prompt every mask, then correct the prediction a few times.

    Args:
        model: What is trained.
        config: The weights of the losses, the share of boxes, the precision.
    """

    def __init__(self, model: Sam, config: MaskConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

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
        features = features.repeat_interleave(len(batch.targets) // len(batch.pixels), dim=0)
        first, later = numbers[:, :_FIRST_NUMBERS], numbers[:, _FIRST_NUMBERS:]
        coords, labels, single_click = self._first_prompts(batch, first)
        rounds = 1 + len(keep_mask)
        total = torch.zeros((), device=numbers.device)
        first_logged: dict[str, torch.Tensor] = {}
        mask_input = None
        for number in range(rounds):
            with self._autocast(numbers.device):
                logits, iou = self.model.decode_masks(features, coords, labels, mask_input)
            covered = logits[..., :rows, :columns]  # of a padded square, what the picture covers
            loss, logged = prompt_loss(
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

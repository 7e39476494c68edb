"""Train a promptable segmentation model on photos with object masks (SAM, section 5)."""

from __future__ import annotations

import copy
import csv
import logging
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import distributed, nn

from mobilesam.modeling import Sam, build_model
from mobilesam.training.checkpointing import (
    load_backbone,
    load_initial,
    load_state,
    save_model,
    save_state,
)
from mobilesam.training.data import Batch, DataConfig, training_loader
from mobilesam.training.initialise import initialise_decoder
from mobilesam.training.losses import prompt_loss
from mobilesam.training.prompts import box_prompts, correction_clicks, point_prompts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    The schedule ends when ``steps`` or ``minutes`` are used up, whichever is sooner; the learning
    rate follows a cosine over that progress, so a run on a busy machine still ends well.

    Attributes:
        out: Folder for state, weights and log.
        encoder: The image encoder's name.
        backbone: Classifier weights (safetensors, timm's names) to start the plain ViT from.
        init: Safetensors of an earlier run to start from.
        steps: Optimiser steps at most.
        minutes: Training time at most, added up over resumed runs.
        learning_rate: Of decoder, prompt encoder and neck.
        backbone_learning_rate: Of the image encoder's backbone.
        frozen_share: Share of the run, from its start, in which the backbone is not trained.
        weight_decay: AdamW's.
        warmup_steps: Steps over which the learning rate rises from zero.
        box_share: Share of prompts that are boxes.
        max_corrections: Correction clicks after the first prompt, at most.
        one_round_share: Share of the run, from its start, without correction clicks.
        ema_decay: Of the averaged weights that are saved.
        checkpoint_minutes: How often the state is saved.
        log_steps: How often losses are logged.
        workers: Processes that read data; 0 reads in the training process.
        seed: Of everything random.
        device: ``cpu`` or ``cuda``.
    """

    out: str = "runs/first"
    encoder: str = "deit_tiny"
    backbone: str | None = None
    init: str | None = None
    steps: int = 20_000
    minutes: float = 120.0
    learning_rate: float = 5e-4
    backbone_learning_rate: float = 1.5e-4
    frozen_share: float = 0.0
    weight_decay: float = 0.05
    warmup_steps: int = 200
    box_share: float = 0.5
    max_corrections: int = 3
    one_round_share: float = 0.2
    ema_decay: float = 0.998
    checkpoint_minutes: float = 5.0
    log_steps: int = 50
    workers: int = 1
    seed: int = 0
    device: str = "cpu"
    data: DataConfig = field(default_factory=DataConfig)


class Trainer:
    """The state of one run; ``run`` starts or resumes it."""

    def __init__(self, config: TrainConfig) -> None:
        self.rank, self.world = _join_process_group(config.device)
        torch.manual_seed(config.seed)
        self.config = config
        self.out = Path(config.out)
        self.device = torch.device(config.device)
        self.model = self._start_model().to(self.device)
        if self.device.type == "cpu":  # its fused attention is slow backwards
            for module in self.model.modules():
                if hasattr(module, "fused_attn"):
                    module.fused_attn = False
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = self._build_optimizer()
        self.step, self.seconds = 0, 0.0
        self.state_path = self.out / "state.pt"
        if self.state_path.exists():
            self._resume()

    def _start_model(self) -> Sam:
        config = self.config
        model = build_model(config.encoder, config.data.image_size, pads_to_square=False)
        if config.init:
            load_initial(model, Path(config.init))
        elif config.backbone:
            load_backbone(model, Path(config.backbone))
        if not config.init:
            initialise_decoder(model)
        return model

    def _build_optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            in_backbone = name.startswith("image_encoder.backbone.")
            rate = config.backbone_learning_rate if in_backbone else config.learning_rate
            plain = parameter.ndim < 2 or "embed" in name or "token" in name
            decay = 0.0 if plain else config.weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
                for (rate, decay), parameters in groups.items()
            ],
            fused=True,
        )

    def _resume(self) -> None:
        state = load_state(self.state_path)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["rng"])
        logger.info("resumed at step %d", self.step)

    @property
    def progress(self) -> float:
        """How much of the schedule is used up, 0 to 1."""
        used = max(self.step / self.config.steps, self.seconds / 60 / self.config.minutes)
        return min(1.0, used)

    def run(self) -> None:
        """Train until the schedule ends; resumes a run that was cut off."""
        config = self.config
        torch.manual_seed(config.seed + self.step * self.world + self.rank)
        seed = config.seed + self.step * self.world + self.rank
        loader = iter(training_loader(config.data, seed, config.workers))
        sums: dict[str, float] = {}
        saved = self.seconds
        while self.progress < 1:
            start = time.perf_counter()
            batch = next(loader).to(self.device)
            waited = time.perf_counter() - start
            logged = self._train_step(batch)
            took = time.perf_counter() - start
            self.step += 1
            self.seconds += took
            self._agree_on_time()
            for key, value in {**logged, "seconds": took, "waited": waited}.items():
                sums[key] = sums.get(key, 0.0) + float(value)
            if self.step % config.log_steps == 0:
                self._log({key: value / config.log_steps for key, value in sums.items()})
                sums = {}
            if self.seconds - saved > config.checkpoint_minutes * 60:
                self.save()
                saved = self.seconds
        self.save()

    def _agree_on_time(self) -> None:
        """Take the first process's clock for all, so that all of them stop at the same step."""
        if self.world > 1:
            seconds = torch.tensor([self.seconds], dtype=torch.float64, device=self.device)
            distributed.broadcast(seconds, src=0)
            self.seconds = float(seconds)

    def _set_learning_rates(self) -> None:
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps)
        factor = warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress)))
        frozen = self.progress < config.frozen_share
        for group in self.optimizer.param_groups:
            backbone = group["base_lr"] == config.backbone_learning_rate
            group["lr"] = 0.0 if backbone and frozen else group["base_lr"] * factor

    def _train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        self._set_learning_rates()
        self.model.train()
        loss, logged = self._forward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._update_ema()
        return logged

    def _average_gradients(self) -> None:
        """Average the gradients over all processes, in one exchange."""
        if self.world == 1:
            return
        for parameter in self.model.parameters():
            if parameter.grad is None:  # not used in this step by this process
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.model.parameters()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.world
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Prompt every mask, then correct the prediction a few times; return the mean loss."""
        config = self.config
        with torch.autocast(self.device.type, torch.bfloat16):
            features = self.model.encode_image(batch.pixels.float())
        per_image = len(batch.targets) // len(batch.pixels)
        features = features.repeat_interleave(per_image, dim=0)
        coords, labels, single_click = self._first_prompts(batch)
        rounds = 1
        if self.progress >= config.one_round_share:
            rounds += int(torch.randint(0, config.max_corrections + 1, ()))
        total: torch.Tensor | float = 0.0
        first_logged: dict[str, torch.Tensor] = {}
        mask_input = None
        for number in range(rounds):
            with torch.autocast(self.device.type, torch.bfloat16):
                logits, iou = self.model.decode_masks(features, coords, labels, mask_input)
            loss, logged = prompt_loss(logits, iou, batch.targets, batch.valid, single_click)
            total = total + loss / rounds
            first_logged = first_logged or logged
            if number + 1 < rounds:
                shown = self._shown_logits(logits, iou, single_click)
                extra_coords, extra_labels = correction_clicks(shown, batch.targets, batch.valid)
                coords = torch.cat([extra_coords, coords], dim=1)
                labels = torch.cat([extra_labels, labels], dim=1)
                single_click = torch.zeros_like(single_click)
                mask_input = shown[:, None] if torch.rand(()) < 0.7 else None
        return total, {**first_logged, "loss": total.detach(), "iou_last": logged["iou_single"]}

    def _first_prompts(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw a box or a click for each mask; (B, 2, 2), (B, 2) and which are lone clicks."""
        use_box = torch.rand(len(batch.targets), device=self.device) < self.config.box_share
        box_coords, box_labels = box_prompts(batch.boxes)
        point_coords, point_labels = point_prompts(batch.targets)
        coords = torch.where(use_box[:, None, None], box_coords, point_coords)
        labels = torch.where(use_box[:, None], box_labels, point_labels)
        return coords, labels, ~use_box

    @staticmethod
    @torch.no_grad()
    def _shown_logits(
        logits: torch.Tensor, iou: torch.Tensor, single_click: torch.Tensor
    ) -> torch.Tensor:
        """Return the (B, h, w) logits a person would see: the best of three for a lone click."""
        best = 1 + iou[:, 1:].argmax(1)
        index = torch.where(single_click, best, torch.zeros_like(best))
        return logits[torch.arange(len(logits)), index].float().detach().clamp(-32, 32)

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        averaged = [*self.ema.parameters()]
        torch._foreach_lerp_(averaged, [*self.model.parameters()], 1 - decay)

    def _log(self, values: dict[str, float]) -> None:
        if self.rank:
            return
        waited = values["waited"] / max(values["seconds"], 1e-9)
        row = {"step": self.step, "minutes": self.seconds / 60, "progress": self.progress, **values}
        path = self.out / "log.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({key: f"{value:.5g}" for key, value in row.items()})
        logger.info(
            "step %d  %.1f min  loss %.3f  IoU first %.3f / best of three %.3f, last %.3f  "
            "small %.3f  %.2f s/step, %.0f %% waiting for data",
            self.step,
            self.seconds / 60,
            values["loss"],
            values["iou_single"],
            values["iou_best"],
            values["iou_last"],
            values["iou_small"],
            values["seconds"],
            100 * waited,
        )

    def save(self) -> None:
        """Write the run's state, and the averaged weights as they would ship."""
        if self.rank:
            return
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "rng": torch.get_rng_state(),
        }
        save_state(self.state_path, state)
        metadata = {
            "steps": str(self.step),
            "training_data": "duts_tr, coco_sub, coco_person, ccp, pets600, animals, car_parts, "
            "human290, bsds500",
            "licence": "research and demonstration",
        }
        save_model(self.ema, self.out / "model.safetensors", metadata)


def _join_process_group(device: str) -> tuple[int, int]:
    """Return this process's rank and how many there are; ``torchrun`` sets what is needed."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return distributed.get_rank(), distributed.get_world_size()

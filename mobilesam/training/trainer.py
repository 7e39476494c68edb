"""Train a promptable segmentation model on photos with object masks (SAM, section 5)."""

from __future__ import annotations

import copy
import csv
import logging
import math
import time
from pathlib import Path

import torch
from torch import nn

from mobilesam.modeling import Sam, build_model
from mobilesam.training import processes
from mobilesam.training.checkpointing import (
    load_backbone,
    load_initial,
    load_state,
    save_model,
    save_state,
)
from mobilesam.training.config import TrainConfig
from mobilesam.training.data import Batch, TrainingBatches, training_loader
from mobilesam.training.initialise import initialise_decoder
from mobilesam.training.losses import prompt_loss
from mobilesam.training.prompts import box_prompts, correction_clicks, point_prompts

logger = logging.getLogger(__name__)


class Trainer:
    """The state of one run; ``run`` starts or resumes it."""

    def __init__(self, config: TrainConfig) -> None:
        self.rank, self.world = processes.join(config.device)
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
        self.batches = TrainingBatches(config.data, config.seed)
        self.state_path = self.out / "state.pt"
        if self.state_path.exists():
            self._resume()

    def _start_model(self) -> Sam:
        config = self.config
        model = build_model(
            config.encoder,
            config.data.image_size,
            pads_to_square=False,
            draws_prompts=config.draws_prompts,
        )
        if config.init:
            load_initial(model, Path(config.init))
            return model
        if config.backbone:
            load_backbone(model, Path(config.backbone))
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
        wanted = self.config.fixed()
        changed = [key for key in wanted if state["config"].get(key) != wanted[key]]
        if changed:
            raise ValueError(
                f"{self.state_path} is the state of a run with other settings of "
                f"{', '.join(changed)}; name another --out, or use the settings it began with."
            )
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("resumed at step %d", self.step)

    @property
    def progress(self) -> float:
        """How much of the schedule is used up, 0 to 1."""
        used = max(self.step / self.config.steps, self.seconds / 60 / self.config.minutes)
        return min(1.0, used)

    def run(self) -> None:
        """Train until the schedule ends; resumes a run that was cut off."""
        config = self.config
        if self.progress >= 1:
            logger.info("%s is finished: %d steps", self.out, self.step)
            return
        seed = config.seed + self.step * self.world + self.rank  # another one for each process
        torch.manual_seed(seed)
        self.batches.seed = seed
        loader = iter(training_loader(self.batches, config.workers))
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
            if self.world > 1:
                self.seconds = processes.first_process_says(self.seconds, self.device)
            for key, value in {**logged, "seconds": took, "waited": waited}.items():
                sums[key] = sums.get(key, 0.0) + float(value)
            if self.step % config.log_steps == 0:
                self._log({key: value / config.log_steps for key, value in sums.items()})
                sums = {}
            if self.seconds - saved > config.checkpoint_minutes * 60:
                self.save()
                saved = self.seconds
        self.save()

    def _set_learning_rates(self) -> None:
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup_steps)
        factor = warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        self._set_learning_rates()
        self.model.train()
        loss, logged = self._forward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.world > 1:
            processes.average_gradients(self.model)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._update_ema()
        return logged

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
        for kept, current in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)  # BatchNorm's statistics are averages already

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
            "config": self.config.fixed(),
        }
        save_state(self.state_path, state)
        metadata = {
            "steps": str(self.step),
            "training_data": ", ".join(self.batches.set_names),
            "licence": self.config.licence,
        }
        save_model(self.ema, self.out / "model.safetensors", metadata)

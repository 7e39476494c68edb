"""One training run, whatever it learns: schedule, processes, checkpoints, log, validation."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mobilesam.files import make_folder
from mobilesam.modeling import Sam
from mobilesam.training import curves, processes
from mobilesam.training.batches import Batches
from mobilesam.training.checkpointing import (
    COUNTED,
    all_finite,
    load_state,
    refuse_other_settings,
    save_model,
    save_state,
)
from mobilesam.training.compiling import compile_parts
from mobilesam.training.config import MAY_CHANGE, RunConfig
from mobilesam.training.evaluate import summarise
from mobilesam.training.initialise import choose_attention
from mobilesam.training.loader import training_loader
from mobilesam.training.meter import Meter, Skips
from mobilesam.training.optimiser import Average, build_optimizer, take_step
from mobilesam.training.places import open_validation
from mobilesam.training.schedule import Schedule, set_learning_rates
from mobilesam.training.stopping import StopRequest
from mobilesam.training.validation import measure_together

logger = logging.getLogger(__name__)

RULES = {  # that earlier versions had otherwise: what they began cannot go on as it would have
    "what weight_decay is for": "matrices and convolutions",  # AdamW's averages lie in that order
    "how the learning rate rises": "over a tenth of all steps at most",
    "where clicks fall": "half of them in the deepest of several places, by three squares",
    "how photos are drawn": "those of an aspect ratio that fills few batches with a near one",
}


class Run(ABC):
    """The state of one run; ``run`` starts it, or resumes it where it was cut off.

    Data and random numbers of a step depend on its number only, so that a resumed run computes
    what an unbroken one does. A stage says what the model is, what its batches are and what a
    step's loss is.

    Attributes:
        config: What the run was told; ``data.image_size`` is the model's.
        model: What is trained.
        ema: The averaged weights: what is validated, and what ships.
        step: Steps done.
        skips: Counts those whose gradients were not finite.
        seconds: Time spent in them.
        waited: How much of that was spent waiting for data.
    """

    def __init__(self, config: RunConfig) -> None:
        self.rank, self.world, self.device = processes.join(config.device)
        self.out = Path(config.out)
        torch.manual_seed(config.seed)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32
            torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape of photos
        if config.workers is None:
            config = dataclasses.replace(config, workers=processes.workers_for(self.device))
        self.config = config
        self.validation_source = open_validation(config)
        self.model = self.build_model().to(self.device, memory_format=torch.channels_last)
        data = dataclasses.replace(config.data, image_size=self.model.image_size)
        self.config = dataclasses.replace(config, data=data)
        choose_attention(self.model)
        self.module = self.build_step()
        if self.world > 1:
            self.module = processes.share_gradients(
                self.module, self.device, uses_all=self.uses_all_parameters()
            )
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = build_optimizer(self.model, config)
        self.schedule = Schedule(config.steps, config.minutes)
        self._average = Average(self.ema, self.model)
        self._parameters = [*self.model.parameters()]
        self.step, self.seconds, self.waited = 0, 0.0, 0.0
        self._mark = 0.0  # when the clock was last read
        self._logged_seconds = 0.0
        self.skips = Skips()
        self._meter = Meter(self.device, self.world)
        make_folder(self.out)
        self.state_path = self.out / "state.pt"
        if self.state_path.exists():
            self._resume()
        if self.world > 1:
            self._check_agreement()
        self.photos = self.batches(self.step)
        if config.compile:
            compile_parts(self.model)

    def _check_agreement(self) -> None:
        """Refuse to train on where not all processes have found the same state."""
        first = processes.first_process_says(self.step)
        if processes.any_of_all(first != self.step):
            raise ValueError(
                f"The processes go on from different steps: not all see {self.state_path}; name an "
                "--out that all machines see."
            )

    @abstractmethod
    def build_model(self) -> Sam:
        """Return the model to start with, on the CPU."""

    @abstractmethod
    def build_step(self) -> nn.Module:
        """Return a module over ``self.model`` whose forward is one step.

        It takes what ``step_arguments`` returns and gives the loss and scalars to log, the loss
        first, all of them tensors.
        """

    def uses_all_parameters(self) -> bool:
        """Tell whether each step uses every parameter that is trained; asked for processes."""
        return False

    @abstractmethod
    def batches(self, first_step: int) -> Batches:
        """Return the endless stream of this process's batches from a step on."""

    def step_arguments(self, batch: Any) -> tuple[Any, ...]:
        """Return the arguments of a step's forward; ``batch`` is on the device already."""
        return (batch,)

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """Bring a tensor from the CPU to the device; the GPU's queue is not waited for."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()  # from elsewhere the copy would wait
        return tensor.to(self.device, non_blocking=True)

    def facts(self) -> dict[str, str]:
        """Return what the report and the weights' metadata say of data and stage.

        Data that the model it began with has learnt from count as well.
        """
        before = self.model.metadata.get("training_data", "").split(", ")
        names = {*self.photos.set_names, *before} - {""}
        return {"training_data": ", ".join(sorted(names))}

    def set_modes(self) -> None:
        """Put the model's parts into training mode."""
        self.model.train()

    def _fixed(self) -> dict[str, str]:
        return {**self.config.fixed(), **RULES, "processes": str(self.world)}

    def _resume(self) -> None:
        state = load_state(self.state_path)
        had = {name: value for name, value in state["config"].items() if name not in MAY_CHANGE}
        refuse_other_settings(self.state_path, self._fixed(), had)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in COUNTED:
            setattr(self, name, state[name])
        self.skips.total = state["skipped"]
        self.schedule.quickest = state.get("quickest", math.inf)  # earlier versions kept none
        if self.rank == 0:
            for name in (curves.LOG, curves.VALIDATION):
                curves.drop_rows_after(self.out / name, self.step)
        self.say(f"resumed at step {self.step}")

    def say(self, text: str) -> None:
        """Log a line, once for all processes."""
        if self.rank == 0:
            logger.info("%s", text)

    def progress_bar(self, **options: Any) -> tqdm:
        """Return a bar that is drawn by the first process, where somebody may see it."""
        hidden = self.rank > 0 or not sys.stderr.isatty()
        return tqdm(disable=hidden, dynamic_ncols=True, **options)

    @property
    def progress(self) -> float:
        """How much of the schedule is used up, 0 to 1."""
        return self.schedule.progress(self.step, self.seconds)

    def run(self) -> None:
        """Train until the schedule ends, then validate and report."""
        if self.progress >= 1 and (self.out / curves.REPORT).exists():
            self.say(f"{self.out} is finished: {self.step} steps")
            return
        if self.rank == 0:
            (self.out / curves.REPORT).unlink(missing_ok=True)
        if self.progress < 1:
            self._train()
        self.save()
        if self.validation_source is not None:
            self.validate()
        if self.rank == 0:
            curves.draw_curves(self.out, self._title())
            self._report()
        processes.wait_for_all()

    def _train(self) -> None:
        config = self.config
        pin = self.device.type == "cuda"
        batches = training_loader(self.photos, config.workers, pin_memory=pin)
        self.set_modes()
        bar = self.progress_bar(total=config.steps, initial=self.step, unit="step")
        self._logged_seconds = self.seconds
        self._mark = time.perf_counter()
        with (
            StopRequest(self.rank, self.world) as stop,
            closing(batches) as loader,
            bar,
            logging_redirect_tqdm(),
        ):
            while True:
                before = self.seconds
                self._train_step(loader)
                self._tick()
                self.schedule.note(self.seconds - before)
                must_stop = processes.any_of_all(stop.made)
                if config.minutes:  # how many steps there will be nobody knows
                    bar.set_description_str(f"{self.progress:.0%}", refresh=False)
                bar.update()
                if self.step % config.log_steps == 0 or self.progress >= 1:
                    self._log(bar)
                if self.progress >= 1:
                    break  # both follow anyway
                if must_stop:
                    self.save()
                    processes.wait_for_all()  # torchrun ends the others with the first that ends
                    self.say(f"stopped at step {self.step}; the same command goes on from there")
                    raise KeyboardInterrupt
                validates = self._due(config.val_minutes, before)
                if validates or self._due(
                    config.checkpoint_minutes, before, config.checkpoint_steps
                ):
                    self.save()
                if validates:  # long: who is asked to stop may not have the time
                    self.validate()

    def _tick(self) -> None:
        """Add the time since the clock was last read; all processes go by the first one's."""
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._mark = now
        if self.world > 1:
            self.seconds = processes.first_process_says(self.seconds)

    def _due(self, minutes: float | None, before: float, steps: int | None = None) -> bool:
        """Tell whether an interval of time or of steps has ended with this step."""
        by_clock = minutes and self.seconds // (60 * minutes) > before // (60 * minutes)
        return bool(by_clock or (steps and self.step % steps == 0))

    def _train_step(self, loader: Iterator[Any]) -> None:
        config = self.config
        start = time.perf_counter()
        batch = next(loader)
        waited = time.perf_counter() - start
        seed = np.random.SeedSequence([config.seed, self.step, self.rank]).generate_state(1)
        torch.manual_seed(int(seed[0]))
        expected = self.schedule.expected_steps(self.step, self.seconds)
        share = set_learning_rates(
            self.optimizer, self.step, config.warmup_steps, expected, self.progress
        )
        loss, logged = self.module(*self.step_arguments(batch.to(self.device)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        skipped = take_step(self.optimizer, self._parameters, config.clip_norm)
        self._average.restore_statistics(skipped)
        self._average.update(self.step, config.ema_decay)
        self.step += 1
        self.waited += waited
        measured = {"learning_rate": share * config.learning_rate, "waited": waited}
        self._meter.add(logged, measured, skipped)

    def _log(self, bar: tqdm) -> None:
        """Write the means since the last time; a GPU is waited for here."""
        steps = self._meter.steps
        values = self._meter.read()
        self._tick()
        took = (self.seconds - self._logged_seconds) / steps
        self._logged_seconds = self.seconds
        name, loss = next(iter(values.items()))
        if why := self.skips.add(steps, round(values["skipped"])):
            self._stop(why)
        if self.rank:
            return
        waiting = values.pop("waited") / took
        photos = self.config.data.images_per_batch * self.world
        row = {"step": self.step, "minutes": self.seconds / 60, "progress": self.progress, **values}
        row |= {"images_per_second": photos / took, "waiting_share": waiting}
        curves.append_row(self.out / curves.LOG, row)
        bar.set_postfix_str(f"{name} {loss:.4g}")
        if bar.disable:
            self.say(curves.in_words(row))

    def _stop(self, why: str) -> NoReturn:
        raise ValueError(
            f"{why}, up to step {self.step}. Begin again with another --out and lower learning "
            "rates, or with precision fp32; these cannot change within a run. What the last "
            "checkpoint saved is kept."
        )

    def save(self) -> None:
        """Write the run's state, and the averaged weights as they would ship."""
        if self.rank:
            return
        if not all_finite(self.model):
            self._stop("Weights are no longer finite")
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in COUNTED},
            "skipped": self.skips.total,
            "quickest": self.schedule.quickest,
            "config": self._fixed(),
        }
        save_state(self.state_path, state)
        metadata = {
            "stage": self.config.stage,
            "steps": str(self.step),
            "licence": self.config.licence,
            **self.facts(),
        }
        save_model(self.ema, self.out / "model.safetensors", metadata)
        self._mark = time.perf_counter()  # this time is not the schedule's

    def validate(self) -> None:
        """Measure the averaged weights on the first validation photos, dealt to all processes."""
        if self.validation_source is None:
            return
        start = time.perf_counter()
        rows = measure_together(
            self.ema,
            self.device,
            self.validation_source,
            self.config.val_photos,
            (self.rank, self.world),
        )
        if rows:
            self._note_validation(summarise(rows)["overall"], time.perf_counter() - start)
        elif rows is not None:
            self.say(f"{self.config.val_photos} validation photos hold no mask to measure")
        processes.wait_for_all()
        self._mark = time.perf_counter()  # nor is this

    def _note_validation(self, overall: dict[str, float], took: float) -> None:
        row = {"step": self.step, "minutes": self.seconds / 60, **overall}
        path = self.out / curves.VALIDATION
        curves.drop_rows_after(path, self.step - 1)  # had it been cut off before its report
        curves.append_row(path, row)
        curves.draw_curves(self.out, self._title())
        self.say(f"validation ({took:.0f} s): {curves.in_words(row)}")

    def _title(self) -> str:
        return f"{self.config.stage}: {self.model.encoder_name}, {self.model.image_size} px"

    def _report(self) -> None:
        parameters = sum(p.numel() for p in self.model.parameters())
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        photos = self.step * self.config.data.images_per_batch * self.world
        facts = {
            "model": f"{self._title()}, {parameters:,} parameters, {trained:,} of them trained",
            **self.facts(),
            "steps": f"{self.step:,}",
            "steps skipped, their gradients not finite": f"{self.skips.total:,}",
            "photos seen": f"{photos:,}",
            "time": f"{self.seconds / 60:.1f} minutes on {self.world} × {self.device.type}",
            "time spent waiting for data": f"{self.waited / max(self.seconds, 1e-9):.1%}",
        }
        curves.write_report(self.out, self._title(), facts, self.config.settings())

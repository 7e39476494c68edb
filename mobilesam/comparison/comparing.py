"""Two models, the same photo and the same prompts: their masks, their times, their memory.

Each model runs in a process of its own, at the lowest priority: the memory that is measured is
that model's alone, a run can be cancelled at any moment, and whatever else the machine serves comes
first. The processes start together, which takes longer than most models do, and then work one after
the other. What is measured depends on how busy the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilesam.checkpoints import CheckpointError
from mobilesam.comparison.memory import PROCESS_BYTES, free_bytes, needed_bytes
from mobilesam.comparison.process import Worker, WorkerDied
from mobilesam.comparison.progress import Plan, Progress, Reporter
from mobilesam.machine import machine_name
from mobilesam.masks import mask_iou
from mobilesam.prompts import Numbers, Prompts
from mobilesam.registry import MODELS, locate
from mobilesam.steps import check_steps
from mobilesam.transforms import read_image

POLL_SECONDS = 0.1  # how soon a cancel is noticed


class ComparisonError(RuntimeError):
    """A comparison could not be made; the message is one sentence, fit for a visitor."""


class ComparisonCancelled(RuntimeError):
    """A comparison was stopped by its caller before it was through."""


@dataclass(frozen=True, eq=False)
class ModelRun:
    """What one model made of the photo, and what that took on this machine, in this run.

    Attributes:
        name: What ``load_model`` takes; of a file its name without the ending.
        title: What people read.
        source: The checkpoint file.
        parameters: How many values the network computes with.
        file_bytes: Size of the checkpoint file.
        load_ms: To read the file and build the network; not the start of Python and PyTorch.
        encode_ms: To encode the photo, resizing included; where that is quick, the best of three.
        decode_ms: To decode the prompts' last step; the median of five.
        predicted_iou: The model's own estimate of the mask's IoU.
        mask: (H, W) bool, at the photo's own size.
        peak_bytes: The most memory its process had, Python, PyTorch and the photo included; None
            where the system does not tell.
        is_chosen: Whether somebody's choice among its candidates made the mask, and not its own
            estimate alone.
    """

    name: str
    title: str
    source: Path
    parameters: int
    file_bytes: int
    load_ms: float
    encode_ms: float
    decode_ms: float
    predicted_iou: float
    mask: np.ndarray
    peak_bytes: int | None
    is_chosen: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models' answers to the same prompts.

    Attributes:
        first: One model's.
        second: The other's.
        iou: Intersection over union of their masks, 0 to 1.
        size: The photo's (height, width), pixels.
        machine: The processor and its number of cores.
        threads: With how many the models computed.
        points: (N, 2) x, y in pixels of the photo; N may be 0.
        labels: (N,) 1 to include, 0 to exclude.
        box: (x0, y0, x1, y1) in pixels of the photo, or None.
    """

    first: ModelRun
    second: ModelRun
    iou: float
    size: tuple[int, int]
    machine: str
    threads: int
    points: np.ndarray
    labels: np.ndarray
    box: tuple[float, ...] | None

    @property
    def titles(self) -> tuple[str, str]:
        """What to call the two models, also where both are the same."""
        first, second = self.first.title, self.second.title
        return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def compare(
    image: str | Path | Image.Image | np.ndarray,
    models: tuple[str | Path, str | Path],
    *,
    points: Numbers | None = None,
    labels: Numbers | None = None,
    box: Numbers | None = None,
    steps: Sequence[int] | None = None,
    choices: Sequence[int | None] | None = None,
    chosen_with: str | Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Comparison:
    """Let two models answer the same prompts on the same photo.

    Args:
        image: As ``Predictor.encode`` takes it.
        models: Two names of ``MODELS`` or checkpoint files; nothing is downloaded.
        points: (N, 2) x, y in pixels of the photo.
        labels: (N,) 1 to include, 0 to exclude; all 1 if left out.
        box: (4,) x0, y0, x1, y1 in pixels of the photo.
        steps: As ``predict_steps``.
        choices: As ``predict_steps``; the last one is the mask that is compared, and where it is
            None each model's best.
        chosen_with: The model among whose candidates the choices were made, as in ``models``: the
            other one's candidates are others, and its best are taken. None: they hold for both.
        progress: Called several times a second with the share done and what is being done. How
            far an encoding is, is estimated from the time it has taken.
        cancelled: Asked ten times a second; once it returns True the comparison ends.

    Raises:
        FileNotFoundError, TypeError, ValueError: The photo, the prompts or a model's name is not
            as it should be.
        CheckpointError: A checkpoint is missing or cannot be read.
        ComparisonError: The memory does not suffice, or a model's process died.
        ComparisonCancelled: It was cancelled.
    """
    if len(models) != 2:
        raise ValueError(f"Two models can be compared; got {len(models)}.")
    photo = read_image(image)
    height, width = photo.shape[:2]
    prompts = Prompts.check((height, width), points, labels, box)
    check_steps(prompts, steps, choices)  # before a process is started
    corners = None if prompts.boxes is None else tuple(map(float, prompts.boxes[0]))
    plans = [_plan(model) for model in models]
    chooser = None if chosen_with is None else locate(chosen_with, download=False)[0]
    requests = [
        _as_json(prompts, corners, steps, choices if chooser in (None, plan.path) else None)
        for plan in plans
    ]
    waiting = PROCESS_BYTES + photo.nbytes  # the other one, while the first works
    for plan, beside in zip(plans, (waiting, 0), strict=True):
        check_memory(plan.title, plan.name, plan.file_bytes, photo.nbytes, beside)
    (first, threads), (second, _) = _run_all(
        plans, photo, requests, Reporter(plans, progress), cancelled or (lambda: False)
    )
    return Comparison(
        first,
        second,
        mask_iou(first.mask, second.mask),
        (height, width),
        machine_name(),
        threads,
        prompts.points,
        prompts.labels,
        corners,
    )


def check_memory(
    title: str, name: str | None, file_bytes: int, photo_bytes: int = 0, beside: int = 0
) -> None:
    """Refuse a model that would not fit into the memory that is free now.

    Args:
        title: What to call the model.
        name: Its name in ``MODELS``, or anything else.
        file_bytes: Size of its checkpoint.
        photo_bytes: Size of the photo's pixels.
        beside: What else has to fit, bytes.

    Raises:
        ComparisonError: It would not fit.
    """
    needed, free = needed_bytes(file_bytes, photo_bytes, name) + beside, free_bytes()
    if free is not None and free < needed:
        raise ComparisonError(
            f"{title} takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
            " on this machine; choose a smaller model."
        )


def _plan(model: str | Path) -> Plan:
    path, name = locate(model, download=False)
    title = MODELS[name].title if str(model) in MODELS else name
    return Plan(name, title, path, path.stat().st_size)


def _as_json(
    prompts: Prompts,
    box: tuple[float, ...] | None,
    steps: Sequence[int] | None,
    choices: Sequence[int | None] | None,
) -> dict[str, Any]:
    """Return the arguments of ``predict_steps``, fit to be sent."""
    return {
        "points": prompts.points.tolist() or None,
        "labels": prompts.labels.tolist() or None,
        "box": box,
        "steps": None if steps is None else [_plain(step) for step in steps],
        "choices": None if choices is None else [_plain(choice) for choice in choices],
    }


def _plain(value: Any) -> Any:
    """Return what JSON knows in place of numpy's own numbers; all else is checked later."""
    return value.item() if isinstance(value, np.generic) else value


def _run_all(
    plans: Sequence[Plan],
    photo: np.ndarray,
    requests: Sequence[dict[str, Any]],
    report: Reporter,
    cancelled: Callable[[], bool],
) -> list[tuple[ModelRun, int]]:
    """Run the models; returns the results of each, and its number of threads."""
    _check_cancelled(cancelled)
    report.begin("starting")
    with ExitStack() as started:
        workers = [
            started.enter_context(
                Worker({"path": str(plan.path), "name": plan.name, "prompts": prompts}, photo)
            )
            for plan, prompts in zip(plans, requests, strict=True)
        ]
        both = list(zip(plans, workers, strict=True))
        for plan, worker in both:  # none disturbs what another measures
            while _heard(plan, worker, report, cancelled) != {"stage": "ready"}:
                pass
        results = []
        for number, (plan, worker) in enumerate(both):
            report.next_model(number)
            worker.begin()
            waiting = both[number + 1 :]
            while "stage" in (message := _heard(plan, worker, report, cancelled, waiting)):
                report.begin(message["stage"])
            is_chosen = any(choice is not None for choice in requests[number]["choices"] or [])
            results.append(_result(plan, photo, message, is_chosen))
            worker.end()  # its memory is the next one's
        return results


def _heard(
    plan: Plan,
    worker: Worker,
    report: Reporter,
    cancelled: Callable[[], bool],
    waiting: Sequence[tuple[Plan, Worker]] = (),
) -> dict[str, Any]:
    """Return what a process says next; others that wait must not end meanwhile."""
    while True:
        for other, idle in waiting:
            if idle.process.poll() is not None:
                _heard(other, idle, report, cancelled)  # raises what it died of
        try:
            message = worker.next_message(POLL_SECONDS)
        except WorkerDied as error:
            raise ComparisonError(f"{plan.title} could not be run here: {error}.") from error
        _check_cancelled(cancelled)
        if message is None:
            report.tick()
        elif "error" in message:
            raise _error(plan, message)
        else:
            return message


def _result(
    plan: Plan, photo: np.ndarray, message: dict[str, Any], is_chosen: bool
) -> tuple[ModelRun, int]:
    values = message["report"]
    threads = values.pop("threads")
    height, width = photo.shape[:2]
    bits = np.frombuffer(message["mask_bits"], np.uint8)
    mask = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
    run = ModelRun(
        plan.name,
        plan.title,
        plan.path,
        file_bytes=plan.file_bytes,
        mask=mask,
        is_chosen=is_chosen,
        **values,
    )
    return run, threads


def _check_cancelled(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise ComparisonCancelled("The comparison was cancelled.")


def _error(plan: Plan, message: dict[str, Any]) -> Exception:
    """Return what the process reported, as the exception it was there."""
    kind, text = message["error"], message["text"]
    if kind == "checkpoint":
        return CheckpointError(text)
    if kind == "value":
        return ValueError(text)
    if kind == "memory":
        return ComparisonError(
            f"The memory of this machine does not suffice for {plan.title}; choose a smaller model."
        )
    line = " ".join(text.split())[:200] or "it gave no reason"
    return ComparisonError(f"{plan.title} could not be run here: {line}.")

"""From a picture's file to its result: one function, and a pipeline for many pictures."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mobilesam.errors import is_disk_full, sentence
from mobilesam.folders.outputs import Job, Output

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mobilesam.everything import EverythingOptions
    from mobilesam.exporting import ObjectMask
    from mobilesam.predictor import ImageEmbedding

LOGGER = logging.getLogger(__name__)
AHEAD = 1  # pictures that wait, beside one for each thread, to be encoded or to be written


@dataclass(frozen=True)
class Task:
    """What is done with every picture; small, and fit to be sent to another machine.

    Attributes:
        output: How results are written.
        model: Name or checkpoint path.
        name: What objects found without prompts are called.
        threads: Of the model's arithmetic; single pixels may depend on their number.
        load: Further keyword arguments of ``load_model``.
        everything: Options of the everything mode that are not the model's defaults; None to
            segment what prompts tell.
    """

    output: Output
    model: str
    name: str
    threads: int
    load: Mapping[str, Any] = field(default_factory=dict)
    everything: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a picture.

    Attributes:
        job: The picture.
        objects: How many were written.
        error: Why there is no result; empty if there is one.
        fatal: Whether the error will meet every other picture, too.
    """

    job: Job
    objects: int = 0
    error: str = ""
    fatal: bool = False


@dataclass(frozen=True, eq=False)
class Loaded:
    """A picture that was read.

    Attributes:
        photo: (H, W, 3) uint8.
        pixels: (1, 3, h, w) uint8, resized for the model.
    """

    photo: np.ndarray
    pixels: torch.Tensor


Found = Callable[[], "Sequence[ObjectMask]"]  # the masks are made when they are written


class Worker:
    """Reads pictures, finds what is wanted in them, writes it.

    The three steps may run in different threads.

    Args:
        task: What to do.
        progress: Called with a share of one picture's work, 0 to 1.
    """

    def __init__(self, task: Task, progress: Callable[[float], None] | None = None) -> None:
        import torch

        from mobilesam.everything import EverythingOptions
        from mobilesam.predictor import Predictor
        from mobilesam.registry import load_model

        if task.threads != torch.get_num_threads():
            torch.set_num_threads(task.threads)
        warnings.filterwarnings("ignore", message="Image size .* decompression bomb")  # refused
        self.task = task
        self.progress = progress
        self.predictor = Predictor(load_model(task.model, **task.load))
        self.options: EverythingOptions | None = None
        if task.everything is not None:
            self.options = EverythingOptions.for_model(self.predictor.model, **task.everything)

    def __call__(self, job: Job) -> Outcome:
        """Do all for one picture; never raises what is the picture's own fault."""
        try:
            loaded = self.read(job)
            return Outcome(job, self.write(job, loaded, self.find(job, loaded)))
        except Exception as error:
            return failed(job, error)

    def read(self, job: Job) -> Loaded:
        """Read a picture, and check its prompts.

        Raises:
            FileNotFoundError, ValueError: The picture cannot be read, or a prompt is not in it.
        """
        import torch

        from mobilesam.prompts import Prompts
        from mobilesam.transforms import input_size_for, read_image, resize

        photo = read_image(job.picture.path)
        height, width = photo.shape[:2]
        for prompt in job.picture.prompts:
            try:
                Prompts.check((height, width), **prompt.arguments())
            except ValueError as error:
                where = f"{prompt.origin}: " if prompt.origin else ""
                raise ValueError(f"{where}{error}") from error
        size = input_size_for((height, width), self.predictor.model.image_size)
        resized = torch.tensor(resize(photo, size))
        return Loaded(photo, resized.permute(2, 0, 1)[None])

    def find(self, job: Job, loaded: Loaded) -> Found:
        """Find what is wanted in a picture."""
        from mobilesam.exporting import ObjectMask

        if self.options is not None:
            return self._find_everything(loaded, self.options)
        embedding = self._encode(loaded)
        prompts = job.picture.prompts
        found = [self.predictor.predict(embedding, **prompt.arguments()) for prompt in prompts]
        return lambda: [
            ObjectMask.from_mask(
                one.mask(one.best), str(prompt.name), float(one.iou_predictions[one.best])
            )
            for prompt, one in zip(prompts, found, strict=True)
        ]

    def _find_everything(self, loaded: Loaded, options: EverythingOptions) -> Found:
        from mobilesam.everything import generate
        from mobilesam.exporting import ObjectMask

        source = loaded.photo if options.crop_n_layers else self._encode(loaded)
        progress = self._tell_progress
        records = list(generate(self.predictor, source, options, progress=progress))
        return lambda: [ObjectMask(one.rle, self.task.name, one.predicted_iou) for one in records]

    def _encode(self, loaded: Loaded) -> ImageEmbedding:
        height, width = loaded.photo.shape[:2]
        return self.predictor.encode_pixels(loaded.pixels, (height, width))

    def write(self, job: Job, loaded: Loaded, found: Found) -> int:
        """Write what was found; returns the number of objects.

        Raises:
            OSError: It could not be written.
        """
        objects = found()
        self.task.output.write(job, objects, loaded.photo)
        return len(objects)

    def _tell_progress(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done / total)


def failed(job: Job, error: Exception) -> Outcome:
    """Return that a picture has no result, and why."""
    LOGGER.info("%s failed", job.picture.path, exc_info=error)
    causes = (error, error.__cause__)
    fatal = any(map(is_disk_full, causes))  # no other picture will fare better
    return Outcome(job, error=sentence(error), fatal=fatal)


def outcomes(worker: Worker, jobs: Sequence[Job], threads: int) -> Generator[Outcome]:
    """Work on pictures one after the other, and tell what became of each.

    With more than one thread, that many read pictures ahead of the one that is encoded, and as many
    write results behind it. Only a few pictures are in memory at a time. Where this is left before
    its end, no further picture is begun, and what is being written is written to its end.
    """
    if threads == 1:
        yield from map(worker, jobs)
        return
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        reading: deque[tuple[Job, Future[Loaded]]] = deque()
        writing: deque[tuple[Job, Future[int]]] = deque()
        waiting = iter(jobs)
        try:
            while True:
                while len(reading) < threads + AHEAD and (job := next(waiting, None)):
                    reading.append((job, readers.submit(worker.read, job)))
                if not reading:
                    break
                job, read = reading.popleft()
                try:
                    loaded = read.result()
                    found = worker.find(job, loaded)
                except Exception as error:
                    yield failed(job, error)
                else:
                    writing.append((job, writers.submit(worker.write, job, loaded, found)))
                while writing and (writing[0][1].done() or len(writing) > threads + AHEAD):
                    yield _written(*writing.popleft())
            while writing:
                yield _written(*writing.popleft())
        finally:
            for _, read in reading:
                read.cancel()
            for _, written in writing:
                written.cancel()


def _written(job: Job, written: Future[int]) -> Outcome:
    try:
        return Outcome(job, written.result())
    except Exception as error:
        return failed(job, error)

"""One pass over a split: the masks against the truth, and against another model's masks."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mobilesam.masks import mask_iou
from mobilesam.predictor import Predictor
from mobilesam.registry import MODELS, load_model
from mobilesam.training.agreement import (
    Agreement,
    BoxAgreement,
    PointAgreement,
    two_point_agreement,
)
from mobilesam.training.evaluate import MIN_MASK_SHARE, Row, measure_photo
from mobilesam.training.plan import Plan
from mobilesam.training.sources import Sample, SampleError, Source, open_source


@dataclass
class Measured:
    """What a pass over photos found, in their order.

    Attributes:
        photos: How many were looked at.
        unreadable: How many of them could not be read and are left out.
        rows: Of every counted mask.
        points: Two-point agreement; empty without another model, as are the next two.
        boxes: Agreement with tight boxes, mask by mask as ``rows``.
        against_rows: What the other model measured, mask by mask as ``rows``.
    """

    photos: int = 0
    unreadable: int = 0
    rows: list[Row] = field(default_factory=list)
    points: list[PointAgreement] = field(default_factory=list)
    boxes: list[BoxAgreement] = field(default_factory=list)
    against_rows: list[Row] = field(default_factory=list)

    def add(self, other: Measured) -> None:
        """Append what was found on the next photos."""
        self.photos += other.photos
        self.unreadable += other.unreadable
        for name in ("rows", "points", "boxes", "against_rows"):
            getattr(self, name).extend(getattr(other, name))

    @property
    def agreement(self) -> Agreement | None:
        """The comparison with the other model; None if there was none."""
        if not self.points:
            return None
        return Agreement(self.points, self.boxes, self.against_rows)


class Measurer:
    """Photos and models of a plan, opened.

    Attributes:
        source: The photos and masks.
        predictor: Of the model.
        against: Of the other one; None without.
        names: What reports call the two models; the second is empty without another.
        count: How many photos the plan takes.

    Raises:
        FileNotFoundError, ValueError, CheckpointError: If photos or models cannot be had.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.source: Source = open_source(plan.data, plan.split, plan.limit)
        self.predictor = Predictor(load_model(plan.model, plan.device))
        self.against = Predictor(load_model(plan.against, plan.device)) if plan.against else None
        self.names = (_report_name(plan.model), _report_name(plan.against or ""))
        self.count = len(self.source.samples[: plan.limit])

    def photo(self, number: int) -> Measured:
        """Measure the photo of that number, counted from 0."""
        try:
            return self._measure(self.source.samples[number])
        except SampleError:  # said by the source
            return Measured(photos=1, unreadable=1)

    def _measure(self, sample: Sample) -> Measured:
        photo, objects = self.source.photo(sample), self.source.objects(sample)
        embedding = self.predictor.encode(photo)
        measured = Measured(photos=1)
        if self.against is None:
            ours = measure_photo(self.predictor, embedding, sample, objects)
            measured.rows = [row for row, _ in ours]
            return measured
        other = self.against.encode(photo)
        measured.points = two_point_agreement(
            (self.predictor, embedding),
            (self.against, other),
            sample.key,
            seed=self.plan.seed,
            count=self.plan.prompts_per_distance,
        )
        for (row, mask), (other_row, other_mask) in zip(
            measure_photo(self.predictor, embedding, sample, objects),
            measure_photo(self.against, other, sample, objects),
            strict=True,
        ):
            measured.rows.append(row)
            measured.against_rows.append(other_row)
            iou = mask_iou(mask, other_mask)
            measured.boxes.append(BoxAgreement(row.key, row.set_name, row.index, iou))
        return measured


def _report_name(model: str) -> str:
    """Return a model's own name, or a checkpoint's with its folder's: many are called model."""
    path = Path(model)
    return model if model in MODELS or not model else f"{path.absolute().parent.name}/{path.stem}"


def measure(measurer: Measurer, progress: Callable[[int, int], None] | None = None) -> Measured:
    """Measure all photos of a plan, in as many processes as it says.

    The processes share the threads that PyTorch has in this one, and each opens photos and models
    for itself. Results come in the photos' order, whatever the number of processes.

    Args:
        measurer: The plan, opened.
        progress: Called with photos done and photos in all.

    Raises:
        ValueError: If no mask was measured; it says why.
    """
    measured = Measured()
    for result in _results(measurer):
        measured.add(result)
        if progress:
            progress(measured.photos, measurer.count)
    if not measured.rows:
        raise ValueError(_why_nothing(measurer, measured))
    return measured


def _why_nothing(measurer: Measurer, measured: Measured) -> str:
    photos = f"of the {measured.photos} photos of {measurer.plan.split!r}"
    if measured.unreadable == measured.photos:
        return f"No mask was measured: none {photos} can be read, for the reasons logged above."
    if not any(sample.has_masks for sample in measurer.source.samples[: measurer.count]):
        return f"No mask was measured: none {photos} has masks; name other data."
    return (
        f"No mask was measured: none {photos} has one larger than {100 * MIN_MASK_SHARE:g} % of "
        "its picture; take more photos, or another split."
    )


def _results(measurer: Measurer) -> Iterator[Measured]:
    jobs = min(measurer.plan.jobs, measurer.count)
    if jobs <= 1:
        yield from map(measurer.photo, range(measurer.count))
        return
    threads = max(1, torch.get_num_threads() // jobs)
    executor = ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context("spawn"),  # a fork would inherit PyTorch's locked threads
        initializer=_open_in_worker,
        initargs=(measurer.plan, threads),
    )
    with executor:
        try:
            yield from executor.map(_measure_in_worker, range(measurer.count))
        except BaseException:  # an error or Ctrl-C: do not finish the rest first
            executor.shutdown(wait=False, cancel_futures=True)
            raise


_WORKER: dict[str, Measurer] = {}  # of a worker process: its own


def _open_in_worker(plan: Plan, threads: int) -> None:
    torch.set_num_threads(threads)
    _WORKER["measurer"] = Measurer(plan)


def _measure_in_worker(number: int) -> Measured:
    return _WORKER["measurer"].photo(number)

"""Validation: mean IoU with boxes and clicks, as SAM's papers measure it (SAM, section 7.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from mobilesam.masks import mask_iou, mask_to_box
from mobilesam.modeling import Sam
from mobilesam.predictor import ImageEmbedding, Predictor
from mobilesam.training.clicks import innermost, next_click
from mobilesam.training.sources import Objects, Sample, SampleError, Source

MIN_MASK_SHARE = 0.002  # of the picture: smaller masks are not counted
SIZE_CLASSES = (MIN_MASK_SHARE, 0.005, 0.01, 0.03, 0.1, 1.0)  # bounds, shares of the picture
MAX_CLICKS = 5
CALIBRATION_BINS = 10
METRICS = {
    "box": "tight box",
    "click_1": "1 click, highest predicted IoU of three",
    "click_1_oracle": "1 click, best of three",
    "click_3": "3 clicks",
    "click_5": "5 clicks",
    "box_itself": "the box itself",
}
PREDICTED = {"click_1": "1 click", "box": "tight box"}  # prompts whose predicted IoU is recorded


@dataclass(frozen=True)
class Row:
    """What one mask measured.

    Attributes:
        key: The photo's key.
        set_name: Its data set.
        index: Which of the photo's masks.
        share: The mask's share of the picture.
        iou: Metric name to IoU, 0 to 1.
        predicted_iou: What the model thought of its mask, for each prompt of ``PREDICTED``.
    """

    key: str
    set_name: str
    index: int
    share: float
    iou: dict[str, float]
    predicted_iou: dict[str, float]


def evaluate_photos(
    model: Sam, source: Source, samples: Sequence[Sample], threads: int = 1
) -> Iterator[list[Row]]:
    """Measure ``model`` on every mask of some photos that is larger than 0.2 % of its picture.

    Args:
        model: Prepared for inference.
        source: What reads the photos.
        samples: The photos.
        threads: How many photos are measured at once. Beside a GPU, clicks and comparisons of
            masks, which the CPU works out, take most of the time.

    Yields:
        The rows of each photo, in the photos' order; none of one that cannot be read.
    """
    predictor = Predictor(model)

    def measure(sample: Sample) -> list[Row]:
        with suppress(SampleError):  # said by the source
            objects = source.objects(sample)
            if counted_masks(objects, sample.size):
                embedding = predictor.encode(source.photo(sample))
                return [row for row, _ in measure_photo(predictor, embedding, sample, objects)]
        return []

    if threads == 1:
        yield from map(measure, samples)
        return
    all_threads = torch.get_num_threads()
    share = max(1, all_threads // threads)  # of PyTorch's, for each photo
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(share)) as pool:
            yield from pool.map(measure, samples)
    finally:
        torch.set_num_threads(all_threads)


def counted_masks(objects: Objects, size: tuple[int, int]) -> list[int]:
    """Return the indices of the masks larger than 0.2 % of a (height, width) picture."""
    return [int(i) for i in np.flatnonzero(objects.areas > MIN_MASK_SHARE * size[0] * size[1])]


def measure_photo(
    predictor: Predictor, embedding: ImageEmbedding, sample: Sample, objects: Objects
) -> Iterator[tuple[Row, np.ndarray]]:
    """Measure each counted mask of a photo.

    Yields:
        What the mask measured, and the (H, W) bool mask that its tight box gave.
    """
    height, width = sample.size
    for index in counted_masks(objects, sample.size):
        truth, valid = objects.mask(index), objects.valid(index)
        boxed, box_iou = box_mask(predictor, embedding, truth)
        clicked, predicted = _measure_clicks(predictor, embedding, truth, valid)
        iou = {
            "box": mask_iou(boxed, truth, valid),
            **clicked,
            "box_itself": mask_iou(_box_itself(truth), truth, valid),
        }
        row = Row(
            key=sample.key,
            set_name=sample.set_name,
            index=index,
            share=float(objects.areas[index]) / (height * width),
            iou={metric: iou[metric] for metric in METRICS},
            predicted_iou={"click_1": predicted, "box": box_iou},
        )
        yield row, boxed


def box_mask(
    predictor: Predictor, embedding: ImageEmbedding, truth: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the (H, W) bool mask for the tight box of ``truth``, and its predicted IoU."""
    answer = predictor.predict(embedding, box=mask_to_box(truth), multimask_output=False)
    return answer.mask(0), float(answer.iou_predictions[0])


def _box_itself(truth: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = (int(v) for v in mask_to_box(truth))
    inside = np.zeros_like(truth)
    inside[y0:y1, x0:x1] = True
    return inside


def _measure_clicks(
    predictor: Predictor, embedding: ImageEmbedding, truth: np.ndarray, valid: np.ndarray | None
) -> tuple[dict[str, float], float]:
    """Click up to five times; returns the IoU by metric, and the first mask's predicted IoU."""
    points, labels = [innermost(truth)], [1]
    first = predictor.predict(embedding, points, labels, multimask_output=True)
    three = [mask_iou(mask, truth, valid) for mask in first.masks]
    result = {"click_1": three[first.best], "click_1_oracle": max(three)}
    mask, logits = first.masks[first.best], first.low_res_logits[first.best]
    for clicks in range(2, MAX_CLICKS + 1):
        point, label = next_click(mask, truth, valid)
        points, labels = [*points, point], [*labels, label]
        step = predictor.predict(
            embedding, points, labels, mask_input=logits, multimask_output=False
        )
        mask, logits = step.mask(0), step.low_res_logits[0]
        if f"click_{clicks}" in METRICS:
            result[f"click_{clicks}"] = mask_iou(mask, truth, valid)
    return result, float(first.iou_predictions[first.best])


def summarise(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Average the rows over all masks, and over each set's.

    Returns:
        Set name (first of all ``overall``) to ``masks``, their number; the mean IoU of each of
        ``METRICS``; and ``predicted_iou_error`` and ``box_predicted_iou_error``, by how much the
        predicted IoU of one click and of the box is off on average.

    Raises:
        ValueError: If there is no row.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("Expected what at least one mask measured; got no row.")
    groups = {"overall": rows}
    for row in rows:
        groups.setdefault(row.set_name, []).append(row)
    return {
        name: {
            "masks": len(members),
            **mean_iou(members),
            "predicted_iou_error": calibration(members, "click_1").mean_absolute_error,
            "box_predicted_iou_error": calibration(members, "box").mean_absolute_error,
        }
        for name, members in groups.items()
    }


def mean_iou(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean IoU of each of ``METRICS`` over at least one row."""
    return {metric: float(np.mean([row.iou[metric] for row in rows])) for metric in METRICS}


def by_size(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Average the rows of each size class.

    Returns:
        For each class ``above`` and ``up_to``, shares of the picture; ``masks``; and, unless that
        is 0, the mean IoU of each of ``METRICS``.
    """
    classes = []
    for above, up_to in pairwise(SIZE_CLASSES):
        members = [row for row in rows if above < row.share <= up_to]
        means = mean_iou(members) if members else {}
        classes.append({"above": above, "up_to": up_to, "masks": len(members), **means})
    return classes


@dataclass(frozen=True)
class CalibrationBin:
    """The masks whose predicted IoU lies in one interval.

    Attributes:
        above: The interval's lower bound; belongs to it only where it is 0.
        up_to: Its upper bound, which belongs to it.
        masks: How many.
        predicted: Their mean predicted IoU; None if there are none.
        true: Their mean true IoU; None if there are none.
    """

    above: float
    up_to: float
    masks: int
    predicted: float | None
    true: float | None


@dataclass(frozen=True)
class Calibration:
    """How far predicted IoU can be believed.

    Attributes:
        mean_absolute_error: By how much the predicted IoU is off, mean over the masks.
        expected_calibration_error: By how much a bin's mean predicted IoU is off its mean true
            IoU, mean over the bins weighted by their masks: errors within a bin cancel out.
        bins: Of equal width, from 0 to 1.
    """

    mean_absolute_error: float
    expected_calibration_error: float
    bins: tuple[CalibrationBin, ...]


def calibration(rows: Sequence[Row], prompt: str) -> Calibration:
    """Compare the predicted with the true IoU.

    Args:
        rows: At least one.
        prompt: A key of ``PREDICTED``.
    """
    predicted = np.array([row.predicted_iou[prompt] for row in rows])
    true = np.array([row.iou[prompt] for row in rows])
    # a network's predictions may leave 0 to 1 by a little: those belong to the outermost bins
    which = np.clip(np.ceil(predicted * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1)
    bins, gaps = [], 0.0
    for number in range(CALIBRATION_BINS):
        here = which == number
        bounds = number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS
        if not here.any():
            bins.append(CalibrationBin(*bounds, 0, None, None))
            continue
        means = float(predicted[here].mean()), float(true[here].mean())
        bins.append(CalibrationBin(*bounds, int(here.sum()), *means))
        gaps += here.sum() * abs(means[0] - means[1])
    return Calibration(
        mean_absolute_error=float(np.abs(predicted - true).mean()),
        expected_calibration_error=float(gaps / len(rows)),
        bins=tuple(bins),
    )

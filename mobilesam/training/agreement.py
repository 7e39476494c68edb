"""How far two models give the same masks, as MobileSAM's paper measures it (MobileSAM, section 4).

Both models get the same two-point prompt, one foreground and one background point at a given
distance; the mean IoU of their single-mask outputs is the agreement. The paper gives the distances
in pixels and does not say of photos of which size. Here they are pixels of a photo whose longer
side is 1024: on a photo of 384 px, a distance of 100 is 37.5 of its own pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.masks import mask_iou
from mobilesam.predictor import ImageEmbedding, Predictor
from mobilesam.training.evaluate import METRICS, Row, summarise

REFERENCE_SIDE = 1024  # px: the longer side of the photo in which distances are counted
DISTANCES = (100, 200, 300, 400, 500)  # px of such a photo; those of the paper
PUBLISHED = {  # mean IoU with SAM ViT-H's masks at each distance, as the paper states it
    "MobileSAM (paper)": dict(zip(DISTANCES, (0.73, 0.71, 0.74, 0.73, 0.73), strict=True)),
    "FastSAM (paper)": dict(zip(DISTANCES, (0.27, 0.33, 0.37, 0.41, 0.41), strict=True)),
}
WITHIN = 0.03  # mean IoU: how close a student is to come to its teacher
TRIES = 64  # foreground points, and directions for each, before a photo counts as too small

Size = tuple[int, int]
Point = tuple[float, float]
Side = tuple[Predictor, ImageEmbedding]  # a model, and what it made of the photo


@dataclass(frozen=True)
class PointAgreement:
    """What two models made of one two-point prompt.

    Attributes:
        key: The photo's key.
        distance: Between the points, pixels of a photo whose longer side is 1024.
        foreground: x, y of the point to include, pixels of the photo.
        background: x, y of the point to exclude.
        iou: Between the two masks; None if no such prompt fits on the photo.
    """

    key: str
    distance: int
    foreground: Point | None
    background: Point | None
    iou: float | None


@dataclass(frozen=True)
class BoxAgreement:
    """The IoU of two models' masks for the tight box of one true mask.

    Attributes:
        key: The photo's key.
        set_name: Its data set.
        index: Which of the photo's masks.
        iou: Between the two models' masks.
    """

    key: str
    set_name: str
    index: int
    iou: float


def two_points(
    size: Size, key: str, distance: int, *, seed: int = 0, count: int = 1
) -> list[tuple[Point, Point]]:
    """Draw two-point prompts; the same for the same photo, distance and seed.

    The foreground point is drawn from the whole photo, then a direction in which the background
    point falls on the photo, too. A foreground point that has no such direction is drawn anew.

    Args:
        size: The photo's (height, width), pixels.
        key: The photo's key.
        distance: Pixels of a photo whose longer side is 1024.
        seed: Of the draw.
        count: How many prompts.

    Returns:
        Foreground and background point of each prompt, x, y in pixels of the photo; no prompt at
        all if none was found that fits, since the photo is too small for the distance.
    """
    random = np.random.default_rng([seed, zlib.crc32(key.encode()), distance])
    last = np.array(size[::-1]) - 1.0  # x, y of the last pixel
    radius = distance * max(size) / REFERENCE_SIDE
    prompts = []
    for _ in range(count):
        for _ in range(TRIES):
            foreground = random.uniform(0, last)
            angles = random.uniform(0, 2 * np.pi, TRIES)
            points = foreground + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            inside = ((points >= 0) & (points <= last)).all(axis=1)
            if inside.any():
                background = points[inside.argmax()]
                prompts.append((_point(foreground), _point(background)))
                break
        else:
            return []
    return prompts


def _point(xy: np.ndarray) -> Point:
    return float(xy[0]), float(xy[1])


def two_point_agreement(
    first: Side,
    second: Side,
    key: str,
    *,
    distances: Sequence[int] = DISTANCES,
    seed: int = 0,
    count: int = 1,
) -> list[PointAgreement]:
    """Prompt two models with the same points of one photo and compare their masks.

    Two empty masks agree: their IoU is 1.

    Args:
        first: A predictor, and its embedding of the photo.
        second: The other.
        key: The photo's key.
        distances: Between the points, pixels of a photo whose longer side is 1024.
        seed: Of the draw.
        count: Prompts for each distance.

    Returns:
        ``count`` results for each distance, or one without IoU where no prompt fits.
    """
    results = []
    for distance in distances:
        prompts = two_points(first[1].original_size, key, distance, seed=seed, count=count)
        if not prompts:
            results.append(PointAgreement(key, distance, None, None, None))
        for foreground, background in prompts:
            one, other = (
                predictor.predict(
                    embedding, [foreground, background], [1, 0], multimask_output=False
                ).mask(0)
                for predictor, embedding in (first, second)
            )
            iou = mask_iou(one, other)
            results.append(PointAgreement(key, distance, foreground, background, iou))
    return results


@dataclass(frozen=True)
class Agreement:
    """How far a model agrees with another, and how both agree with the truth.

    Attributes:
        points: Of every photo and distance.
        boxes: Of every counted mask.
        rows: What the other model measured against the truth, mask by mask as the first did.
    """

    points: list[PointAgreement]
    boxes: list[BoxAgreement]
    rows: list[Row]


def summarise_points(points: Sequence[PointAgreement]) -> list[dict[str, float | None]]:
    """Average two-point agreement by distance.

    Returns:
        For each distance ``distance``; ``mean_iou``, None if there is no prompt; ``prompts``; and
        ``photos_left_out``, on which none fits.
    """
    summary: list[dict[str, float | None]] = []
    for distance in sorted({point.distance for point in points}):
        here = [point.iou for point in points if point.distance == distance]
        ious = [iou for iou in here if iou is not None]
        summary.append(
            {
                "distance": distance,
                "mean_iou": float(np.mean(ious)) if ious else None,
                "prompts": len(ious),
                "photos_left_out": len(here) - len(ious),
            }
        )
    return summary


def summarise_truth(rows: Sequence[Row], agreement: Agreement) -> dict[str, dict[str, Any]]:
    """Set the two models' agreement with boxes beside their IoU with the truth.

    Args:
        rows: What the first model measured.
        agreement: With the other, over the same masks.

    Returns:
        Set name (first of all ``overall``) to ``masks``; ``box_agreement``, the mean IoU of the two
        models' masks for tight boxes; and for each of ``METRICS`` but the box itself ``model``,
        ``against`` and ``difference``, the first's mean IoU with the truth less the other's.
    """
    ours, theirs = summarise(rows), summarise(agreement.rows)
    summary: dict[str, dict[str, Any]] = {}
    for name, mine in ours.items():
        boxes = [box.iou for box in agreement.boxes if name in ("overall", box.set_name)]
        summary[name] = {"masks": mine["masks"], "box_agreement": float(np.mean(boxes))}
        for metric in METRICS:
            if metric != "box_itself":
                model, against = mine[metric], theirs[name][metric]
                summary[name][metric] = {
                    "model": model,
                    "against": against,
                    "difference": model - against,
                }
    return summary

"""Everything mode the plain way: one point after the other, all masks at full size.

Follows the description of SAM's mask generator and shares no code with ours but ``Predictor``,
so that the tests can compare the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mobilesam import Predictor
from mobilesam.everything import EverythingOptions


@dataclass
class Plain:
    mask: np.ndarray  # in the whole picture
    iou: float
    stability: float
    point: tuple[float, float]
    crop: tuple[int, int, int, int]  # x0, y0, x1, y1

    @property
    def box(self) -> tuple[int, int, int, int]:
        y, x = np.nonzero(self.mask)
        if not len(x):
            return self.crop[0], self.crop[1], self.crop[0], self.crop[1]
        return int(x.min()), int(y.min()), int(x.max()), int(y.max())


def iou_of(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)) - width * height
    return width * height / union if union else 0.0


def suppress(masks: list[Plain], scores: list[float], threshold: float) -> list[Plain]:
    kept: list[Plain] = []
    for index in sorted(range(len(masks)), key=lambda i: -scores[i]):
        if all(iou_of(masks[index].box, other.box) <= threshold for other in kept):
            kept.append(masks[index])
    return kept


def crops_of(height: int, width: int, options: EverythingOptions) -> list[tuple[int, ...]]:
    """x0, y0, x1, y1 and layer."""
    crops = [(0, 0, width, height, 0)]
    for layer in range(1, options.crop_n_layers + 1):
        n = 2**layer
        overlap = int(options.crop_overlap_ratio * min(height, width) * 2 / n)
        w = math.ceil((overlap * (n - 1) + width) / n)
        h = math.ceil((overlap * (n - 1) + height) / n)
        for i in range(n):
            for j in range(n):
                x, y = i * (w - overlap), j * (h - overlap)
                crops.append((x, y, min(x + w, width), min(y + h, height), layer))
    return crops


def near(a: float, b: float) -> bool:
    return abs(a - b) <= 20


def plain_everything(
    predictor: Predictor, photo: np.ndarray, options: EverythingOptions
) -> list[Plain]:
    height, width = photo.shape[:2]
    crops = crops_of(height, width, options)
    found: list[Plain] = []
    for x0, y0, x1, y1, layer in crops:
        embedding = predictor.encode(photo[y0:y1, x0:x1])
        side = int(options.points_per_side / options.crop_n_points_downscale_factor**layer)
        of_crop: list[Plain] = []
        for row in range(side):
            for column in range(side):
                point = (column + 0.5) / side * (x1 - x0), (row + 0.5) / side * (y1 - y0)
                result = predictor.predict(embedding, points=[point], multimask_output=True)
                for index, iou in enumerate(result.iou_predictions):
                    logits = result.logits(index)
                    larger = np.sum(logits > -options.stability_score_offset)
                    smaller = np.sum(logits > options.stability_score_offset)
                    stability = smaller / larger if larger else math.nan
                    mask = np.zeros((height, width), bool)
                    mask[y0:y1, x0:x1] = logits > 0
                    place = (point[0] + x0, point[1] + y0)
                    one = Plain(mask, float(iou), stability, place, (x0, y0, x1, y1))
                    edges = zip(one.box, (x0, y0, x1, y1), (0, 0, width, height), strict=True)
                    if (
                        (options.pred_iou_thresh <= 0 or iou > options.pred_iou_thresh)
                        and (
                            options.stability_score_thresh <= 0
                            or stability >= options.stability_score_thresh
                        )
                        and not any(near(b, c) and not near(b, p) for b, c, p in edges)
                    ):
                        of_crop.append(one)
        found += suppress(of_crop, [one.iou for one in of_crop], options.box_nms_thresh)
    if len(crops) > 1:
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (one.crop for one in found)]
        found = suppress(found, [1 / area for area in areas], options.crop_nms_thresh)
    return found

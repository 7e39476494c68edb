"""Non-maximum suppression of boxes."""

from __future__ import annotations

import numpy as np


def box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU of one box (4,) with each of (N, 4), float32; NaN where all are empty."""
    box, boxes = box.astype(np.float32), boxes.astype(np.float32)
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    overlap = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    with np.errstate(invalid="ignore"):
        return overlap / (np.prod(box[2:] - box[:2]) + areas - overlap)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Drop every box that overlaps a better one too much.

    In order, ties and rounding as torchvision's on a CPU: of equal scores the first one goes
    first, overlaps are float32, and one of exactly ``iou_threshold`` is let pass.

    Args:
        boxes: (N, 4) x0, y0, x1, y1.
        scores: (N,), the higher the better.
        iou_threshold: The highest IoU two kept boxes may have.

    Returns:
        Indices of the boxes kept, best first.

    Raises:
        ValueError: If the shapes do not fit.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes),):
        raise ValueError(
            f"boxes must have shape (N, 4) and scores (N,); got {boxes.shape} and {scores.shape}."
        )
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        overlaps = box_iou(boxes[best], boxes[waiting]).astype(np.float64)
        waiting = waiting[~(overlaps > iou_threshold)]  # NaN, of two empty boxes, is no overlap
    return np.array(kept, dtype=np.int64)

"""Non-maximum suppression of boxes."""

from __future__ import annotations

import numpy as np

PIXEL = np.array([0, 0, 1, 1], np.float32)  # from a box's last pixels to their far edges


def box_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU of one box (4,) with each of (N, 4), float32.

    Boxes end at their last pixels, so one of a single row or column has no area. With another one
    of that kind it is compared by its pixels, since 0 / 0 would say nothing.
    """
    box, boxes = box.astype(np.float32), boxes.astype(np.float32)
    with np.errstate(invalid="ignore"):
        overlaps = _share(box, boxes)
    undefined = np.isnan(overlaps)
    overlaps[undefined] = _share(box + PIXEL, boxes[undefined] + PIXEL)
    return overlaps


def _share(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersections over the unions; NaN where no box has an area."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    overlap = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return overlap / (np.prod(box[2:] - box[:2]) + areas - overlap)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Drop every box that overlaps a better one too much.

    In order, ties and rounding as torchvision's on a CPU: of equal scores the first one goes
    first, overlaps are float32, and one of exactly ``iou_threshold`` is let pass. Only boxes
    without area differ: torchvision keeps them all, so that a photo of one row of pixels has the
    same mask hundreds of times; here they are compared by their pixels (see ``box_iou``).

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
        waiting = waiting[~(overlaps > iou_threshold)]
    return np.array(kept, dtype=np.int64)

"""Prompts: what a person points at, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

BACKGROUND, FOREGROUND = 0, 1
Size = tuple[int, int]
Numbers = Sequence | np.ndarray | torch.Tensor


@dataclass(frozen=True, eq=False)
class Prompts:
    """Checked prompts for one picture, in its own pixels.

    Attributes:
        points: (N, 2) float64, x and y; N may be 0.
        labels: (N,) int64, 1 foreground, 0 background.
        boxes: (K, 4) float64, x0, y0, x1, y1; None if there is no box.
        batched: Whether ``boxes`` came as a batch, so that each asks for a mask of its own.
    """

    points: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None
    batched: bool

    @classmethod
    def check(
        cls,
        original_size: Size,
        points: Numbers | None = None,
        labels: Numbers | None = None,
        box: Numbers | None = None,
        boxes: Numbers | None = None,
        *,
        has_mask_input: bool = False,
    ) -> Prompts:
        """Check prompts against the picture they are for.

        Args:
            original_size: The picture's (height, width), pixels.
            points: (N, 2) x, y.
            labels: (N,) 1 or 0; all foreground if left out.
            box: (4,) x0, y0, x1, y1.
            boxes: (K, 4); one mask each, so none for K = 0. Not together with ``box`` or
                ``points``.
            has_mask_input: Whether a mask is among the prompts.

        Raises:
            TypeError: If something is not made of numbers.
            ValueError: If shapes, values or the combination are wrong.
        """
        if points is None and box is None and boxes is None and not has_mask_input:
            raise ValueError("No prompt was given; expected points, a box or a mask_input.")
        checked_points, checked_labels = _check_points(points, labels, original_size)
        if boxes is not None:
            if box is not None or len(checked_points):
                raise ValueError(
                    "boxes cannot be combined with box or points; give each box a call of its own."
                )
            return cls(
                checked_points, checked_labels, _check_boxes(boxes, "boxes", original_size), True
            )
        checked_box = None if box is None else _check_boxes(box, "box", original_size)
        return cls(checked_points, checked_labels, checked_box, False)

    @property
    def is_single_click(self) -> bool:
        """Whether one point is all there is: the prompt that is ambiguous by nature."""
        return len(self.points) == 1 and self.boxes is None

    def as_labelled_points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates (B, N, 2) and labels (B, N) as the prompt encoder takes them.

        B is the number of boxes in a batch, else 1. As in SAM, a padding point stands behind
        points that no box accompanies, and N is 0 where a mask is the only prompt.
        """
        count = len(self.boxes) if self.batched and self.boxes is not None else 1
        coords = np.broadcast_to(self.points, (count, *self.points.shape))
        labels = np.broadcast_to(self.labels, (count, *self.labels.shape))
        if self.boxes is None and not len(self.points):
            return coords.copy(), labels.copy()
        if self.boxes is None:
            corners, kinds = np.zeros((count, 1, 2)), np.full((count, 1), -1)
        else:
            corners, kinds = self.boxes.reshape(-1, 2, 2), np.tile([2, 3], (count, 1))
        return np.concatenate([coords, corners], 1), np.concatenate([labels, kinds], 1)


def as_numbers(values: Numbers, name: str, dtype_kinds: str = "iuf") -> np.ndarray:
    """Return float64; refuses what is not made of finite numbers, by ``name``."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    elif isinstance(values, list | tuple):
        values = [one.detach().cpu() if isinstance(one, torch.Tensor) else one for one in values]
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a regular array of numbers; got rows of unequal length."
        ) from error
    if array.size == 0:
        return array.astype(np.float64)
    if array.dtype.kind not in dtype_kinds:
        raise TypeError(f"{name} must be numbers; got {array.dtype} in {_short(values)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers; got {_short(values)}.")
    return array.astype(np.float64)


def _check_points(
    points: Numbers | None,
    labels: Numbers | None,
    original_size: Size,
) -> tuple[np.ndarray, np.ndarray]:
    if points is None:
        if labels is not None:
            raise ValueError("labels were given without points; give one label for each point.")
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    xy = as_numbers(points, "points")
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0:
        raise ValueError(f"points must have shape (N, 2) with N at least 1; got {xy.shape}.")
    height, width = original_size
    outside = (xy < 0).any(axis=1) | (xy[:, 0] > width) | (xy[:, 1] > height)
    if outside.any():
        x, y = xy[outside][0]
        raise ValueError(
            f"points must lie in the picture (x 0 to {width}, y 0 to {height}); got ({x:g}, {y:g})."
        )
    if labels is None:
        return xy, np.ones(len(xy), np.int64)
    kinds = as_numbers(labels, "labels", dtype_kinds="iufb")
    if kinds.shape != (len(xy),):
        raise ValueError(
            f"labels must have one value for each of the {len(xy)} points; got shape {kinds.shape}."
        )
    if not np.isin(kinds, (BACKGROUND, FOREGROUND)).all():
        raise ValueError(f"labels must be 1 (include) or 0 (exclude); got {_short(labels)}.")
    return xy, kinds.astype(np.int64)


def _check_boxes(boxes: Numbers, name: str, original_size: Size) -> np.ndarray:
    xyxy = as_numbers(boxes, name)
    if name == "box":
        if xyxy.shape != (4,):
            raise ValueError(f"box must be (x0, y0, x1, y1); got shape {xyxy.shape}.")
        xyxy = xyxy[None]
    elif xyxy.shape == (0,):  # an empty list
        xyxy = xyxy.reshape(0, 4)
    elif xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ValueError(f"boxes must have shape (N, 4); got {xyxy.shape}.")
    height, width = original_size
    for x0, y0, x1, y1 in xyxy:
        shown = f"({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if x1 <= x0 or y1 <= y0:
            raise ValueError(
                f"A box must be (x0, y0, x1, y1) with x1 > x0 and y1 > y0; got {shown}: "
                "name the top left corner first."
            )
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            raise ValueError(
                f"A box must lie in the picture (x 0 to {width}, y 0 to {height}); got {shown}."
            )
    return xyxy


def _short(values: object) -> str:
    text = repr(values.tolist() if isinstance(values, np.ndarray) else values)
    return text if len(text) <= 60 else text[:57] + "..."

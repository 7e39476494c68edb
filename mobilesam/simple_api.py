"""One call from a photo to masks, in the form known from Ultralytics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mobilesam.masks import mask_to_box
from mobilesam.predictor import Predictor
from mobilesam.registry import MODELS, load_model
from mobilesam.rendering import overlay
from mobilesam.transforms import read_image

Source = str | Path | Image.Image | np.ndarray
COLORS = ((30, 144, 255), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66))


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a result.

    Attributes:
        data: (N, H, W) bool tensor at the photo's size.
    """

    data: torch.Tensor

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, eq=False)
class Boxes:
    """The tight boxes of a result's masks.

    Attributes:
        xyxy: (N, 4) float32 x0, y0, x1, y1 in pixels of the photo.
        conf: (N,) float32 predicted IoU.
    """

    xyxy: torch.Tensor
    conf: torch.Tensor

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True, eq=False)
class Results:
    """What ``SAM.predict`` found in one photo.

    Attributes:
        orig_img: (H, W, 3) uint8 RGB.
        path: Where the photo came from; None if it was no file.
        masks: One for each object asked for.
        boxes: Their tight boxes and scores.
        speed: ``encode`` and ``decode``, milliseconds.
    """

    orig_img: np.ndarray
    path: str | None
    masks: Masks
    boxes: Boxes
    speed: dict[str, float]

    @property
    def orig_shape(self) -> tuple[int, int]:
        """The photo's (height, width), pixels."""
        return self.orig_img.shape[0], self.orig_img.shape[1]

    def __len__(self) -> int:
        return len(self.masks)

    def plot(self) -> np.ndarray:
        """Return the photo with all masks laid over it, (H, W, 3) uint8 RGB."""
        picture = self.orig_img
        for index, mask in enumerate(self.masks.data.numpy()):
            picture = overlay(picture, mask, color=COLORS[index % len(COLORS)])
        return picture

    def save(self, filename: str | Path = "result.png") -> str:
        """Write ``plot()`` to a file; returns its name."""
        Image.fromarray(self.plot()).save(filename)
        return str(filename)


class SAM:
    """A model and the one call ``predict``.

    Args:
        model: A model's name, with or without ``.pt``, or a checkpoint's path.
        device: Where it shall compute.
    """

    def __init__(self, model: str | Path = "mobile_sam.pt", device: str = "cpu") -> None:
        name = str(model)
        stem = name.removesuffix(".pt").removesuffix(".pth")
        known = stem in MODELS and not Path(name).is_file()
        self.model = load_model(stem if known else model, device)
        self._predictor = Predictor(self.model)

    def __call__(self, source: Source, **prompts: Sequence) -> list[Results]:
        """Do as ``predict``."""
        return self.predict(source, **prompts)

    def predict(
        self,
        source: Source,
        points: Sequence | np.ndarray | None = None,
        labels: Sequence | np.ndarray | None = None,
        bboxes: Sequence | np.ndarray | None = None,
    ) -> list[Results]:
        """Segment what the prompts point at.

        Args:
            source: A path, a PIL image, or an (H, W, 3) uint8 array in RGB order.
            points: ``[x, y]`` is one object; ``[[x, y], [x, y]]`` are two; ``[[[x, y], [x, y]]]``
                is one object with two points. Pixels of the photo.
            labels: In the same nesting without the coordinates; 1 include, 0 exclude; all 1 if
                left out.
            bboxes: ``[x0, y0, x1, y1]`` is one object, a list of them several. Not with points.

        Returns:
            A list with the photo's one result.

        Raises:
            ValueError: If there is no prompt, or one is malformed.
        """
        photo = read_image(source)
        objects = _objects(points, labels, bboxes)
        embedding = self._predictor.encode(photo)
        predictions = [
            self._predictor.predict(embedding, multimask_output=False, **prompt)
            for prompt in objects
        ]
        masks = np.stack([prediction.mask(0) for prediction in predictions])
        boxes = Boxes(
            torch.tensor([mask_to_box(mask) for mask in masks], dtype=torch.float32),
            torch.tensor([float(p.iou_predictions[0]) for p in predictions]),
        )
        decode_ms = sum(prediction.decode_ms for prediction in predictions)
        path = str(source) if isinstance(source, str | Path) else None
        speed = {"encode": embedding.encode_ms, "decode": decode_ms}
        return [Results(photo, path, Masks(torch.from_numpy(masks)), boxes, speed)]


def _objects(
    points: Sequence | np.ndarray | None,
    labels: Sequence | np.ndarray | None,
    bboxes: Sequence | np.ndarray | None,
) -> list[dict]:
    """Turn nested prompts into the keyword arguments of one ``Predictor.predict`` per object."""
    if points is None and bboxes is None:
        raise ValueError("No prompt was given; expected points=[x, y] or bboxes=[x0, y0, x1, y1].")
    if points is not None and bboxes is not None:
        raise ValueError("Give either points or bboxes; for both together use Predictor.predict.")
    if bboxes is not None:
        if labels is not None:
            raise ValueError("labels belong to points; bboxes take none.")
        return [{"box": box} for box in _nested(bboxes, depth=2, name="bboxes")]
    groups = _nested(points, depth=1, name="points")
    if _depth(groups) == 2:  # a point for each object
        groups = [[point] for point in groups]
    kinds: list[Any]
    if labels is None:
        kinds = [[1] * len(group) for group in groups]
    else:
        kinds = _nested(labels, depth=1, name="labels")
        if _depth(kinds) == 1:
            one_object = len(groups) == 1 and len(kinds) > 1
            kinds = [kinds] if one_object else [[kind] for kind in kinds]
    if len(kinds) != len(groups):
        raise ValueError(
            f"labels must be nested like points: got {len(kinds)} for {len(groups)} objects."
        )
    return [{"points": g, "labels": k} for g, k in zip(groups, kinds, strict=True)]


def _nested(values: Any, depth: int, name: str) -> list:
    as_list: Any = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(as_list, list | tuple):
        as_list = [as_list]
    if not as_list:
        raise ValueError(f"{name} is empty; expected at least one.")
    if name == "points" and _depth(as_list) == 1:
        return [as_list]
    while _depth(as_list) < depth:
        as_list = [as_list]
    return as_list


def _depth(values: object) -> int:
    return 1 + _depth(values[0]) if isinstance(values, list | tuple) and values else 0

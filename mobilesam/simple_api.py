"""One call from a photo to masks, in the form known from Ultralytics."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mobilesam.masks import mask_to_box
from mobilesam.predictor import Predictor
from mobilesam.prompts import Numbers
from mobilesam.registry import MODELS, load_model
from mobilesam.rendering import overlay
from mobilesam.transforms import read_image

Source = str | Path | Image.Image | np.ndarray
ALIASES = {"sam_b": "sam_vit_b", "sam_l": "sam_vit_l"}  # what Ultralytics calls them
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
        orig_img: (H, W, 3) uint8 in RGB order; Ultralytics has BGR here. Yours to change.
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
        """Return the photo with all masks laid over it, (H, W, 3) uint8 in RGB order, not BGR."""
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
        model: A model's name, ours or Ultralytics' (``sam_b``, ``sam_l``), with or without
            ``.pt``, or a checkpoint's path.
        device: Where it shall compute.
    """

    def __init__(self, model: str | Path = "mobile_sam.pt", device: str = "cpu") -> None:
        name = str(model)
        stem = name.removesuffix(".pt").removesuffix(".pth")
        stem = ALIASES.get(stem, stem)
        known = stem in MODELS and not os.path.isfile(name)
        self.model = load_model(stem if known else model, device)
        self._predictor = Predictor(self.model)

    def __call__(self, source: Source, **prompts: Numbers) -> list[Results]:
        """Do as ``predict``."""
        return self.predict(source, **prompts)

    def predict(
        self,
        source: Source,
        points: Numbers | None = None,
        labels: Numbers | None = None,
        bboxes: Numbers | None = None,
    ) -> list[Results]:
        """Segment what the prompts point at.

        Args:
            source: A path, a PIL image, or an (H, W, 3) uint8 array in RGB order: one from OpenCV,
                which Ultralytics takes as it is, needs ``[..., ::-1]``.
            points: ``[x, y]`` is one object; ``[[x, y], [x, y]]`` are two; ``[[[x, y], [x, y]]]``
                is one object with two points. Pixels of the photo.
            labels: In the same nesting without the coordinates; 1 include, 0 exclude; all 1 if
                left out.
            bboxes: ``[x0, y0, x1, y1]`` is one object, a list, array or tensor of them several, as
                detectors give them. Not with points.

        Returns:
            A list with the photo's one result.

        Raises:
            ValueError: If there is no prompt, or one is malformed.
        """
        calls = _calls(points, labels, bboxes)
        photo = np.array(read_image(source))
        embedding = self._predictor.encode(photo)
        predictions = [
            self._predictor.predict(embedding, multimask_output=False, **prompt) for prompt in calls
        ]
        masks = np.concatenate([p.masks.reshape(-1, *photo.shape[:2]) for p in predictions])
        boxes = Boxes(
            torch.tensor([mask_to_box(mask) for mask in masks], dtype=torch.float32),
            torch.from_numpy(np.concatenate([p.iou_predictions.ravel() for p in predictions])),
        )
        decode_ms = sum(prediction.decode_ms for prediction in predictions)
        path = str(source) if isinstance(source, str | Path) else None
        speed = {"encode": embedding.encode_ms, "decode": decode_ms}
        return [Results(photo, path, Masks(torch.from_numpy(masks)), boxes, speed)]


def _calls(
    points: Numbers | None,
    labels: Numbers | None,
    bboxes: Numbers | None,
) -> list[dict]:
    """Turn nested prompts into keyword arguments of ``Predictor.predict``.

    One call takes all boxes; points take one for each object.
    """
    if points is None and bboxes is None:
        raise ValueError("No prompt was given; expected points=[x, y] or bboxes=[x0, y0, x1, y1].")
    if points is not None and bboxes is not None:
        raise ValueError("Give either points or bboxes; for both together use Predictor.predict.")
    if bboxes is not None:
        if labels is not None:
            raise ValueError("labels belong to points; bboxes take none.")
        return [{"boxes": _nested(bboxes, depth=2, name="bboxes")}]
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
    as_list: Any = _as_lists(values)
    if not isinstance(as_list, list):
        as_list = [as_list]
    if not as_list:
        raise ValueError(f"{name} is empty; expected at least one.")
    if name == "points" and _depth(as_list) == 1:
        return [as_list]
    while _depth(as_list) < depth:
        as_list = [as_list]
    return as_list


def _as_lists(values: Any) -> Any:
    """Turn arrays and tensors, and sequences of them, into nested lists."""
    if isinstance(values, np.ndarray | torch.Tensor):
        return values.tolist()
    if isinstance(values, list | tuple):
        return [_as_lists(value) for value in values]
    return values


def _depth(values: object) -> int:
    return 1 + _depth(values[0]) if isinstance(values, list) and values else 0

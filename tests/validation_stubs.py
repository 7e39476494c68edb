"""A source and predictors whose answers are known, for tests of what validation makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from mobilesam.training.evaluate import METRICS, Row
from mobilesam.training.sources import Sample, SampleError

Answer = tuple[list[np.ndarray], list[float]]  # masks, predicted IoU


class Masks:
    """The masks of one photo, in memory."""

    def __init__(self, masks: list[np.ndarray], valid: np.ndarray | None = None) -> None:
        self.masks = masks
        self.known = valid
        self.areas = np.array([mask.sum() for mask in masks])

    def __len__(self) -> int:
        return len(self.masks)

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]

    def valid(self, index: int) -> np.ndarray | None:
        return self.known


class Photos:
    """Grey photos; ``None`` stands for one that cannot be read."""

    def __init__(self, photos: dict[str, Masks | None], size: tuple[int, int]) -> None:
        self.photos = photos
        self.samples = [
            Sample(index, key, key.rsplit("-", 1)[0], size) for index, key in enumerate(photos)
        ]

    def photo(self, sample: Sample) -> Image.Image:
        return Image.new("RGB", sample.size[::-1], "grey")

    def objects(self, sample: Sample) -> Masks:
        masks = self.photos[sample.key]
        if masks is None:
            raise SampleError(f"{sample.key} is damaged.")
        return masks


@dataclass
class Scripted:
    """A predictor that answers each prompt by a function, and remembers the prompts."""

    answer: Callable[[dict[str, Any]], Answer]
    prompts: list[dict[str, Any]] = field(default_factory=list)

    def predict(
        self, embedding: object, points: Any = None, labels: Any = None, **rest: Any
    ) -> Any:
        prompt = {"points": points, "labels": labels, **rest}
        self.prompts.append(prompt)
        masks, predicted = self.answer(prompt)
        return SimpleNamespace(
            masks=np.stack(masks),
            mask=lambda index: masks[index],
            best=int(np.argmax(predicted)),
            iou_predictions=np.array(predicted),
            low_res_logits=np.full((len(masks), 1, 1), len(self.prompts)),
        )


def half(height: int, width: int, *, left: bool) -> np.ndarray:
    """Return a mask of the left or the upper half."""
    mask = np.zeros((height, width), bool)
    if left:
        mask[:, : width // 2] = True
    else:
        mask[: height // 2] = True
    return mask


def row(
    key: str = "a-1", index: int = 0, share: float = 0.1, predicted: float = 0.5, **iou: float
) -> Row:
    """Return a row of IoU 0.5 but for what is given; predicted IoU is the same for both prompts."""
    ious = dict.fromkeys(METRICS, 0.5) | iou
    return Row(
        key, key.rsplit("-", 1)[0], index, share, ious, {"click_1": predicted, "box": predicted}
    )

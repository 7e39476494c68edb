"""What ``SAM.predict`` returns, in the form known from Ultralytics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mobilesam import rle
from mobilesam.exporting import object_color
from mobilesam.polygons import join, mask_to_parts
from mobilesam.rendering import overlay


class Masks:
    """The masks of a result: ``data``, or one after the other, which needs less memory.

    Args:
        masks: (H, W) bool each, or run lengths.
        size: The photo's (H, W).
    """

    def __init__(self, masks: Sequence[np.ndarray | dict[str, Any]], size: tuple[int, int]) -> None:
        self._masks, self._size = masks, size

    def __len__(self) -> int:
        return len(self._masks)

    def __iter__(self) -> Iterator[np.ndarray]:
        for mask in self._masks:
            yield rle.decode(mask) if isinstance(mask, dict) else mask

    @cached_property
    def data(self) -> torch.Tensor:
        """(N, H, W) bool tensor at the photo's size."""
        masks = np.zeros((len(self), *self._size), bool)
        for index, mask in enumerate(self):
            masks[index] = mask
        return torch.from_numpy(masks)

    @cached_property
    def xy(self) -> list[np.ndarray]:
        """Each mask's outline, (N, 2) float32 x, y in pixels; (0, 2) for an empty mask.

        Parts and holes are joined into one outline by bridges of no width.
        """
        outlines = []
        for mask in self:
            rings = [ring for part in mask_to_parts(mask) for ring in part.rings]
            outline = join(rings) if rings else np.empty((0, 2))
            outlines.append(outline.astype(np.float32))
        return outlines

    @property
    def xyn(self) -> list[np.ndarray]:
        """The outlines as shares of width and height."""
        height, width = self._size
        return [outline / np.array([width, height], np.float32) for outline in self.xy]


@dataclass(frozen=True, eq=False)
class Boxes:
    """The tight boxes of a result's masks.

    Attributes:
        xyxy: (N, 4) float32 x0, y0, x1, y1 in pixels of the photo.
        conf: (N,) float32 predicted IoU.
        orig_shape: The photo's (height, width), pixels.
    """

    xyxy: torch.Tensor
    conf: torch.Tensor
    orig_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def cls(self) -> torch.Tensor:
        """(N,) float32: the objects' numbers, since SAM knows no classes."""
        return torch.arange(len(self), dtype=torch.float32)

    @property
    def xywh(self) -> torch.Tensor:
        """(N, 4) float32: the middle's x and y, width, height."""
        first, last = self.xyxy[:, :2], self.xyxy[:, 2:]
        return torch.cat([(first + last) / 2, last - first], dim=1)

    @property
    def xyxyn(self) -> torch.Tensor:
        """``xyxy`` as shares of the photo's width and height."""
        return self.xyxy / self._sides

    @property
    def xywhn(self) -> torch.Tensor:
        """``xywh`` as shares of the photo's width and height."""
        return self.xywh / self._sides

    @property
    def _sides(self) -> torch.Tensor:
        return torch.tensor(self.orig_shape[::-1] * 2)


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

    @property
    def names(self) -> dict[int, str]:
        """What the objects are called: their numbers, since SAM knows no classes."""
        return {number: str(number) for number in range(len(self))}

    def __len__(self) -> int:
        return len(self.masks)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return for each object ``name``, ``class``, ``confidence``, ``box`` and ``segments``.

        Args:
            normalize: Shares of the photo's width and height instead of pixels.
            decimals: Places that are kept.
        """
        boxes = self.boxes.xyxyn if normalize else self.boxes.xyxy
        outlines = self.masks.xyn if normalize else self.masks.xy
        objects = []
        for number, (box, conf, outline) in enumerate(
            zip(boxes.tolist(), self.boxes.conf.tolist(), outlines, strict=True)
        ):
            sides = zip(("x1", "y1", "x2", "y2"), box, strict=True)
            x, y = outline.T.astype(float).round(decimals).tolist()
            objects.append(
                {
                    "name": self.names[number],
                    "class": number,
                    "confidence": round(conf, decimals),
                    "box": {name: round(side, decimals) for name, side in sides},
                    "segments": {"x": x, "y": y},
                }
            )
        return objects

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return ``summary`` as JSON."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Append a line for each mask that is not empty: its number, its outline as shares.

        Args:
            txt_file: The file.
            save_conf: Whether predicted IoU stands at the end of each line.

        Returns:
            The file's name.
        """
        lines = []
        for number, outline in enumerate(self.masks.xyn):
            if len(outline):
                end = [float(self.boxes.conf[number])] if save_conf else []
                numbers = " ".join(f"{value:.6g}" for value in [*outline.ravel().tolist(), *end])
                lines.append(f"{number} {numbers}\n")
        Path(txt_file).parent.mkdir(parents=True, exist_ok=True)
        with Path(txt_file).open("a") as file:
            file.writelines(lines)
        return str(txt_file)

    def plot(self) -> np.ndarray:
        """Return the photo with all masks laid over it, (H, W, 3) uint8 in RGB order, not BGR."""
        picture = self.orig_img
        for index, mask in enumerate(self.masks):
            picture = overlay(picture, mask, color=object_color(index))
        return picture

    def save(self, filename: str | Path = "result.png") -> str:
        """Write ``plot()`` to a file; returns its name."""
        Image.fromarray(self.plot()).save(filename)
        return str(filename)

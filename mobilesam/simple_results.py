"""What ``SAM.predict`` returns, in the form known from Ultralytics."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image

from mobilesam import rle
from mobilesam.exporting import object_color
from mobilesam.polygons import join, mask_to_parts
from mobilesam.rendering import overlay

Array = np.ndarray | torch.Tensor
Index = int | slice | Sequence[int] | Sequence[bool] | Array


class Objects(ABC):
    """What belongs to the objects of a photo: some can be chosen, and all walked through."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: Index) -> Self:
        """Return what belongs to some of them, by number, slice, numbers or flags.

        Raises:
            IndexError: If there are fewer.
        """

    def __iter__(self) -> Iterator[Self]:
        return (self[number] for number in range(len(self)))

    def cpu(self) -> Self:
        """Return it as it is: it is in the CPU's memory."""
        return self


class Masks(Objects):
    """The masks of a result: all in ``data``, or one after the other, which needs less memory.

    Args:
        masks: (H, W) bool each, or run lengths.
        size: The photo's (H, W).
        as_arrays: Whether ``data`` is an array instead of a tensor.
    """

    def __init__(
        self,
        masks: Sequence[np.ndarray | dict[str, Any]],
        size: tuple[int, int],
        as_arrays: bool = False,
    ) -> None:
        self._masks, self._size, self._as_arrays = masks, size, as_arrays

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Index) -> Self:
        chosen = [self._masks[number] for number in _numbers(index, len(self))]
        return type(self)(chosen, self._size, self._as_arrays)

    @property
    def orig_shape(self) -> tuple[int, int]:
        """The photo's (height, width), pixels."""
        return self._size

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of ``data``: (N, H, W)."""
        return len(self), *self._size

    def arrays(self) -> Iterator[np.ndarray]:
        """Give one (H, W) bool array after the other."""
        for mask in self._masks:
            yield rle.decode(mask) if isinstance(mask, dict) else mask

    @cached_property
    def data(self) -> Any:
        """(N, H, W) bool tensor at the photo's size; after ``numpy()`` an array."""
        masks = np.zeros((len(self), *self._size), bool)
        for index, mask in enumerate(self.arrays()):
            masks[index] = mask
        return masks if self._as_arrays else torch.from_numpy(masks)

    def numpy(self) -> Masks:
        """Return the masks with an array for ``data``."""
        return Masks(self._masks, self._size, as_arrays=True)

    @cached_property
    def xy(self) -> list[np.ndarray]:
        """Each mask's outline, (N, 2) float32 x, y in pixels; (0, 2) for an empty mask.

        Parts and holes are joined into one outline by bridges of no width.
        """
        outlines = []
        for mask in self.arrays():
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
class Boxes(Objects):
    """The tight boxes of a result's masks; tensors, or arrays after ``numpy()``.

    Attributes:
        xyxy: (N, 4) float32 x0, y0, x1, y1 in pixels of the photo.
        conf: (N,) float32 predicted IoU.
        cls: (N,) float32: the objects' numbers, since SAM knows no classes.
        orig_shape: The photo's (height, width), pixels.
        id: None: nothing is tracked.
    """

    xyxy: Any
    conf: Any
    cls: Any
    orig_shape: tuple[int, int]
    id: None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: Index) -> Self:
        chosen = _numbers(index, len(self))
        return replace(self, xyxy=self.xyxy[chosen], conf=self.conf[chosen], cls=self.cls[chosen])

    @property
    def shape(self) -> tuple[int, int]:
        """That of ``data``: (N, 6)."""
        return len(self), 6

    @property
    def data(self) -> Any:
        """(N, 6): ``xyxy``, ``conf`` and ``cls``."""
        return self._columns(*self.xyxy.T, self.conf, self.cls)

    @property
    def xywh(self) -> Any:
        """(N, 4) float32: the middle's x and y, width, height."""
        x0, y0, x1, y1 = self.xyxy.T
        return self._columns((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)

    @property
    def xyxyn(self) -> Any:
        """``xyxy`` as shares of the photo's width and height."""
        return self._shares(self.xyxy)

    @property
    def xywhn(self) -> Any:
        """``xywh`` as shares of the photo's width and height."""
        return self._shares(self.xywh)

    def numpy(self) -> Boxes:
        """Return the boxes with arrays instead of tensors."""
        return replace(
            self,
            xyxy=np.asarray(self.xyxy),
            conf=np.asarray(self.conf),
            cls=np.asarray(self.cls),
        )

    def _columns(self, *columns: Array) -> Any:
        stack: Any = torch.stack if isinstance(self.xyxy, torch.Tensor) else np.stack
        return stack(columns, -1)

    def _shares(self, numbers: Array) -> Any:
        height, width = self.orig_shape
        x_first, y_first, x_last, y_last = numbers.T
        return self._columns(x_first / width, y_first / height, x_last / width, y_last / height)


@dataclass(frozen=True, eq=False)
class Results(Objects):
    """What ``SAM.predict`` found in one photo.

    Attributes:
        orig_img: (H, W, 3) uint8 in RGB order; Ultralytics has BGR here. Yours to change.
        path: Where the photo came from; None if it was no file.
        masks: One for each object asked for.
        boxes: Their tight boxes and scores.
        speed: ``encode`` and ``decode``, milliseconds.
        keypoints, probs, obb: None: SAM has none of what other models of Ultralytics' give.
    """

    keypoints: ClassVar[None] = None
    probs: ClassVar[None] = None
    obb: ClassVar[None] = None

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
        return {number: str(number) for number in self._classes}

    @property
    def _classes(self) -> list[int]:
        return [int(number) for number in self.boxes.cls.tolist()]

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path or 'a picture'}, {width}x{height}: {self.verbose()})"

    def __getitem__(self, index: Index) -> Self:
        return replace(self, masks=self.masks[index], boxes=self.boxes[index])

    def numpy(self) -> Results:
        """Return the result with arrays instead of tensors."""
        return replace(self, masks=self.masks.numpy(), boxes=self.boxes.numpy())

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return for each object ``name``, ``class``, ``confidence``, ``box`` and ``segments``.

        Args:
            normalize: Shares of the photo's width and height instead of pixels.
            decimals: Places that are kept.
        """
        boxes = self.boxes.xyxyn if normalize else self.boxes.xyxy
        outlines = self.masks.xyn if normalize else self.masks.xy
        names, objects = self.names, []
        for number, box, conf, outline in zip(
            self._classes, boxes.tolist(), self.boxes.conf.tolist(), outlines, strict=True
        ):
            sides = zip(("x1", "y1", "x2", "y2"), box, strict=True)
            x, y = outline.T.astype(float).round(decimals).tolist()
            objects.append(
                {
                    "name": names[number],
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
        scores = self.boxes.conf.tolist()
        for number, conf, outline in zip(self._classes, scores, self.masks.xyn, strict=True):
            if len(outline):
                end = [conf] if save_conf else []
                numbers = " ".join(f"{value:.6g}" for value in [*outline.ravel().tolist(), *end])
                lines.append(f"{number} {numbers}\n")
        Path(txt_file).parent.mkdir(parents=True, exist_ok=True)
        with Path(txt_file).open("a") as file:
            file.writelines(lines)
        return str(txt_file)

    def plot(self) -> np.ndarray:
        """Return a copy of the photo with all masks laid over it.

        Returns:
            (H, W, 3) uint8 in RGB order, not BGR.
        """
        picture = self.orig_img.copy()
        for number, mask in zip(self._classes, self.masks.arrays(), strict=True):
            picture = overlay(picture, mask, color=object_color(number))
        return picture

    def verbose(self) -> str:
        """Return in words how many masks there are."""
        return f"{len(self)} mask{'' if len(self) == 1 else 's'}"

    def show(self) -> None:
        """Open ``plot()`` in this machine's picture viewer."""
        Image.fromarray(self.plot()).show()

    def save(self, filename: str | Path = "result.png") -> str:
        """Write ``plot()`` to a file, whose folder is made if need be; returns its name."""
        Path(filename).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.plot()).save(filename)
        return str(filename)


def _numbers(index: Index, count: int) -> list[int]:
    """Return which of ``count`` objects are meant."""
    if isinstance(index, torch.Tensor):
        index = index.cpu().numpy()
    if isinstance(index, list | tuple):
        index = np.array([np.asarray(one) for one in index]) if index else np.empty(0, int)
    return np.atleast_1d(np.arange(count)[index]).tolist()

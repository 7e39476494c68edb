"""One object of a picture, as it is kept until it is written."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobilesam import rle as run_lengths
from mobilesam.polygons import TOLERANCE, Part, mask_to_parts
from mobilesam.rendering import DODGER_BLUE, Color

Size = tuple[int, int]  # height, width
OBJECT = "object"  # what an object without a name is called
GOLDEN_RATIO = 0.618034  # of the color circle: neighbours in the list are far apart on it
COLORS: tuple[Color, ...] = (  # told apart by red-green-blind eyes, too
    DODGER_BLUE,
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (86, 180, 233),
    (213, 94, 0),
)


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """One object of a picture.

    Attributes:
        rle: Its mask as uncompressed run lengths, see ``mobilesam.rle``.
        name: What it is; COCO's category, LabelMe's label, YOLO's class.
        score: How good the model thinks the mask is, 0 to 1; None if nobody said.
    """

    rle: Mapping[str, Any]
    name: str = OBJECT
    score: float | None = None
    _parts: dict[float, list[Part]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_mask(
        cls, mask: np.ndarray, name: str = OBJECT, score: float | None = None
    ) -> ObjectMask:
        """Make one from an (H, W) bool mask."""
        return cls(run_lengths.encode(mask), name, score)

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return run_lengths.area(self.rle)

    def mask(self) -> np.ndarray:
        """Return its (H, W) bool mask."""
        return run_lengths.decode(self.rle)

    def parts(self, tolerance: float = TOLERANCE) -> list[Part]:
        """Return its outline, see ``polygons.mask_to_parts``; kept, since several files need it."""
        if tolerance not in self._parts:
            self._parts[tolerance] = mask_to_parts(self.mask(), tolerance)
        return self._parts[tolerance]

    def check_size(self, size: Size) -> None:
        """Refuse a picture's (height, width) that is not the mask's.

        Raises:
            ValueError: It is another one.
        """
        if tuple(self.rle["size"]) != tuple(size):
            got = tuple(self.rle["size"])
            raise ValueError(f"The mask's size {got} is not the picture's {tuple(size)}; scale it.")


def object_color(index: int) -> Color:
    """Return the color of a picture's object number ``index``, from 0; the same every time."""
    if index < len(COLORS):
        return COLORS[index]
    turn = index - len(COLORS)
    red, green, blue = colorsys.hsv_to_rgb(turn * GOLDEN_RATIO % 1, 0.85 - turn % 3 * 0.2, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)

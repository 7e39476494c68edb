"""What the page sends: checked here, field by field, before the library sees any of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

MAX_NAME_BYTES = 150  # of a file name without its suffix; file systems take 255 with everything
MAX_OBJECT_NAME = 80  # characters
MAX_POINTS = 64  # more are of no use to the decoder and cost memory
DEFAULT_COLOR = (30, 144, 255)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEX_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


class PromptError(ValueError):
    """A prompt that cannot be answered; the text is one sentence for the visitor."""


@dataclass(frozen=True)
class PagePrompts:
    """Checked prompts in pixels of the original photo.

    Attributes:
        points: `(x, y)` of each point.
        labels: 1 for a point on the object, 0 for one not on it; one per point.
        box: `(x0, y0, x1, y1)` or None.
    """

    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]
    box: tuple[float, float, float, float] | None

    def as_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for `predict_steps` and `compare`."""
        return {
            "points": list(self.points) or None,
            "labels": list(self.labels) or None,
            "box": self.box,
        }


def parse_prompts(value: Mapping[str, Any], original_size: tuple[int, int]) -> PagePrompts:
    """Check the points and the box of one request.

    Args:
        value: The page's message; `points` is a list of `[x, y, label]`, `box` four numbers or
            null.
        original_size: `(height, width)` of the photo in pixels.

    Raises:
        PromptError: Something in the message cannot be a prompt for this photo.
    """
    points, labels = _parse_points(value.get("points"), original_size)
    box = _parse_box(value.get("box"), original_size)
    if not points and box is None:
        raise PromptError("There is no point and no box yet; click on the photo to add one.")
    return PagePrompts(points, labels, box)


def _parse_points(
    raw_points: Any, original_size: tuple[int, int]
) -> tuple[tuple[tuple[float, float], ...], tuple[int, ...]]:
    if raw_points is None:
        return (), ()
    if not is_list(raw_points):
        raise PromptError("The points must be a list of [x, y, label].")
    if len(raw_points) > MAX_POINTS:
        raise PromptError(f"At most {MAX_POINTS} points are taken; got {len(raw_points)}.")
    points, labels = [], []
    for number, raw_point in enumerate(raw_points, start=1):
        if not is_list(raw_point) or len(raw_point) != 3:
            raise PromptError(f"Point {number} must be [x, y, label].")
        x, y = (parse_number(entry, f"Point {number}") for entry in raw_point[:2])
        _check_inside(x, y, original_size, f"Point {number}")
        if isinstance(raw_point[2], bool) or raw_point[2] not in (0, 1):
            raise PromptError(f"The label of point {number} must be 1 (include) or 0 (exclude).")
        points.append((x, y))
        labels.append(int(raw_point[2]))
    return tuple(points), tuple(labels)


def _parse_box(
    raw_box: Any, original_size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    if raw_box is None:
        return None
    if not is_list(raw_box) or len(raw_box) != 4:
        raise PromptError("The box must be four numbers: left, top, right, bottom.")
    x0, y0, x1, y1 = (parse_number(entry, "The box") for entry in raw_box)
    _check_inside(x0, y0, original_size, "The box")
    _check_inside(x1, y1, original_size, "The box")
    if x1 <= x0 or y1 <= y0:
        raise PromptError("The box must go from its upper left to its lower right corner.")
    return x0, y0, x1, y1


def is_list(value: Any) -> bool:
    """Tell whether a value is a list, and not text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def parse_number(value: Any, what: str) -> float:
    """Return a finite number; `what` is the subject of the sentence if it is none.

    Raises:
        PromptError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PromptError(f"{what} must be given in numbers.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PromptError(f"{what} must be given in finite numbers.")
    return number


def _check_inside(x: float, y: float, original_size: tuple[int, int], what: str) -> None:
    height, width = original_size
    if not (0 <= x <= width and 0 <= y <= height):
        raise PromptError(
            f"{what} must lie in the photo, x 0 to {width} and y 0 to {height}; got ({x:g}, {y:g})."
        )


def parse_file_name(raw_name: Any) -> str:
    """Return the name of a visitor's file, without folders, and such that it can be written."""
    text = _CONTROL.sub("", str(raw_name)).encode("utf-8", "ignore").decode("utf-8")
    name = PurePosixPath(text.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 10:
        stem, dot, suffix = name, "", ""
    short = stem.encode("utf-8")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    return (short or "photo") + dot + suffix


def parse_name(raw_name: Any) -> str:
    """Return an object's name: one line, not too long, and never empty."""
    text = " ".join(_CONTROL.sub(" ", str(raw_name if raw_name is not None else "")).split())
    return text.encode("utf-8", "ignore").decode("utf-8")[:MAX_OBJECT_NAME] or "object"


def parse_color(raw_color: Any) -> tuple[int, int, int]:
    """Return RGB from "#rrggbb", or the default colour for anything else."""
    if not isinstance(raw_color, str) or not _HEX_COLOR.fullmatch(raw_color):
        return DEFAULT_COLOR
    red, green, blue = bytes.fromhex(raw_color[1:])
    return red, green, blue


def check_color(raw_color: Any) -> None:
    """Refuse what ``parse_color`` would replace, for callers who can be told so.

    Raises:
        PromptError: It is neither None nor "#rrggbb".
    """
    if raw_color is not None and not _HEX_COLOR.fullmatch(str(raw_color)):
        raise PromptError(f"The color must be like #1e90ff; got {str(raw_color)[:40]!r}.")


def parse_opacity(raw_opacity: Any) -> float:
    """Return an opacity of 0 to 1, or 0.5 for anything that is no number."""
    try:
        return min(1.0, max(0.0, parse_number(raw_opacity, "The opacity")))
    except PromptError:
        return 0.5

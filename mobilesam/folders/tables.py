"""Tables of prompts: CSV files of pictures and what to segment in them."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = ("path", "points", "labels", "box", "x", "y", "label", "x0", "y0", "x1", "y1", "name")
CORNERS = ("x0", "y0", "x1", "y1")
DELIMITERS = ",;\t"
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")  # as spreadsheets write it where it is customary
BETWEEN_NUMBERS = re.compile(r"[\s,;()\[\]]+")  # so that 1,2 3,4 and [[1, 2], [3, 4]] are the same


@dataclass(frozen=True)
class ObjectPrompt:
    """What tells one object of a picture.

    Attributes:
        points: x, y in pixels of the picture.
        labels: 1 or 0 for each point.
        box: x0, y0, x1, y1 in pixels; None if there is none.
        name: What the object is called; None if nobody said.
        origin: Where it was read, for messages, as in "prompts.csv, line 7"; empty for the
            command line.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, ...] | None = None
    name: str | None = None
    origin: str = field(default="", compare=False)

    def __bool__(self) -> bool:
        return bool(self.points) or self.box is not None

    def arguments(self) -> dict[str, Any]:
        """Return what ``Predictor.predict`` takes."""
        given: dict[str, Any] = {"box": self.box}
        if self.points:
            given |= {"points": self.points, "labels": self.labels}
        return given


def read_table(path: Path) -> Iterator[tuple[Path, ObjectPrompt]]:
    """Read a table of prompts: a picture's path and one object of it per row.

    The first row names the columns, any of ``COLUMNS``: ``path``, relative to the table's folder;
    ``points`` as in ``120,80 140,95`` with ``labels`` as in ``1 0``, or ``x``, ``y`` and ``label``
    of a single point; ``box`` as in ``10,20,200,180``, or ``x0``, ``y0``, ``x1`` and ``y1``;
    ``name``. A cell of one number may have a decimal comma. Cells are parted by commas, semicolons
    or tabs; rows without content are skipped.

    Raises:
        ValueError: The table cannot be read, or a row is wrong; says which line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8; save it as CSV in UTF-8.") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = csv.reader(io.StringIO(text), delimiter=max(DELIMITERS, key=first.count), strict=True)
    columns: list[str] = []
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns:
                yield _read_row(path, f"{path.name}, line {rows.line_num}", columns, cells)
            else:
                columns = _check_columns(path, [cell.lower() for cell in cells])
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: {error}; correct the row.") from error
    if not columns:
        raise ValueError(f"{path} is empty; its first row must name its columns.")


def _check_columns(path: Path, columns: list[str]) -> list[str]:
    unknown = [column for column in columns if column not in COLUMNS]
    known = f"expected path and any of {', '.join(COLUMNS[1:])}"
    if unknown:
        raise ValueError(f"{path}, line 1: there is no column {unknown[0]!r}; {known}.")
    if "path" not in columns:
        raise ValueError(f"{path}, line 1: the column path is missing; {known}.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}, line 1: a column is named twice; name each once.")
    return columns


def _read_row(
    table: Path, origin: str, columns: list[str], cells: list[str]
) -> tuple[Path, ObjectPrompt]:
    if len(cells) != len(columns):
        message = f"{origin}: expected {len(columns)} cells, got {len(cells)};"
        raise ValueError(f"{message} put cells that hold a comma into double quotes.")
    given = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
    if "path" not in given:
        raise ValueError(f"{origin}: the path is missing; name a picture.")
    points, labels = _points(origin, given)
    photo = table.parent / os.path.expanduser(given["path"])
    return photo, ObjectPrompt(points, labels, _box(origin, given), given.get("name"), origin)


def _points(
    origin: str, given: dict[str, str]
) -> tuple[tuple[tuple[float, float], ...], tuple[int, ...]]:
    single = [given.get("x", ""), given.get("y", "")]
    if any(single) and "points" in given:
        raise ValueError(f"{origin}: got both points and x, y; give one of them.")
    if any(single) and not all(single):
        raise ValueError(f"{origin}: x and y belong together; give both.")
    if "points" in given:
        numbers = _numbers(origin, "points", given["points"])
    else:
        numbers = [_number(origin, column, given[column]) for column in ("x", "y") if any(single)]
    if len(numbers) % 2:
        count = len(numbers)
        raise ValueError(f"{origin}: points must be pairs x,y; got {count} numbers in all.")
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if "labels" in given and "label" in given:
        raise ValueError(f"{origin}: got both labels and label; give one of them.")
    column = "labels" if "labels" in given else "label"
    labels = _numbers(origin, column, given.get(column, "")) or [1.0] * len(points)
    if len(labels) != len(points) or any(label not in (0, 1) for label in labels):
        expected = f"a 1 (include) or 0 (exclude) for each of {len(points)} points"
        raise ValueError(f"{origin}: {column} must be {expected}; got {given[column]!r}.")
    return points, tuple(int(label) for label in labels)


def _box(origin: str, given: dict[str, str]) -> tuple[float, ...] | None:
    corners = [given.get(column, "") for column in CORNERS]
    if any(corners) and "box" in given:
        raise ValueError(f"{origin}: got both box and x0, y0, x1, y1; give one of them.")
    if "box" in given:
        numbers = _numbers(origin, "box", given["box"])
    else:
        present = [column for column in CORNERS if column in given]
        numbers = [_number(origin, column, given[column]) for column in present]
    if numbers and len(numbers) != 4:
        raise ValueError(f"{origin}: a box must be x0, y0, x1, y1; got {len(numbers)} numbers.")
    return tuple(numbers) or None


def _number(origin: str, column: str, text: str) -> float:
    """Read a cell of one number."""
    if DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    numbers = _numbers(origin, column, text)
    if len(numbers) != 1:
        raise ValueError(f"{origin}: {column} must be one number; got {text.strip()!r}.")
    return numbers[0]


def _numbers(origin: str, column: str, text: str) -> list[float]:
    words = [word for word in BETWEEN_NUMBERS.split(text) if word]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{origin}: {column} must be finite numbers; got {text.strip()!r}.")
    return numbers

"""Reading what a run over many pictures has written."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

BOX = ("--box", "5,6,50,40")
Segment = Callable[..., tuple[int, dict[str, Any], str]]


def results(out: Path) -> dict[str, bytes]:
    """Return what is in a folder of results, without the bookkeeping."""
    paths = [path for path in out.rglob("*") if path.is_file()]
    relative = {path.relative_to(out).as_posix(): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in relative.items()
        if not name.startswith(".mobilesam")
    }


def opened_coco(report: dict[str, Any]) -> COCO:
    """Open the data set that a run has written, without pycocotools' remarks."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(report["file"])


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    return report["done"], report["skipped"], report["failed"]

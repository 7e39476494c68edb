"""What the tests of runs over many pictures share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.folders.results import Segment


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos of noise of different sizes, one of them in a folder of its own."""
    random = np.random.default_rng(0)
    for name, size in (("a.jpg", (60, 90)), ("ü b.png", (80, 60)), ("sub/c.png", (64, 64))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def segment(run: Run, checkpoint: Path, tmp_path: Path) -> Segment:
    """Segment into the folder out: (exit status, report, standard error)."""

    def segment_into(*words: object) -> tuple[int, dict[str, Any], str]:
        common = ("--model", checkpoint, "--out", tmp_path / "out")
        status, stdout, stderr = run("segment", *words, *common)
        assert stdout.count("\n") == (status != 2)
        return status, json.loads(stdout or "{}"), stderr

    return segment_into

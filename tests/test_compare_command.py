"""`python -m mobilesam compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import EMBEDDED_FILE, Run
from tests.processes import ROOT

CAT = ROOT / "examples" / "cat.jpg"
TWICE = ("--models", "embedded", "embedded")

pytestmark = pytest.mark.usefixtures("empty_machine")


def test_compare_writes_a_figure_and_one_line_of_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(CAT.parent))
    out = tmp_path / "figure.png"
    points = ("--point", "220,150", "--point", "20,20,0")
    words = ("compare", f"~/{CAT.name}", *points, *TWICE, "--out", out)
    status, stdout, stderr = run(*words)
    assert (status, stderr, stdout.count("\n")) == (0, "", 1)
    said = json.loads(stdout)
    assert list(said) == ["size", "iou", "machine", "threads", "out", "models"]
    assert said["size"] == list(Image.open(CAT).size[::-1])
    assert (said["iou"], said["out"]) == (1, str(out))
    first, second = said["models"]
    assert first["source"] == str(EMBEDDED_FILE)
    assert first["area"] == second["area"] > 1000
    same = ("segment", CAT, *points, "--model", "embedded", "--out", tmp_path / "mask.png")
    assert json.loads(run(*same)[1])["area"] == first["area"]
    assert first["peak_bytes"] > first["file_bytes"] == EMBEDDED_FILE.stat().st_size
    assert Image.open(out).width > 1000


def test_mistakes_are_told_in_one_sentence(
    run: Run, refuses: Callable[..., None], tmp_path: Path
) -> None:
    out, point = ("--out", tmp_path / "figure.png"), ("--point", "220,150")
    refuses("No prompt was given", "compare", CAT, *TWICE, *out)
    refuses("expected X,Y or X,Y,0", "compare", CAT, "--point", "1", *TWICE, *out)
    boxes = ("--box", "10,10,90,90", "--box", "20,20,80,80")
    refuses("One --box was expected; got 2", "compare", CAT, *boxes, *TWICE, *out)
    refuses("expected 2 arguments", "compare", CAT, *point, "--models", "embedded", *out)
    refuses("points must lie in", "compare", CAT, "--point", "9999,1", *TWICE, *out)
    refuses("There is no file", "compare", tmp_path / "no.jpg", *point, *TWICE, *out)
    refuses("ends in .png", "compare", CAT, *point, *TWICE, "--out", tmp_path / "figure.jpg")
    refuses("does not exist", "compare", CAT, *point, *TWICE, "--out", tmp_path / "no" / "x.png")
    missing = ("--models", "embedded", "sam_vit_h")
    refuses("2,565 MB) is not on this machine", "compare", CAT, *point, *missing, *out)
    other = ("--models", "embedded", tmp_path / "other.pt")
    refuses("neither a model nor a checkpoint", "compare", CAT, *point, *other, *out)
    assert list(tmp_path.iterdir()) == []

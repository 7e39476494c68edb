"""The everything mode over many pictures: the engine's own masks, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam import rle
from mobilesam.everything import EverythingOptions, generate
from mobilesam.folders.commands import EVERYTHING_HELP
from tests.conftest import Run, disk_photo
from tests.processes import ROOT

pytestmark = pytest.mark.usefixtures("empty_machine")

LENIENT = {  # so that an untrained model's masks pass
    "points_per_side": 3,
    "pred_iou_thresh": -10.0,
    "stability_score_thresh": -1.0,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
WORDS = [
    word for name, value in LENIENT.items() for word in (f"--{name.replace('_', '-')}={value}",)
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("a b.png", "ü.png")):
        photo, _ = disk_photo(60 + 10 * number, 90, (40, 30), 15)
        Image.fromarray(photo).save(folder / name)
    return folder


@pytest.mark.parametrize("crops", [0, 1])
def test_the_masks_are_the_engines(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path, crops: int
) -> None:
    words = ("everything", photos, *WORDS, f"--crop-n-layers={crops}", "--model", checkpoint)
    status, stdout, _ = run(*words, "--out", tmp_path / "out", "--format", "coco")
    assert status == 0
    report = json.loads(stdout)
    data = json.loads(Path(report["file"]).read_text())
    predictor = mobilesam.Predictor(mobilesam.load_model(checkpoint))
    options = EverythingOptions(**LENIENT, crop_n_layers=crops)
    for image in data["images"]:
        expected = list(generate(predictor, photos / image["file_name"], options))
        found = [one for one in data["annotations"] if one["image_id"] == image["id"]]
        assert len(expected) == len(found) > 1
        for record, annotation in zip(expected, found, strict=True):
            np.testing.assert_array_equal(
                rle.decode(annotation["segmentation"]), rle.decode(record.rle)
            )
            assert annotation["score"] == pytest.approx(record.predicted_iou, abs=1e-4)
    assert report["objects"] == len(data["annotations"])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("png", {"a b.png", "ü.png"}),
        ("labelme", {"a b.json", "ü.json"}),
        ("yolo", {"a b.txt", "ü.txt", "classes.txt"}),
        ("cutout", {"a b.cutouts", "ü.cutouts"}),
    ],
)
def test_every_format_can_be_had(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path, form: str, expected: set[str]
) -> None:
    out = tmp_path / "out"
    words = ("everything", photos, *WORDS, "--model", checkpoint, "--format", form, "--out", out)
    words += ("--tolerance", "0") if form in ("labelme", "yolo") else ()
    status, stdout, _ = run(*words, "--name", "thing")
    assert status == 0
    assert {path.name for path in out.iterdir()} - {".mobilesam"} == expected
    if form == "cutout":
        objects = json.loads(stdout)["objects"]
        assert len(list(out.glob("*.cutouts/*.png"))) == objects
    if form == "yolo":
        assert (out / "classes.txt").read_text() == "thing\n"
    assert json.loads(run(*words, "--name", "thing")[1])["skipped"] == 2


def test_nothing_found_is_a_result_and_told(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("everything", photos, "--points-per-side=2", "--pred-iou-thresh=99", "--format=cutout")
    status, stdout, stderr = run(*words, "--model", checkpoint, "--out", tmp_path / "out")
    assert status == 0
    assert json.loads(stdout)["objects"] == 0
    assert "no mask was good enough" in stderr
    assert (tmp_path / "out" / "ü.cutouts").is_dir()


def test_other_options_are_other_settings(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("everything", photos, *WORDS, "--model", checkpoint, "--out", tmp_path / "out")
    assert run(*words)[0] == 0
    status, _, stderr = run(*words, "--fast")
    assert status == 2
    assert "holds 2 results made with options" in stderr
    assert run(*words, "--fast", "--overwrite")[0] == 0


def test_the_same_options_in_other_words_are_the_same_settings(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("everything", photos, *WORDS, "--out", tmp_path / "out")
    assert run(*words, "--model", checkpoint)[0] == 0
    monkeypatch.chdir(checkpoint.parent)
    more = ("--points-per-batch", "7", "--no-fast", "--crop-n-layers", "0")
    status, stdout, stderr = run(*words, *more, "--model", checkpoint.name)
    assert status == 0, stderr
    assert json.loads(stdout)["done"] == 0
    assert json.loads(stdout)["options"]["points_per_batch"] == 7
    status, _, stderr = run(*words, "--model", checkpoint)  # what was noted has them, too
    assert status == 0, stderr


def test_a_bad_option_is_one_sentence(
    refuses: Callable[..., None], photos: Path, tmp_path: Path
) -> None:
    words = ("everything", photos, "--out", tmp_path / "out", "--model", "embedded")
    refuses("points_per_side must be at least 1; got 0", *words, "--points-per-side", "0")
    refuses("points_per_side must be at most 1024; got", *words, "--points-per-side", "1000000")
    refuses("invalid int value: 'many'", *words, "--points-per-side", "many")
    refuses("unrecognized arguments: --box", *words, "--box", "1,2,3,4")
    (photos / "t.csv").write_text("path,x,y\nü.png,3,4\n")
    words = ("everything", photos / "t.csv", *words[2:])
    refuses("t.csv, line 2: everything mode takes no prompts", *words)
    (photos / "t.csv").write_text("path,name\nü.png,cat\n")
    refuses("t.csv, line 2: everything mode takes no names; empty its cells of names, or", *words)
    assert not (tmp_path / "out").exists()


def test_help_shows_every_option_with_the_librarys_default(run: Run) -> None:
    status, stdout, _ = run("everything", "--help")
    assert status == 0
    shown = " ".join(stdout.split())
    for name, text in EVERYTHING_HELP.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert text.split(":")[0] in shown
    assert "0 to 1 (default: 0.88; 0.45 for this project's own models)" in shown
    assert "along each side (default: 32)" in shown


def test_our_own_model_gets_the_thresholds_that_suit_it(run: Run, tmp_path: Path) -> None:
    photo = ROOT / "examples" / "photographer.jpg"
    words = ("everything", photo, "--model", "embedded", "--points-per-side", "4")
    _, own, _ = run(*words, "--out", tmp_path / "own")
    strict = ("--pred-iou-thresh", "0.88", "--stability-score-thresh", "0.95")  # SAM's
    _, sam, _ = run(*words, *strict, "--out", tmp_path / "strict")
    assert json.loads(own)["objects"] > json.loads(sam)["objects"]

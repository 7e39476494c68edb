"""Runs over many pictures: what is told of what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mobilesam import exporting, files, polygons
from tests.conftest import Run
from tests.folders.results import BOX, Segment, counts, opened_coco, results

pytestmark = [
    pytest.mark.usefixtures("empty_machine"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # pycocotools' own
]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bad_picture_is_reported_and_the_rest_goes_on(
    segment: Segment, photos: Path, tmp_path: Path, threads: int
) -> None:
    (photos / "empty.png").touch()
    (photos / "text.jpg").write_text("no picture")
    (photos / "cut off.png").write_bytes((photos / "ü b.png").read_bytes()[:3000])
    (photos / "notes.txt").write_text("not reported")
    Image.new("RGB", (20, 20)).save(photos / "small.png")
    os.symlink(photos / "gone.png", photos / "dangling.png")
    status, report, stderr = segment(photos, *BOX, "--format", "coco", "--jobs", threads)
    assert status == 1
    assert counts(report) == (2, 0, 5)
    assert report["ignored"] == 1
    errors = {Path(one["path"]).name: one["error"] for one in report["failures"]}
    assert "empty (0 bytes)" in errors["empty.png"]
    assert "not a picture" in errors["text.jpg"]
    assert "damaged or cut off" in errors["cut off.png"]
    assert "must lie in the picture (x 0 to 20, y 0 to 20)" in errors["small.png"]
    assert "There is no file" in errors["dangling.png"]
    for name, error in errors.items():
        assert f"{name}: {error}" in stderr
    assert "Traceback" not in stderr
    assert len(opened_coco(report).imgs) == 2
    assert counts(segment(photos, *BOX, "--format", "coco")[1]) == (0, 2, 5)
    (photos / "empty.png").write_bytes((photos / "ü b.png").read_bytes())
    assert counts(segment(photos, *BOX, "--format", "coco")[1]) == (1, 2, 4)
    assert len(opened_coco(report).imgs) == 3


def test_a_prompt_outside_its_picture_is_told_with_its_line(segment: Segment, photos: Path) -> None:
    (photos / "t.csv").write_text("path,x,y\na.jpg,20,30\nü b.png,500,5\nabsent.png,1,1\n")
    status, report, _ = segment(photos / "t.csv", "--format", "yolo")
    assert status == 1
    first, second = (one["error"] for one in report["failures"])
    assert first.startswith("t.csv, line 3: points must lie in the picture (x 0 to 60, y 0 to 80)")
    assert "There is no file" in second


def test_an_error_nobody_thought_of_does_not_stop_the_rest(
    segment: Segment, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.labelme

    def sometimes(objects: Any, image_path: str, *rest: Any) -> dict[str, Any]:
        if image_path.endswith("a.jpg"):
            raise RuntimeError("out of\nmemory")
        return real(objects, image_path, *rest)

    monkeypatch.setattr(exporting, "labelme", sometimes)
    status, report, _ = segment(photos, *BOX, "--format", "labelme")
    assert (status, report["failed"]) == (1, 1)
    assert report["failures"][0]["error"] == "out of memory"


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(
    segment: Segment, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which only Linux has")
    real, written = os.replace, []

    def full_after_the_first(self: Path, content: bytes) -> None:
        if written and self.parent.name == ".mobilesam":
            with self.open("wb") as file, open("/dev/full", "wb") as full:
                file.write(content[:10])
                full.write(content)
        else:
            with self.open("wb") as file:
                file.write(content)

    def replace(part: Path, path: Path) -> None:
        if path.suffix == ".txt":
            written.append(path)
        real(part, path)

    monkeypatch.setattr(Path, "write_bytes", full_after_the_first)
    monkeypatch.setattr(files.os, "replace", replace)
    status, report, stderr = segment(photos, "-r", *BOX, "--format", "yolo", "--jobs", "1")
    assert status == 1
    assert counts(report) == (1, 0, 1)
    assert report["unfinished"] == 1
    assert "No space left on device" in report["failures"][0]["error"]
    assert "there is no space left" in stderr
    assert results(tmp_path / "out").keys() == {"a.txt"}
    assert not list((tmp_path / "out").rglob("*.part"))
    monkeypatch.undo()


def test_a_run_that_cannot_begin_is_refused(
    refuses: Callable[..., None],
    photos: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cannot_be_stored(*_: object, **__: object) -> None:
        raise OSError("The exported image encoder cannot be stored: the disk is full.")

    monkeypatch.setattr("mobilesam.registry.load_model", cannot_be_stored)
    out = tmp_path / "out"
    refuses("cannot be stored", "segment", photos, *BOX, "--model", checkpoint, "--out", out)


def test_many_results_do_not_go_into_what_looks_like_a_file(
    run: Run, refuses: Callable[..., None], photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dog.mask.png"
    words = ("segment", photos, *BOX, "--model", checkpoint, "--out", out)
    refuses("must be a folder where there may be many results; got 'dog.mask.png'", *words)
    refuses("looks like a file", "everything", photos, "--model", checkpoint, "--out", out)
    assert not out.exists()
    out.mkdir()  # as somebody meant it
    assert run(*words)[0] == 0


def test_two_runs_do_not_write_to_one_folder(
    run: Run, refuses: Callable[..., None], photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    from mobilesam.folders.state import opened_folder

    words = ("segment", photos, *BOX, "--model", checkpoint, "--out", tmp_path / "out")
    with opened_folder(tmp_path / "out"):
        refuses("Another run is writing", *words)
    assert run(*words)[0] == 0


def test_what_a_killed_run_left_is_cleared_away(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    state = tmp_path / "out" / ".mobilesam"
    (state / "0123.part").mkdir(parents=True)
    (state / "0123.part" / "1.png").write_text("half")
    (state / "4567.part").write_text("half")
    assert segment(photos, *BOX)[0] == 0
    assert not list(state.glob("*.part"))
    shapes = ("{", "[1, 2]", '{"pictures": {"x": {}}}', '{"settings": 1}', '{"classes": {}}')
    for text in shapes:
        (state / "run.json").write_text(text)
        status, _, stderr = segment(photos, *BOX)
        assert (status, "run.json is damaged; remove it" in stderr) == (2, True), text


def test_a_folder_that_cannot_be_made_is_another_folders_case(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ("segment", photos, *BOX, "--model", checkpoint, "--out", tmp_path / "file" / "sub")
    status, _, stderr = run(*words)
    assert status == 2
    assert "cannot be written (Not a directory); choose another folder." in stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("absent",), "No prompt was given"),
        (("absent", *BOX, "--format", "png"), "There is no file or folder absent"),
        (("photos",), "photos: no prompt was given"),
        (("photos", *BOX, "--format", "gif"), "invalid choice: 'gif'"),
        (("photos", *BOX, "--jobs", "0"), "expected a whole number from 1 to 10,000, got '0'"),
        (("photos", *BOX, "--tolerance", "-1"), "expected a number from 0, got '-1'"),
        (("photos", *BOX, "--kind", "mask"), "--kind is for a single photo"),
        (("photos/a.jpg", *BOX, "--jobs", "2", "--out", "x.png"), "--jobs is for many pictures"),
        (("photos", *BOX, "--polygons"), "--polygons is for --format coco; got png"),
        (("photos", *BOX, "--tolerance", "2"), "--tolerance is for outlines"),
        (("photos", *BOX, *BOX), "One --box was expected; got 2"),
        (("photos", *BOX, "--model", "nothing"), "'nothing' is neither a model"),
        (("photos", *BOX, "--out", "photos/a.jpg"), "--out must be a folder here"),
        (("photos", *BOX, "--out", "/proc/nowhere"), "/proc/nowhere"),
        (("photos/*.bmp", *BOX), "There is no picture in photos/*.bmp"),
        (("photos/a.jpg", "--point", "3,4", "--out", "out"), "For a folder add --format"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    refuses: Callable[..., None],
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(photos.parent)
    out = () if "--out" in words else ("--out", "out")
    model = () if "--model" in words else ("--model", "embedded")
    refuses(expected, "segment", *words, *out, *model)
    assert not Path("out").exists()
    assert len(results(photos)) == 3


def test_the_default_tolerance_is_what_help_says(run: Run) -> None:
    _, stdout, _ = run("segment", "--help")
    assert polygons.TOLERANCE == 1
    assert "pixel's edge (default: 1)" in " ".join(stdout.split())

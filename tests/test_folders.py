"""Runs over many pictures: what is written, what is skipped, what is told."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import mobilesam
from mobilesam import exporting, files, polygons
from mobilesam.folders import jobs as jobs_module
from mobilesam.folders.outputs import SUFFIXES
from tests.conftest import Run

pytestmark = [
    pytest.mark.usefixtures("empty_machine"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # pycocotools' own
]

BOX = ("--box", "5,6,50,40")


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
def segment(run: Run, checkpoint: Path, tmp_path: Path) -> Callable[..., tuple[int, dict, str]]:
    """Segment into the folder out: (exit status, report, standard error)."""

    def segment_into(*words: object) -> tuple[int, dict[str, Any], str]:
        common = ("--model", checkpoint, "--out", tmp_path / "out")
        status, stdout, stderr = run("segment", *words, *common)
        assert stdout.count("\n") == (status != 2)
        return status, json.loads(stdout or "{}"), stderr

    return segment_into


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


def expected_mask(checkpoint: Path, photo: Path, **prompts: Any) -> np.ndarray:
    predictor = mobilesam.Predictor(mobilesam.load_model(checkpoint))
    result = predictor.predict(predictor.encode(photo), **(prompts or {"box": (5, 6, 50, 40)}))
    return result.mask(result.best)


def test_every_picture_gets_the_librarys_mask(
    segment: Segment, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    status, report, stderr = segment(photos, "-r", *BOX, "--format", "png")
    assert status == 0
    assert counts(report) == (3, 0, 0)
    assert "3 done, 0 skipped, 0 failed" in stderr
    assert results(tmp_path / "out").keys() == {"a.png", "ü b.png", "sub/c.png"}
    for source, name in (("a.jpg", "a.png"), ("ü b.png", "ü b.png"), ("sub/c.png", "sub/c.png")):
        picture = Image.open(tmp_path / "out" / name)
        assert picture.mode == "P"
        expected = expected_mask(checkpoint, photos / source)
        np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize("form", SUFFIXES)
def test_the_results_are_the_same_however_many_threads_there_are(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path, form: str
) -> None:
    for jobs in (1, 3):
        out = tmp_path / f"out{jobs}"
        words = ("segment", photos, "-r", *BOX, "--model", checkpoint, "--format", form)
        assert run(*words, "--jobs", jobs, "--out", out)[0] == 0
    assert results(tmp_path / "out1") == results(tmp_path / "out3")
    assert len(results(tmp_path / "out1")) == {"coco": 1, "yolo": 4}.get(form, 3)


def test_png_is_what_many_pictures_get_if_nothing_is_said(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    assert segment(photos / "a.jpg", photos / "ü b.png", *BOX)[0] == 0
    assert results(tmp_path / "out").keys() == {"a.png", "ü b.png"}


def test_coco_is_one_data_set_of_all_pictures(
    segment: Segment, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    status, report, _ = segment(photos, "-r", *BOX, "--format", "coco", "--name", "beetle")
    assert status == 0
    assert report["file"] == str(tmp_path / "out" / "annotations.json")
    read = opened_coco(report)
    images = read.loadImgs(read.getImgIds())
    assert [image["file_name"] for image in images] == ["a.jpg", "ü b.png", "sub/c.png"]
    assert read.loadCats(read.getCatIds())[0]["name"] == "beetle"
    for image in images:
        (annotation,) = read.loadAnns(read.getAnnIds(imgIds=image["id"]))
        mask = expected_mask(checkpoint, photos / image["file_name"])
        np.testing.assert_array_equal(read.annToMask(annotation), mask)


def test_coco_polygons_keep_every_pixel_without_tolerance(
    segment: Segment, photos: Path, checkpoint: Path
) -> None:
    words = (photos, *BOX, "--format", "coco", "--polygons", "--tolerance", "0")
    _, report, _ = segment(*words)
    read = opened_coco(report)
    for annotation in read.loadAnns(read.getAnnIds()):
        assert isinstance(annotation["segmentation"], list)
        name = read.loadImgs(annotation["image_id"])[0]["file_name"]
        mask = expected_mask(checkpoint, photos / name)
        np.testing.assert_array_equal(read.annToMask(annotation), mask)


def test_labelme_files_may_lie_beside_their_pictures(
    run: Run, photos: Path, checkpoint: Path
) -> None:
    words = ("segment", photos, "-r", *BOX, "--model", checkpoint, "--format", "labelme")
    assert run(*words, "--out", photos)[0] == 0
    for name in ("a", "ü b", "sub/c"):
        path = photos / f"{name}.json"
        data = json.loads(path.read_text())
        source = path.parent / data["imagePath"]
        with Image.open(source) as picture:
            assert picture.size == (data["imageWidth"], data["imageHeight"])
        assert source.stem == path.stem
    assert counts(json.loads(run(*words, "--out", photos)[1])) == (0, 3, 0)


def test_labelme_files_elsewhere_lead_to_their_pictures(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, "-r", *BOX, "--format", "labelme")
    path = tmp_path / "out" / "sub" / "c.json"
    assert json.loads(path.read_text())["imagePath"] == "../../photos/sub/c.png"


def test_rows_of_a_table_are_the_objects_of_a_picture(
    segment: Segment, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (photos / "prompts.csv").write_text(
        "path,points,labels,box,name\n"
        "a.jpg,20 30,,,cat\n"
        "sub/c.png,,,1 2 40 50,dog\n"
        'a.jpg,"10,10 70,50",1 0,,dog\n'
    )
    status, report, _ = segment(photos / "prompts.csv", "--format", "yolo")
    assert (status, counts(report)) == (0, (2, 0, 0))
    assert (tmp_path / "out" / "classes.txt").read_text() == "object\ncat\ndog\n"
    lines = (tmp_path / "out" / "a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]

    segment(photos / "prompts.csv", "--format", "png", "--overwrite")
    numbers = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    first = expected_mask(checkpoint, photos / "a.jpg", points=[(20, 30)])
    second = expected_mask(checkpoint, photos / "a.jpg", points=[(10, 10), (70, 50)], labels=[1, 0])
    large, small = (1, 2) if first.sum() >= second.sum() else (2, 1)
    expected = np.where(first if large == 1 else second, large, 0)
    expected[first if small == 1 else second] = small
    np.testing.assert_array_equal(numbers, expected)


def test_cut_outs_of_several_objects_lie_in_a_folder(
    segment: Segment, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (photos / "t.csv").write_text("path,x,y\na.jpg,20,30\na.jpg,70,20\nü b.png,5,5\n")
    assert segment(photos / "t.csv", "--format", "cutout")[0] == 0
    found = results(tmp_path / "out")
    assert found.keys() == {"a.cutouts/1.png", "a.cutouts/2.png", "ü b.png"}
    pixels = np.asarray(Image.open(tmp_path / "out" / "a.cutouts" / "2.png"))
    mask = expected_mask(checkpoint, photos / "a.jpg", points=[(70, 20)])
    np.testing.assert_array_equal(pixels[..., 3] == 255, mask)
    assert segment(photos / "t.csv", "--format", "cutout", "--overwrite")[0] == 0
    assert results(tmp_path / "out") == found


def test_a_finished_picture_is_skipped(segment: Segment, photos: Path, tmp_path: Path) -> None:
    segment(photos, *BOX)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    (tmp_path / "out" / "a.png").unlink()
    status, report, _ = segment(photos, "-r", *BOX)
    assert (status, counts(report)) == (0, (2, 1, 0))
    kept = tmp_path / "out" / "ü b.png"
    assert kept.stat().st_mtime_ns == before[kept]
    assert counts(segment(photos, "-r", *BOX)[1]) == (0, 3, 0)
    assert counts(segment(photos, "-r", *BOX, "--overwrite")[1]) == (3, 0, 0)


def test_coco_is_completed_by_a_later_run(segment: Segment, photos: Path) -> None:
    _, first, _ = segment(photos, *BOX, "--format", "coco")
    assert len(opened_coco(first).imgs) == 2
    _, second, _ = segment(photos, "-r", *BOX, "--format", "coco")
    assert counts(second) == (1, 2, 0)
    assert len(opened_coco(second).imgs) == 3


def test_the_model_is_not_loaded_if_all_is_done(
    segment: Segment, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(photos, *BOX)
    monkeypatch.setattr(jobs_module, "Worker", None)
    assert counts(segment(photos, *BOX)[1]) == (0, 2, 0)


def test_results_of_other_settings_or_prompts_are_not_taken_for_finished(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, *BOX)
    before = results(tmp_path / "out")
    status, _, stderr = segment(photos, *BOX, "--format", "yolo")
    assert status == 2
    assert "holds 2 results made with format png, not yolo" in stderr
    assert "--overwrite" in stderr
    status, _, stderr = segment(photos, "--point", "20,20")
    assert (status, "made with other prompts" in stderr) == (2, True)
    assert results(tmp_path / "out") == before
    assert segment(photos, "--point", "20,20", "--overwrite")[0] == 0
    assert results(tmp_path / "out").keys() == before.keys()
    assert segment(photos, *BOX, "--format", "yolo", "--overwrite")[0] == 0
    assert results(tmp_path / "out").keys() == {"a.txt", "ü b.txt", "classes.txt"}


def test_files_of_somebody_elses_are_neither_replaced_nor_taken_for_results(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, form in (("a.json", "labelme"), ("annotations.json", "coco"), ("a.png", "png")):
        (out / name).write_text("precious")
        status, _, stderr = segment(photos, *BOX, "--format", form)
        assert status == 2
        assert f"{name} is there already, and not from an earlier run" in stderr
        assert (out / name).read_text() == "precious"
        (out / name).unlink()


def test_names_of_results_are_unique_and_stay_what_they_are(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("other/a.jpg", "other/A.png", "other/a.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), "red").save(path)
    common = ("--model", checkpoint, "--out", tmp_path / "out", "--format", "yolo")
    words = ("segment", "--box", "1,1,40,30", *common)
    assert run(*words, photos)[0] == 0
    first = results(tmp_path / "out")
    assert run(*words, photos, tmp_path / "other")[0] == 0
    second = results(tmp_path / "out")
    assert second.keys() - first.keys() == {"a_jpg.txt", "A_png.txt", "a_webp.txt"}
    assert {name: second[name] for name in first} == first
    report = json.loads(run(*words, tmp_path / "other", photos)[1])
    assert counts(report) == (0, 5, 0)
    assert results(tmp_path / "out") == second


def test_the_list_of_classes_is_not_taken_for_a_picture_of_that_name(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "classes.png")
    words = ("segment", tmp_path / "classes.png", "--box", "1,1,40,30", "--format", "yolo")
    assert run(*words, "--model", checkpoint, "--out", tmp_path / "out")[0] == 0
    assert results(tmp_path / "out").keys() == {"classes.txt", "classes_png.txt"}


def test_results_never_replace_pictures(
    run: Run, refuses: Callable[..., None], photos: Path, checkpoint: Path
) -> None:
    before = results(photos)
    words = ("segment", *BOX, "--model", checkpoint, "--format", "png", "--out", photos)
    refuses("--out is the folder of pictures", *words, photos)
    assert results(photos) == before
    assert run(*words, photos / "a.jpg", photos / "ü b.png")[0] == 0
    after = results(photos)
    assert after.keys() - before.keys() == {"a.png", "ü b_png.png"}
    assert {name: after[name] for name in before} == before


def test_results_within_the_folder_of_pictures_are_no_pictures(
    run: Run, photos: Path, checkpoint: Path
) -> None:
    words = ("segment", photos, "-r", *BOX, "--model", checkpoint, "--out", photos / "out")
    assert counts(json.loads(run(*words)[1])) == (3, 0, 0)
    assert counts(json.loads(run(*words)[1])) == (0, 3, 0)


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
    (state / "run.json").write_text("{")
    status, _, stderr = segment(photos, *BOX)
    assert (status, "run.json is damaged" in stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("absent",), "No prompt was given"),
        (("absent", *BOX, "--format", "png"), "There is no file or folder absent"),
        (("photos",), "photos: no prompt was given"),
        (("photos", *BOX, "--format", "gif"), "invalid choice: 'gif'"),
        (("photos", *BOX, "--jobs", "0"), "expected a whole number from 1, got '0'"),
        (("photos", *BOX, "--tolerance", "-1"), "expected a number from 0, got '-1'"),
        (("photos", *BOX, "--kind", "mask"), "--kind is for a single photo"),
        (("photos/a.jpg", *BOX, "--jobs", "2", "--out", "x.png"), "--jobs is for many pictures"),
        (("photos", *BOX, "--polygons"), "--polygons is for --format coco; got png"),
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

"""Runs over many pictures: what is skipped, kept and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mobilesam.checkpoints import CHECKPOINTS
from mobilesam.files import sha256_of
from mobilesam.folders import jobs as jobs_module
from mobilesam.folders.inputs import Picture
from mobilesam.folders.outputs import Job, Output
from mobilesam.folders.run import Request
from mobilesam.folders.state import plan
from tests.conftest import Run
from tests.folders.results import BOX, Segment, counts, opened_coco, results
from tests.official_checkpoints import write_official_checkpoint

pytestmark = [
    pytest.mark.usefixtures("empty_machine"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # pycocotools' own
]


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


def test_overwriting_removes_nothing_before_it_can_make_it_anew(
    run: Run, segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, *BOX)
    before = results(tmp_path / "out")
    words = ("segment", photos, *BOX, "--out", tmp_path / "out", "--overwrite")
    for more in (("--model", "sam_vit_b"), ("--model", "embedded", "--device", "cuda:9")):
        status, _, stderr = run(*words, *more)
        assert status == 2, stderr
        assert results(tmp_path / "out") == before
    assert counts(segment(photos, *BOX)[1]) == (0, 2, 0)  # and it is still known how they were made


def test_overwriting_leaves_other_pictures_results_alone(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, *BOX)
    before = results(tmp_path / "out")
    one = (photos / "a.jpg", *BOX, "--format", "png", "--overwrite")
    status, _, stderr = segment(*one, "--name", "thing")
    assert status == 2
    assert "also holds 1 result of other pictures, made with name object, not thing" in stderr
    assert results(tmp_path / "out") == before
    assert counts(segment(*one)[1]) == (1, 0, 0)
    assert results(tmp_path / "out").keys() == before.keys()


def test_an_overwriting_run_that_was_cut_off_goes_on_without_it(
    segment: Segment, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(photos, *BOX, "--jobs", "1")
    work = jobs_module.Worker.__call__

    def stop_at_second(worker: jobs_module.Worker, job: Job) -> jobs_module.Outcome:
        if job.name != "a":
            raise KeyboardInterrupt
        return work(worker, job)

    with monkeypatch.context() as patch:
        patch.setattr(jobs_module.Worker, "__call__", stop_at_second)
        status, report, stderr = segment(photos, *BOX, "--jobs", "1", "--overwrite")
    assert (status, report["done"], report["unfinished"]) == (130, 1, 1)
    assert "the same command without --overwrite goes on from here" in stderr
    assert counts(segment(photos, *BOX, "--jobs", "1")[1]) == (1, 1, 0)


def test_a_photo_that_was_replaced_is_not_taken_for_finished(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, *BOX)
    (photos / "a.jpg").touch()
    assert counts(segment(photos, *BOX)[1]) == (0, 2, 0)  # newer, but the same
    Image.new("RGB", (120, 70), "red").save(photos / "a.jpg")
    before = results(tmp_path / "out")
    status, _, stderr = segment(photos, *BOX)
    assert status == 2
    assert "holds 1 results made with other photos of that name (as a.png)" in stderr
    assert results(tmp_path / "out") == before
    (tmp_path / "out" / "a.png").unlink()
    assert counts(segment(photos, *BOX)[1]) == (1, 1, 0)
    assert Image.open(tmp_path / "out" / "a.png").size == (120, 70)
    assert counts(segment(photos, *BOX)[1]) == (0, 2, 0)


def test_what_was_noted_before_photos_were_is_gone_on_with(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, *BOX)
    state = tmp_path / "out" / ".mobilesam" / "run.json"
    noted = json.loads(state.read_text())
    for entry in noted["pictures"].values():
        del entry["bytes"]
    state.write_text(json.dumps(noted))
    assert counts(segment(photos, *BOX)[1]) == (0, 2, 0)
    assert all("bytes" in one for one in json.loads(state.read_text())["pictures"].values())


def test_the_list_for_all_goes_with_results_of_another_format(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    segment(photos, *BOX, "--format", "coco")
    segment(photos, *BOX, "--format", "yolo", "--overwrite")
    assert results(tmp_path / "out").keys() == {"a.txt", "ü b.txt", "classes.txt"}
    segment(photos, *BOX, "--format", "labelme", "--overwrite")
    assert results(tmp_path / "out").keys() == {"a.json", "ü b.json"}


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_part_of_a_data_set_is_named(
    segment: Segment, photos: Path, tmp_path: Path, content: str
) -> None:
    words = (photos, *BOX, "--format", "coco")
    segment(*words)
    part = next((tmp_path / "out" / ".mobilesam" / "coco").rglob("*.json"))
    part.write_text(content)
    status, report, stderr = segment(*words)
    assert (status, report["failed"]) == (1, 0)
    assert f"{part} is damaged or cannot be read; delete it" in stderr
    part.unlink()
    assert segment(*words)[0] == 0


def test_results_in_a_folder_that_is_a_link_find_their_photos(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    real = tmp_path / "disk" / "deep" / "results"
    real.mkdir(parents=True)
    (tmp_path / "out").symlink_to(real)
    segment(photos, *BOX, "--format", "labelme")
    written = list(real.glob("*.json"))
    for path in written:
        assert (path.parent / json.loads(path.read_text())["imagePath"]).is_file()
    assert written
    shutil.rmtree(real)
    real.mkdir()
    segment(photos / "a.jpg", *BOX, "--format", "coco")
    status, report, stderr = segment(photos / "ü b.png", *BOX, "--format", "coco")
    assert status == 0
    assert "cannot be found" not in stderr
    assert {image["file_name"] for image in opened_coco(report).dataset["images"]} == {
        "a.jpg",
        "ü b.png",
    }


def test_photos_that_are_gone_from_a_data_set_are_told(segment: Segment, photos: Path) -> None:
    segment(photos, *BOX, "--format", "coco")
    (photos / "a.jpg").unlink()
    _, report, stderr = segment(photos, *BOX, "--format", "coco")
    assert len(opened_coco(report).imgs) == 2
    assert "still has 1 photo of earlier runs that cannot be found any more (as a.jpg)" in stderr
    Path(stderr.partition("their parts (as ")[2].partition(")")[0]).unlink()
    _, report, stderr = segment(photos, *BOX, "--format", "coco")
    assert (len(opened_coco(report).imgs), "earlier runs" in stderr) == (1, False)


@pytest.mark.parametrize("form", ["png", "coco"])
def test_a_result_is_not_in_the_way_of_a_folder(
    segment: Segment, tmp_path: Path, form: str
) -> None:
    suffix = "json" if form == "coco" else "png"
    for name in ("x.jpg", f"x.{suffix}/y.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), "red").save(path)
    words = (tmp_path / "in", "-r", "--box", "1,1,40,30", "--format", form)
    assert counts(segment(*words)[1]) == (2, 0, 0)
    assert counts(segment(*words)[1]) == (0, 2, 0)


def test_a_folder_that_a_result_is_in_the_way_of_is_told(segment: Segment, tmp_path: Path) -> None:
    path = tmp_path / "in" / "x.jpg"
    path.parent.mkdir()
    Image.new("RGB", (50, 40), "red").save(path)
    words = (tmp_path / "in", "-r", "--box", "1,1,40,30")
    assert segment(*words)[0] == 0
    (tmp_path / "in" / "x.png").mkdir()
    Image.new("RGB", (50, 40), "red").save(tmp_path / "in" / "x.png" / "y.jpg")
    status, _, stderr = segment(*words)
    assert status == 2
    assert "where that of another picture lies; choose another --out." in stderr


def test_one_data_set_has_the_pictures_of_all_runs(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (50, 40), "red").save(other / "a.jpg")
    box = ("--box", "1,1,40,30", "--format", "coco")
    segment(photos, *box)
    _, report, _ = segment(other, *box)
    names = sorted(image["file_name"] for image in opened_coco(report).imgs.values())
    assert names == ["other/a.jpg", f"{photos.name}/a.jpg", f"{photos.name}/ü b.png"]


def test_results_beside_the_pictures_are_no_pictures(
    run: Run, photos: Path, checkpoint: Path
) -> None:
    words = ("segment", photos / "*", *BOX, "--model", checkpoint, "--out", photos)
    assert counts(json.loads(run(*words)[1])) == (3, 0, 0)
    before = results(photos)
    assert counts(json.loads(run(*words)[1])) == (0, 3, 0)
    assert results(photos) == before
    status, _, stderr = run("segment", photos / "a.png", *words[2:], "--format", "png")
    assert (status, "are results of an earlier run" in stderr) == (2, True)


def test_pictures_without_a_folder_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_two_drives(paths: list[str]) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", on_two_drives)
    output = Output(tmp_path, "coco", False, 1.0, False, ("object",))
    pictures = [Picture(tmp_path / name / "x.jpg", tmp_path / name) for name in "ab"]
    assert [job.shown for job in plan(pictures, output, {}).jobs] == ["x.jpg", "x.jpg"]


def test_a_checkpoint_of_ones_own_under_an_official_name_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = CHECKPOINTS["mobile_sam"].sha256
    request = Request([], tmp_path / "out", "mobile_sam", "png")
    assert published.startswith(request.settings["weights"])  # before it is downloaded
    monkeypatch.setenv("MOBILESAM_CHECKPOINT_DIR", str(tmp_path))
    path = write_official_checkpoint("t", tmp_path)
    own = Request([], tmp_path / "out", "mobile_sam", "png").settings["weights"]
    assert sha256_of(path).startswith(own) and not published.startswith(own)


def test_results_of_weights_that_were_replaced_are_not_taken_for_finished(
    run: Run, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    common = (*BOX, "--model", path, "--out", tmp_path / "out", "--format", "coco")
    words = ("segment", photos, *common)
    assert run(*words)[0] == 0
    os.utime(path, (1, 1))
    assert counts(json.loads(run(*words)[1])) == (0, 2, 0)  # the same file, only older
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({name: 2 * value for name, value in load_file(path).items()}, path, metadata=metadata)
    status, _, stderr = run(*words, "-r")
    assert (status, "holds 2 results made with weights" in stderr) == (2, True)
    assert counts(json.loads(run(*words, "-r", "--overwrite")[1])) == (3, 0, 0)


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

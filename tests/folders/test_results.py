"""Runs over many pictures: what is written in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobilesam
from mobilesam.folders.outputs import SUFFIXES
from tests.conftest import Run
from tests.folders.results import BOX, Segment, counts, opened_coco, results

pytestmark = [
    pytest.mark.usefixtures("empty_machine"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # pycocotools' own
]


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
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\n"
    lines = (tmp_path / "out" / "a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]

    segment(photos / "prompts.csv", "--format", "png", "--overwrite")
    numbers = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    first = expected_mask(checkpoint, photos / "a.jpg", points=[(20, 30)])
    second = expected_mask(checkpoint, photos / "a.jpg", points=[(10, 10), (70, 50)], labels=[1, 0])
    large, small = (1, 2) if first.sum() >= second.sum() else (2, 1)
    expected = np.where(first if large == 1 else second, large, 0)
    expected[first if small == 1 else second] = small
    np.testing.assert_array_equal(numbers, expected)


def test_a_name_of_several_lines_takes_one_line_of_yolos_classes(
    segment: Segment, photos: Path, tmp_path: Path
) -> None:
    rows = 'path,x,y,name\na.jpg,20,30,"rac\ncoon"\na.jpg,50,30,\nü b.png,5,5,dog\n'
    (photos / "t.csv").write_text(rows)
    assert segment(photos / "t.csv", "--format", "yolo", "--name", "my\tthing ")[0] == 0
    classes = (tmp_path / "out" / "classes.txt").read_text()
    assert classes == "rac coon\nmy thing\ndog\n"
    assert (tmp_path / "out" / "ü b.txt").read_text().startswith("2 ")


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

"""``segment`` with one photo: steps, choices, refinement and every kind of file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mobilesam import Predictor
from mobilesam.photo_exports import KINDS, NEEDS_PHOTO
from mobilesam.photo_options import NAMED_KINDS, SOFT_KINDS, SUFFIXES
from mobilesam.refinement import Refinement
from mobilesam.steps import predict_steps
from tests.conftest import Run

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "raccoon.jpg"
CLICKS = ("--point", "620,300", "--point", "480.5,420", "--point", "100,100,0")
POINTS, LABELS = [(620, 300), (480.5, 420), (100, 100)], [1, 1, 0]
REFINED = ("--min-area", "400", "--smooth", "2.5", "--feather", "3")

pytestmark = [
    pytest.mark.usefixtures("empty_machine"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # pycocotools' own
]


@pytest.fixture
def segment(run: Run, tmp_path: Path) -> Callable[..., tuple[dict, Path]]:
    """Segment the photo with the model that ships: what was reported, and the file."""

    def run_segment(name: str, *words: str) -> tuple[dict, Path]:
        out = tmp_path / name
        common = ("segment", PHOTO, "--model", "embedded", "--out", out)
        status, stdout, stderr = run(*common, *words)
        assert (status, stderr) == (0, "")
        return json.loads(stdout), out

    return run_segment


def test_the_mask_is_that_of_the_steps_refined(
    segment: Callable[..., tuple[dict, Path]], embedded: Predictor
) -> None:
    steps = ("--steps", "1,2,3", "--choices", "2,best,3")
    report, out = segment("x.png", *CLICKS, *steps, *REFINED)
    embedding = embedded.encode(PHOTO)
    expected = predict_steps(embedded, embedding, POINTS, LABELS, choices=[2, None, 3])
    refinement = Refinement(400, 2.5, 3)
    mask = refinement.mask(expected.mask(3))
    assert (mask != expected.mask(3)).any()
    np.testing.assert_array_equal(np.asarray(Image.open(out)), refinement.alpha(mask))
    assert report["scores"] == [round(float(score), 4) for score in expected.iou_predictions]
    assert (report["best"], report["choice"], report["area"]) == (0, 3, mask.sum())
    at_once, out = segment("y.png", *CLICKS)
    whole = embedded.predict(embedding, POINTS, LABELS).mask(0)
    np.testing.assert_array_equal(np.asarray(Image.open(out)) == 255, whole)
    assert at_once["area"] != report["area"]


def test_every_kind_of_file(segment: Callable[..., tuple[dict, Path]]) -> None:
    assert tuple(SUFFIXES) and set(SUFFIXES) == set(KINDS)
    assert set(NEEDS_PHOTO) <= {*SOFT_KINDS}
    box = ("--box", "395,20,940,480", "--steps", "0", "--smooth", "3")
    named = (*box, "--name", "raccoon")
    report, out = segment("x.mask.png", *box)
    mask = np.asarray(Image.open(out)) == 255
    assert report["area"] == mask.sum()
    for name, kind in (("x.cutout.png", "cutout"), ("x.overlay.png", "overlay")):
        assert segment(name, *box)[0]["kind"] == kind
    _, out = segment("x.indexed.png", *box)
    np.testing.assert_array_equal(np.asarray(Image.open(out)) == 1, mask)
    _, out = segment("x.coco.json", *named)
    coco = json.loads(out.read_text())
    np.testing.assert_array_equal(coco_mask.decode(coco["annotations"][0]["rle"]) == 1, mask)
    assert coco["annotations"][0]["score"] == report["scores"][0]
    assert coco["categories"][0]["name"] == "raccoon"
    _, out = segment("raccoon.json", *named, "--kind", "labelme")
    labelme = json.loads(out.read_text())
    assert (out.parent / labelme["imagePath"]).resolve() == PHOTO
    assert {shape["label"] for shape in labelme["shapes"]} == {"raccoon"}
    deep = out.parent / "some" / "where"
    deep.mkdir(parents=True)
    (out.parent / "link").symlink_to(deep)
    _, out = segment("link/raccoon.json", *named, "--kind", "labelme")
    assert (deep / json.loads(out.read_text())["imagePath"]).resolve() == PHOTO
    _, out = segment("x.txt", *named)
    assert out.read_text().startswith("0 0.")
    _, out = segment("x.SVG", *named)
    assert [path[0].text for path in ElementTree.parse(out).getroot()] == ["raccoon"]
    report, out = segment("x.zip", *named, "--feather", "2")
    with zipfile.ZipFile(out) as archive:
        assert "raccoon-mask.png" in archive.namelist()
        assert archive.read("yolo/classes.txt") == b"raccoon\n"
        with archive.open("raccoon-mask.png") as file:
            assert len(np.unique(np.asarray(Image.open(file)))) > 100
    assert (report["kind"], {*NAMED_KINDS, *SOFT_KINDS, "indexed"}) == ("zip", set(KINDS))


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("x.png", ("--steps", "1,2"), "the first at least 1 and the last 3"),
        ("x.png", ("--steps", "1,x"), "expected whole numbers as in 1,2,4, got '1,x'"),
        ("x.png", ("--steps", ""), "expected whole numbers"),
        ("x.png", ("--choices", "1,2"), "choices must have one value for each of the 1 steps"),
        ("x.png", ("--choices=-1",), "expected candidates as in best,2, got '-1'"),
        ("x.png", ("--steps", "1,3", "--choices", "3,0"), "The choice of step 1 must be 0 to 2"),
        ("x.png", ("--min-area", "-4"), "min_area must be a whole number of pixels from 0"),
        ("x.png", ("--smooth", "51"), "smooth must be 0 to 50 pixels; got 51"),
        ("x.png", ("--feather", "nan"), "feather must be 0 to 50 pixels; got nan"),
        ("x.png", ("--name", "dog"), "--name is for coco, labelme, yolo, svg, zip; mask cannot"),
        ("x.svg", ("--feather", "2"), "--feather is for mask, cutout, overlay, zip; svg cannot"),
        ("x.json", (), "may be COCO's or LabelMe's; add --kind coco or --kind labelme"),
        ("x.png", ("--kind", "svg"), "--kind svg makes a file that ends in .svg; got"),
        ("x.tif", (), "must be a file that ends in .png, .json, .txt, .svg or .zip; got"),
        ("x.png", ("--polygons",), "--polygons is for many pictures"),
        ("x.svg", ("--tolerance", "0"), "--tolerance is for many pictures"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_loaded(
    refuses: Callable[..., None], tmp_path: Path, name: str, words: tuple[str, ...], expected: str
) -> None:
    common = ("segment", PHOTO, *CLICKS, "--model", "nothing", "--out", tmp_path / name)
    refuses(expected, *common, *words)
    assert not any(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    "words",
    [
        ("--steps", "1"),
        ("--choices", "0"),
        ("--min-area", "0"),
        ("--smooth", "1"),
        ("--kind", "svg"),
    ],
)
def test_what_is_for_one_photo_is_refused_for_many(
    refuses: Callable[..., None], tmp_path: Path, words: tuple[str, ...]
) -> None:
    common = ("segment", PHOTO, "--point", "620,300", "--format", "png", "--out", tmp_path / "x")
    refuses(f"{words[0]} is for a single photo", *common, *words)

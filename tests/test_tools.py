"""The example programs in examples/tools, run as they are meant to be."""

from __future__ import annotations

import json
import runpy
import shutil
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from examples.tools import boxes_to_masks, labelme_folder
from mobilesam import Predictor
from mobilesam.masks import mask_iou
from tests.conftest import disk_photo

EXAMPLES = Path(__file__).parents[1] / "examples"
TOOLS = EXAMPLES / "tools"
RACCOON_BOX = [395.0, 20.0, 940.0, 480.0]

pytestmark = [
    pytest.mark.usefixtures("empty_machine"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # pycocotools' own
]


def read_as_labelme(path: Path) -> dict[str, Any]:
    """Read an annotation file as strictly as LabelMe 5 does (labelme/_label_file.py)."""
    data = json.loads(path.read_text(encoding="utf-8"))
    assert {"version", "imageData", "imagePath", "shapes", "flags"} <= data.keys()
    assert isinstance(data["version"], str)
    assert data["imageData"] is None  # then the picture is opened, seen from the JSON's folder
    assert "\\" not in data["imagePath"]
    with Image.open(path.parent / data["imagePath"]) as picture:
        assert (data["imageHeight"], data["imageWidth"]) == picture.size[::-1]
    assert data["flags"] == {}
    for shape in data["shapes"]:
        assert isinstance(shape["label"], str)
        assert shape["shape_type"] == "polygon"
        assert len(shape["points"]) >= 3
        for point in shape["points"]:
            assert isinstance(point, list)
            assert len(point) == 2
            assert all(isinstance(value, Real) for value in point)
        assert shape["flags"] == {}
        assert shape["group_id"] is None or isinstance(shape["group_id"], int)
        assert shape.get("description") is None
        assert shape.get("mask") is None
    return data


def drawn(shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Paint a polygon of a LabelMe file, as its own converters do."""
    canvas = Image.new("1", size[::-1])
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in shape["points"]], fill=1)
    return np.array(canvas)


def test_a_folder_for_labelme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, disk = disk_photo(240, 320, (150, 110), 70)
    Image.fromarray(photo).save(tmp_path / "a diské.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "mine.jpg").write_bytes((EXAMPLES / "cat.jpg").read_bytes())
    (tmp_path / "mine.json").write_text("by hand")
    (tmp_path / "notes.txt").write_text("left out")

    words = [str(tmp_path), "--model", "embedded", "--label", "disk", "--points-per-side", "4"]
    assert labelme_folder.main(words) == 1  # a photo failed

    out, err = capsys.readouterr()
    assert out.count("polygons") == 1
    assert "broken.jpg is not a picture" in err
    assert "mine.json is there already" in err
    assert (tmp_path / "mine.json").read_text() == "by hand"
    data = read_as_labelme(tmp_path / "a diské.json")
    assert data["imagePath"] == "a diské.png"
    assert {shape["label"] for shape in data["shapes"]} == {"disk"}
    assert max(mask_iou(drawn(shape, disk.shape), disk) for shape in data["shapes"]) > 0.9
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("a diské.png", "a diské.json", "broken.jpg", "mine.jpg", "mine.json", "notes.txt")
    }
    (tmp_path / "broken.jpg").unlink()
    assert labelme_folder.main(words) == 0

    (tmp_path / "a diské.json").unlink()
    Image.fromarray(photo[:120]).save(tmp_path / "a diské.webp")
    assert labelme_folder.main(words) == 1
    err = capsys.readouterr().err
    assert "a diské.webp: " in err and "a diské.json is there already" in err


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """What a detector found in two photos: one box reaches beyond its photo, one has no score."""
    for name in ("raccoon.jpg", "cat.jpg"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    path = tmp_path / "boxes.json"
    found = {
        "raccoon.jpg": {
            "boxes": [RACCOON_BOX, [-0.4, 300, 300.5, 768.7]],
            "labels": ["raccoon", "leaf"],
            "scores": [0.9, 0.25],
        },
        "cat.jpg": {"boxes": [[10, 10, 440, 290]]},
    }
    path.write_text(json.dumps(found))
    return path


def test_boxes_of_a_detector(
    boxes: Path, tmp_path: Path, embedded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, calls = tmp_path / "masks.json", []
    predict = Predictor.predict

    def counting(*args: Any, **prompt: Any) -> Any:
        calls.append(prompt)
        return predict(*args, **prompt)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", counting)
        assert boxes_to_masks.main([str(boxes), "--out", str(out), "--model", "embedded"]) == 0
    assert len(calls) == 2  # one for each photo

    coco = COCO(str(out))
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    (raccoon_id,) = [id for id, image in coco.imgs.items() if image["file_name"] == "raccoon.jpg"]
    assert coco.imgs[raccoon_id]["height"] == 768
    first, second = coco.imgToAnns[raccoon_id]
    assert [names[one["category_id"]] for one in (first, second)] == ["raccoon", "leaf"]
    assert [first["score"], second["score"]] == [0.9, 0.25]
    embedding = embedded.encode(EXAMPLES / "raccoon.jpg")
    for annotation, box in ((first, RACCOON_BOX), (second, [0, 300, 300.5, 768])):
        alone = embedded.predict(embedding, box=box)
        assert mask_iou(coco.annToMask(annotation).astype(bool), alone.mask(0)) > 0.999
    (cat,) = [one for one in coco.anns.values() if one["image_id"] != raccoon_id]
    assert names[cat["category_id"]] == "object"
    assert cat["area"] > 0.2 * 300 * 451
    assert 0 < cat["score"] < 1  # the model's own estimate


def test_what_is_wrong_with_boxes_is_told(
    boxes: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "gone.jpg": {"boxes": [[0, 0, 5, 5]]},
        "cat.jpg": {"boxes": [[10, 10, 440, 290]], "labels": ["cat", "dog"]},
        "raccoon.jpg": {"labels": ["raccoon"]},
        "bare.jpg": [[0, 0, 5, 5]],
        "./raccoon.jpg": {"boxes": ["left", "top", "right", "bottom"]},
        "./cat.jpg": {"boxes": []},
        "../" + tmp_path.name + "/cat.jpg": {"boxes": [[500, 10, 600, 290]]},
    }
    boxes.write_text(json.dumps(found))
    out = tmp_path / "masks.json"
    words = ["--out", str(out), "--model", str(checkpoint)]
    assert boxes_to_masks.main([str(boxes), *words]) == 1
    err = capsys.readouterr().err
    assert "gone.jpg: There is no file" in err
    assert "cat.jpg: boxes, labels and scores must be as many; got 1, 2 and 1." in err
    assert "raccoon.jpg: expected a dict with boxes, labels and scores; got {'labels'" in err
    assert "bare.jpg: expected a dict with boxes, labels and scores; got [[0, 0, 5, 5]]." in err
    assert "./raccoon.jpg: " in err
    assert "A box must be (x0, y0, x1, y1) with x1 > x0" in err
    coco = COCO(str(out))
    assert [image["file_name"] for image in coco.imgs.values()] == ["./cat.jpg"]
    assert coco.anns == {}
    with pytest.raises(SystemExit, match="2"):
        boxes_to_masks.main([str(tmp_path / "none.json"), *words])
    assert "none.json" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        boxes_to_masks.main([str(boxes), "--out", str(tmp_path / "none" / "masks.json")])
    assert "none does not exist; create it first" in capsys.readouterr().err
    boxes.write_text(json.dumps(list(found)))
    with pytest.raises(SystemExit, match="2"):
        boxes_to_masks.main([str(boxes), *words])
    assert "must map photos to boxes; got ['gone.jpg'" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(TOOLS.glob("*.py")), ids=lambda path: path.name)
def test_tools_are_small_programs(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 80
    assert f"    python -m examples.tools.{path.stem} " in text  # works without an installation
    monkeypatch.setattr("sys.argv", [str(path), "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(path), run_name="__main__")
    assert "usage:" in capsys.readouterr().out

"""What is written, read again by the programs it is written for."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mobilesam import exporting, rendering
from mobilesam.exporting import ObjectMask

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own

SIZE = 60, 80  # height, width


def disk(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def in_two_parts_with_a_hole() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:50, 10:50] = True
    mask[15:40, 20:30] = False
    mask[45:58, 60:75] = True
    return mask


MASKS = {
    "disk": disk(40, 30, 25),
    "small": disk(12.4, 9.8, 2.2),
    "two parts": in_two_parts_with_a_hole(),
    "thin": np.abs(np.subtract.outer(np.arange(SIZE[0]), np.arange(SIZE[1]))) <= 1,
    "all": np.ones(SIZE, bool),
}
OBJECTS = [
    ObjectMask.from_mask(mask, name, score=0.5 + number / 10)
    for number, (name, mask) in enumerate(MASKS.items())
]
EMPTY = ObjectMask.from_mask(np.zeros(SIZE, bool), "disk", 0.1)


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def opened_with_pycocotools(dataset: dict[str, Any], folder: Path) -> COCO:
    path = folder / "annotations.json"
    path.write_text(json.dumps(dataset))
    return COCO(path)


def test_a_mask_png_is_black_and_white() -> None:
    picture = opened(exporting.mask_png(MASKS["disk"]))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), np.where(MASKS["disk"], 255, 0))


def test_a_cut_out_png_has_the_mask_for_alpha() -> None:
    image = photo()
    pixels = np.asarray(opened(exporting.cut_out_png(image, MASKS["disk"])))
    np.testing.assert_array_equal(pixels[..., 3], np.where(MASKS["disk"], 255, 0))
    np.testing.assert_array_equal(pixels[MASKS["disk"]][:, :3], image[MASKS["disk"]])


def test_an_overlay_png_shows_all_objects_the_smaller_ones_on_top() -> None:
    image = photo()
    large, small = MASKS["disk"], disk(40, 30, 5)
    objects = [ObjectMask.from_mask(small), ObjectMask.from_mask(large)]
    pixels = np.asarray(opened(exporting.overlay_png(image, objects)))
    np.testing.assert_array_equal(pixels[~large], image[~large])
    for index, mask in enumerate((small, large)):
        edge = rendering.outline(mask)
        assert (pixels[edge] == exporting.object_color(index)).all()


def test_an_indexed_png_has_the_objects_numbers_and_colors() -> None:
    picture = opened(exporting.indexed_png(OBJECTS[:3], SIZE))
    assert (picture.mode, picture.size) == ("P", SIZE[::-1])
    expected = np.zeros(SIZE, int)
    for name, number in (("disk", 1), ("two parts", 3), ("small", 2)):  # from large to small
        assert MASKS["disk"].sum() > MASKS["two parts"].sum() > MASKS["small"].sum()
        expected[MASKS[name]] = number
    np.testing.assert_array_equal(np.asarray(picture), expected)
    colors = np.asarray(picture.convert("RGB"))
    assert (colors[expected == 0] == 0).all()
    for number in (1, 2, 3):
        assert (colors[expected == number] == exporting.object_color(number - 1)).all()


@pytest.mark.parametrize(("count", "mode"), [(0, "P"), (255, "P"), (256, "I;16")])
def test_an_indexed_png_takes_any_number_of_objects(count: int, mode: str) -> None:
    numbers = np.arange(count + 1).reshape(1, -1)
    objects = [ObjectMask.from_mask(numbers == number) for number in range(1, count + 1)]
    picture = opened(exporting.indexed_png(objects, numbers.shape))
    assert picture.mode == mode
    np.testing.assert_array_equal(np.asarray(picture), numbers)


def test_the_colors_of_objects_differ_from_one_another_and_from_the_ground() -> None:
    colors = [exporting.object_color(index) for index in range(exporting.PALETTE_SIZE)]
    assert len(set(colors)) == len(colors)
    assert (0, 0, 0) not in colors
    assert all(0 <= value <= 255 for color in colors for value in color)


def test_coco_run_lengths_are_the_masks_in_pycocotools(tmp_path: Path) -> None:
    pictures = [
        exporting.coco_picture("ä b/one.jpg", SIZE, OBJECTS[:2]),
        exporting.coco_picture("two.jpg", SIZE, [*OBJECTS[2:], EMPTY]),
    ]
    dataset = exporting.coco_dataset(pictures, list(MASKS))
    read = opened_with_pycocotools(dataset, tmp_path)
    assert [image["file_name"] for image in read.loadImgs([1, 2])] == ["ä b/one.jpg", "two.jpg"]
    assert [(image["height"], image["width"]) for image in read.loadImgs([1, 2])] == [SIZE, SIZE]
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == list(MASKS)
    assert len(read.getAnnIds(imgIds=1)) == 2
    annotations = read.loadAnns(read.getAnnIds())
    assert len(annotations) == 6
    for annotation, item in zip(annotations, [*OBJECTS, EMPTY], strict=True):
        np.testing.assert_array_equal(read.annToMask(annotation).astype(bool), item.mask())
        rle = read.annToRLE(annotation)
        assert annotation["area"] == coco_mask.area(rle) == item.area
        np.testing.assert_array_equal(annotation["bbox"], coco_mask.toBbox(rle))
        assert read.loadCats(annotation["category_id"])[0]["name"] == item.name
        assert annotation["score"] == pytest.approx(item.score)
        assert annotation["iscrowd"] == 0


def test_coco_polygons_agree_with_the_masks_in_pycocotools(tmp_path: Path) -> None:
    for tolerance, least in ((0, 1.0), (1.0, 0.99)):
        picture = exporting.coco_picture(
            "one.jpg", SIZE, [*OBJECTS, EMPTY], polygons=True, tolerance=tolerance
        )
        read = opened_with_pycocotools(exporting.coco_dataset([picture], list(MASKS)), tmp_path)
        *annotations, empty = read.loadAnns(read.getAnnIds())
        for annotation, mask in zip(annotations, MASKS.values(), strict=True):
            assert isinstance(annotation["segmentation"], list)
            assert iou(read.annToMask(annotation).astype(bool), mask) >= least
            assert annotation["area"] == mask.sum()
        assert not read.annToMask(empty).any()
        assert len(annotations[2]["segmentation"]) == 2


def test_cocos_annotations_are_results_for_its_evaluation(tmp_path: Path) -> None:
    picture = exporting.coco_picture("one.jpg", SIZE, OBJECTS)
    dataset = exporting.coco_dataset([picture], list(MASKS))
    read = opened_with_pycocotools(dataset, tmp_path)
    results = read.loadRes(dataset["annotations"])
    assert [result["score"] for result in results.loadAnns(results.getAnnIds())] == pytest.approx(
        [item.score for item in OBJECTS]
    )


def read_like_labelme(shape: dict[str, Any]) -> np.ndarray:
    """Fill a LabelMe polygon on a raster of twice the size, border excluded as far as it can be."""
    assert shape["shape_type"] == "polygon"
    picture = Image.new("1", (SIZE[1] * 8, SIZE[0] * 8))
    ImageDraw.Draw(picture).polygon(
        [(8 * x - 0.5, 8 * y - 0.5) for x, y in shape["points"]], fill=1
    )
    return np.asarray(picture).reshape(SIZE[0], 8, SIZE[1], 8).mean(axis=(1, 3)) > 0.5


def test_labelme_polygons_agree_with_the_masks() -> None:
    data = json.loads(json.dumps(exporting.labelme([*OBJECTS, EMPTY], "../dog.jpg", SIZE)))
    assert data["imagePath"] == "../dog.jpg"
    assert data["imageData"] is None
    assert (data["imageHeight"], data["imageWidth"]) == SIZE
    assert data["flags"] == {}
    assert isinstance(data["version"], str)
    for item in OBJECTS:
        shapes = [shape for shape in data["shapes"] if shape["label"] == item.name]
        filled = np.any([read_like_labelme(shape) for shape in shapes], axis=0)
        assert iou(filled, item.mask()) >= 0.99, item.name
        for shape in shapes:
            assert {"label", "points", "group_id", "shape_type", "flags"} <= shape.keys()
            assert shape["score"] == pytest.approx(item.score)
            assert len(shape["points"]) >= 3
        groups = {shape["group_id"] for shape in shapes}
        if item.name == "two parts":
            assert len(shapes) == 2
            assert groups == {3}
        else:
            assert len(shapes) == 1
            assert groups == {None}


def test_yolo_lines_agree_with_the_masks() -> None:
    text = exporting.yolo_seg([*OBJECTS, EMPTY], list(MASKS))
    lines = text.splitlines()
    assert len(lines) == len(OBJECTS)
    for place, (line, mask) in enumerate(zip(lines, MASKS.values(), strict=True)):
        number, *shares = line.split()
        assert int(number) == place
        xy = np.array(shares, float).reshape(-1, 2)
        assert xy.min() >= 0
        assert xy.max() <= 1
        outline = (xy * SIZE[::-1]).ravel().tolist()
        filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([outline], *SIZE)))
        assert iou(filled.astype(bool), mask) >= 0.99
    assert exporting.yolo_seg([EMPTY], ["disk"]) == ""


def test_objects_without_a_name_or_a_score_are_exported_as_well() -> None:
    item = ObjectMask.from_mask(MASKS["disk"])
    (shape,) = exporting.labelme([item], "x.png", SIZE)["shapes"]
    assert shape["label"] == "object"
    assert "score" not in shape
    assert exporting.yolo_seg([item]).startswith("0 ")
    dataset = exporting.coco_dataset([exporting.coco_picture("x.png", SIZE, [item])])
    assert dataset["categories"][0]["name"] == "object"
    assert "score" not in dataset["annotations"][0]
    assert exporting.coco_dataset([])["images"] == []


def test_bad_input_is_refused() -> None:
    item = OBJECTS[0]
    with pytest.raises(ValueError, match=r"size \(60, 80\) is not the picture's \(80, 60\)"):
        exporting.indexed_png([item], (80, 60))
    with pytest.raises(ValueError, match=r"size \(60, 80\) is not the picture's \(61, 80\)"):
        exporting.labelme([item], "x.png", (61, 80))
    with pytest.raises(ValueError, match=r"size \(60, 80\) is not the picture's \(60, 81\)"):
        exporting.coco_picture("x.png", (60, 81), [item])
    with pytest.raises(ValueError, match="'disk' is not among the classes cat"):
        exporting.yolo_seg([item], ["cat"])
    with pytest.raises(ValueError, match="'disk' is not among the categories cat"):
        exporting.coco_dataset([exporting.coco_picture("x.png", SIZE, [item])], ["cat"])
    with pytest.raises(ValueError, match="at most 65535 objects; got 65536"):
        exporting.indexed_png([item] * 65536, SIZE)

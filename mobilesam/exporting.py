"""Masks as the files other programs read: PNG, COCO, LabelMe, YOLO.

Pure functions from masks to bytes, text or dicts fit for ``json.dumps``. Masks travel as run
lengths, so that hundreds of a large photo fit into memory; each is decoded when its turn comes.

Coordinates are pixels with (0, 0) at the picture's top left corner, as ``polygons`` explains. This
is how COCO and pycocotools, LabelMe's canvas and YOLO understand them. Programs that draw a
polygon's border on top of its inside, as LabelMe's own converters do, get up to half a pixel more
along it.
"""

from __future__ import annotations

import colorsys
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from mobilesam import rle as run_lengths
from mobilesam.masks import mask_to_box
from mobilesam.polygons import TOLERANCE, join, mask_to_parts
from mobilesam.rendering import (
    DODGER_BLUE,
    PNG_COMPRESS_LEVEL,
    Color,
    cut_out,
    mask_image,
    overlay,
    png_bytes,
)

Size = tuple[int, int]  # height, width
OBJECT = "object"  # what an object without a name is called
PALETTE_SIZE = 255  # objects that an 8-bit picture can tell apart, beside the ground
GOLDEN_RATIO = 0.618034  # of the color circle: neighbours in the list are far apart on it
COLORS: tuple[Color, ...] = (  # told apart by red-green-blind eyes, too
    DODGER_BLUE,
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (86, 180, 233),
    (213, 94, 0),
)
LABELME_VERSION = "5.5.0"  # of the layout of its files


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """One object of a picture.

    Attributes:
        rle: Its mask as uncompressed run lengths, see ``mobilesam.rle``.
        name: What it is; COCO's category, LabelMe's label, YOLO's class.
        score: How good the model thinks the mask is, 0 to 1; None if nobody said.
    """

    rle: Mapping[str, Any]
    name: str = OBJECT
    score: float | None = None

    @classmethod
    def from_mask(
        cls, mask: np.ndarray, name: str = OBJECT, score: float | None = None
    ) -> ObjectMask:
        """Make one from an (H, W) bool mask."""
        return cls(run_lengths.encode(mask), name, score)

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return run_lengths.area(self.rle)

    def mask(self) -> np.ndarray:
        """Return its (H, W) bool mask."""
        return run_lengths.decode(self.rle)


def object_color(index: int) -> Color:
    """Return the color of a picture's object number ``index``, from 0; the same every time."""
    if index < len(COLORS):
        return COLORS[index]
    turn = index - len(COLORS)
    red, green, blue = colorsys.hsv_to_rgb(turn * GOLDEN_RATIO % 1, 0.85 - turn % 3 * 0.2, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def mask_png(mask: np.ndarray) -> bytes:
    """Return an (H, W) bool mask as a grey PNG, 255 inside and 0 outside."""
    return png_bytes(mask_image(mask))


def cut_out_png(image: np.ndarray, mask: np.ndarray) -> bytes:
    """Return the masked part of an (H, W, 3) uint8 photo as a PNG with a transparent ground."""
    return png_bytes(cut_out(image, mask))


def overlay_png(image: np.ndarray, objects: Sequence[ObjectMask]) -> bytes:
    """Return an (H, W, 3) uint8 photo with all objects laid over it, each in its color, as PNG."""
    for index in _large_first(objects):
        image = overlay(image, objects[index].mask(), color=object_color(index))
    return png_bytes(image)


def indexed_png(objects: Sequence[ObjectMask], size: Size) -> bytes:
    """Return all masks in one PNG: pixels are 0 on the ground and k in the k-th object.

    Where objects overlap, the smaller one is seen. Up to 255 objects make a palette picture, which
    shows their colors; more make a grey one of 16 bits.

    Args:
        objects: Of one picture, in the order of their numbers.
        size: The picture's (height, width).

    Raises:
        ValueError: A mask has another size, or there are more than 65535.
    """
    if len(objects) >= 2**16:
        raise ValueError(f"One PNG can number at most 65535 objects; got {len(objects)}.")
    numbers = np.zeros(size, np.uint8 if len(objects) <= PALETTE_SIZE else np.uint16)
    for index in _large_first(objects):
        _check_size(objects[index], size)
        numbers[objects[index].mask()] = index + 1
    picture = Image.fromarray(numbers)
    if numbers.dtype == np.uint8:
        picture = Image.frombytes("P", size[::-1], numbers.tobytes())
        colors = [object_color(index) for index in range(len(objects))]
        picture.putpalette([value for color in [(0, 0, 0), *colors] for value in color])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=PNG_COMPRESS_LEVEL)
    return buffer.getvalue()


def coco_annotation(
    item: ObjectMask, *, polygons: bool = False, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Return one object in COCO's words, without the numbers of image, category and itself.

    Args:
        item: The object.
        polygons: Write its outline instead of compressed run lengths: one polygon for each part,
            with holes joined to it. An object without pixels has run lengths all the same.
        tolerance: Of the outline, pixels; see ``polygons.mask_to_parts``.

    Returns:
        ``category`` (the name), ``segmentation``, ``area`` in pixels, ``bbox`` XYWH, ``iscrowd``
        and, where there is one, ``score``.
    """
    mask = item.mask()
    x0, y0, x1, y1 = mask_to_box(mask)
    segmentation: Any = run_lengths.compress(item.rle)
    if polygons and mask.any():
        parts = mask_to_parts(mask, tolerance)
        segmentation = [np.round(join(part.rings), 1).ravel().tolist() for part in parts]
    annotation = {
        "category": item.name,
        "segmentation": segmentation,
        "area": int(np.count_nonzero(mask)),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": 0,
    }
    return annotation | _score(item)


def coco_picture(
    file_name: str,
    size: Size,
    objects: Iterable[ObjectMask],
    *,
    polygons: bool = False,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Return one picture with its annotations, to be put together by ``coco_dataset``."""
    annotations = []
    for item in objects:
        _check_size(item, size)
        annotations.append(coco_annotation(item, polygons=polygons, tolerance=tolerance))
    return {
        "file_name": file_name,
        "height": size[0],
        "width": size[1],
        "annotations": annotations,
    }


def coco_dataset(
    pictures: Sequence[Mapping[str, Any]], categories: Sequence[str] = (OBJECT,)
) -> dict[str, Any]:
    """Return a COCO data set, as pycocotools opens it.

    Its list of annotations is also what ``COCO.loadRes`` takes, if all have a score.

    Args:
        pictures: From ``coco_picture``.
        categories: Names; their ids are their places, from 1.

    Raises:
        ValueError: An object's name is not among the categories.
    """
    return json.loads("".join(coco_json(lambda: pictures, categories)))


def coco_json(
    pictures: Callable[[], Iterable[Mapping[str, Any]]], categories: Sequence[str]
) -> Iterator[str]:
    """Yield a COCO data set's JSON piece by piece, so that one larger than memory can be written.

    Args:
        pictures: Gives the pictures, one after the other; called twice.
        categories: As in ``coco_dataset``.
    """
    ids = {name: number for number, name in enumerate(categories, 1)}
    yield '{"images": ['
    for number, picture in enumerate(pictures(), 1):
        image = {key: picture[key] for key in ("file_name", "height", "width")}
        yield ("" if number == 1 else ",") + "\n" + json.dumps({"id": number, **image})
    yield '\n], "annotations": ['
    numbers = count(1)
    for image_id, picture in enumerate(pictures(), 1):
        for annotation in picture["annotations"]:
            rest = dict(annotation)
            name = rest.pop("category")
            if name not in ids:
                known = ", ".join(categories)
                raise ValueError(f"{name!r} is not among the categories {known}; add it to them.")
            places = {"id": next(numbers), "image_id": image_id, "category_id": ids[name]}
            yield ("" if places["id"] == 1 else ",") + "\n" + json.dumps(places | rest)
    named = [{"id": number, "name": name, "supercategory": OBJECT} for name, number in ids.items()]
    yield f'\n], "categories": {json.dumps(named)}}}\n'


def labelme(
    objects: Iterable[ObjectMask], image_path: str, size: Size, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Return what LabelMe and AnyLabeling open as the annotations of a picture.

    Each part of an object is a polygon, with holes joined to it by bridges of no width; the parts
    of an object of several share a ``group_id``. An object without pixels has no polygon.

    Args:
        objects: Of one picture.
        image_path: Of the picture, seen from the JSON's folder, with forward slashes.
        size: The picture's (height, width), upright as LabelMe shows it.
        tolerance: Of the outlines, pixels; see ``polygons.mask_to_parts``.
    """
    shapes = []
    for number, item in enumerate(objects, 1):
        _check_size(item, size)
        parts = mask_to_parts(item.mask(), tolerance)
        for part in parts:
            shape = {
                "label": item.name,
                "points": np.round(join(part.rings), 1).tolist(),
                "group_id": number if len(parts) > 1 else None,
                "shape_type": "polygon",
                "flags": {},
            }
            shapes.append(shape | _score(item))
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def yolo_seg(
    objects: Iterable[ObjectMask],
    classes: Sequence[str] = (OBJECT,),
    tolerance: float = TOLERANCE,
) -> str:
    """Return a picture's YOLO segmentation labels: a line ``class x y x y ...`` for each object.

    x and y are shares of width and height. The format has one outline per object, so parts and
    holes are joined into one by bridges of no width. An object without pixels has no line.

    Args:
        objects: Of one picture.
        classes: Names; the number written is a name's place, from 0.
        tolerance: Of the outline, pixels; see ``polygons.mask_to_parts``.

    Raises:
        ValueError: An object's name is not among the classes.
    """
    lines = []
    for item in objects:
        if item.name not in classes:
            known = ", ".join(classes)
            raise ValueError(f"{item.name!r} is not among the classes {known}; add it to them.")
        mask = item.mask()
        rings = [ring for part in mask_to_parts(mask, tolerance) for ring in part.rings]
        if not rings:
            continue
        shares = join(rings) / (mask.shape[1], mask.shape[0])
        numbers = " ".join(f"{share:.6f}" for share in shares.ravel())
        lines.append(f"{classes.index(item.name)} {numbers}\n")
    return "".join(lines)


def _large_first(objects: Sequence[ObjectMask]) -> list[int]:
    return sorted(range(len(objects)), key=lambda index: -objects[index].area)


def _score(item: ObjectMask) -> dict[str, float]:
    return {} if item.score is None else {"score": round(float(item.score), 4)}


def _check_size(item: ObjectMask, size: Size) -> None:
    if tuple(item.rle["size"]) != tuple(size):
        got = tuple(item.rle["size"])
        raise ValueError(f"The mask's size {got} is not the picture's {tuple(size)}; scale it.")

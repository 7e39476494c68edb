"""Masks as the files other programs read: PNG, SVG, COCO, LabelMe, YOLO.

Pure functions from masks to bytes, text or dicts fit for ``json.dumps``. Masks travel as run
lengths, so that hundreds of a large photo fit into memory; each is decoded when its turn comes.

Coordinates are pixels with (0, 0) at the picture's top left corner, as ``polygons`` explains. This
is how COCO and pycocotools, LabelMe's canvas and YOLO understand them. Programs that draw a
polygon's border on top of its inside, as LabelMe's own converters do, get up to half a pixel more
along it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from mobilesam import rle as run_lengths
from mobilesam.masks import mask_to_box
from mobilesam.object_mask import OBJECT as OBJECT
from mobilesam.object_mask import ObjectMask as ObjectMask
from mobilesam.object_mask import Size as Size
from mobilesam.object_mask import object_color as object_color
from mobilesam.polygons import TOLERANCE, join
from mobilesam.rendering import (
    PNG_COMPRESS_LEVEL,
    Color,
    cut_out,
    mask_image,
    overlay,
    png_bytes,
)
from mobilesam.svg import svg as svg

PALETTE_SIZE = 255  # objects that an 8-bit picture can tell apart, beside the ground
LABELME_VERSION = "5.5.0"  # of the layout of its files


def mask_png(mask: np.ndarray) -> bytes:
    """Return an (H, W) bool mask as a grey PNG, 255 inside and 0 outside."""
    return png_bytes(mask_image(mask))


def cut_out_png(image: np.ndarray, mask: np.ndarray, alpha: np.ndarray | None = None) -> bytes:
    """Return the masked part of an (H, W, 3) uint8 photo as a PNG with a transparent background.

    ``alpha`` is the mask with a feathered edge, see ``rendering.cut_out``.
    """
    return png_bytes(cut_out(image, mask, alpha))


def overlay_png(
    image: np.ndarray,
    objects: Sequence[ObjectMask],
    *,
    colors: Sequence[Color] | None = None,
    alphas: Sequence[np.ndarray | None] | None = None,
    opacity: float = 0.5,
) -> bytes:
    """Return an (H, W, 3) uint8 photo with all objects laid over it, the smaller ones on top.

    Args:
        image: The photo.
        objects: Of it.
        colors: RGB of each; by default ``object_color``.
        alphas: Of each the mask with a feathered edge, or None; see ``rendering.overlay``.
        opacity: Of the tint, 0 to 1.

    Returns:
        A PNG.
    """
    for index in _large_first(objects):
        image = overlay(
            image,
            objects[index].mask(),
            colors[index] if colors else object_color(index),
            opacity,
            alpha=alphas[index] if alphas else None,
        )
    return png_bytes(image)


def indexed_png(
    objects: Sequence[ObjectMask], size: Size, colors: Sequence[Color] | None = None
) -> bytes:
    """Return all masks in one PNG: pixels are 0 on the ground and k in the k-th object.

    Where objects overlap, the smaller one is seen. Up to 255 objects make a palette picture, which
    shows their colors; more make a grey one of 16 bits.

    Args:
        objects: Of one picture, in the order of their numbers.
        size: The picture's (height, width).
        colors: RGB of each; by default ``object_color``.

    Raises:
        ValueError: A mask has another size, or there are more than 65535.
    """
    if len(objects) >= 2**16:
        raise ValueError(f"One PNG can number at most 65535 objects; got {len(objects)}.")
    numbers = np.zeros(size, np.uint8 if len(objects) <= PALETTE_SIZE else np.uint16)
    for index in _large_first(objects):
        objects[index].check_size(size)
        numbers[objects[index].mask()] = index + 1
    picture = Image.fromarray(numbers)
    if numbers.dtype == np.uint8:
        picture = Image.frombytes("P", size[::-1], numbers.tobytes())
        shown = colors or [object_color(index) for index in range(len(objects))]
        picture.putpalette([value for color in [(0, 0, 0), *shown] for value in color])
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
        parts = item.parts(tolerance)
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
        item.check_size(size)
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
        item.check_size(size)
        parts = item.parts(tolerance)
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
        rings = [ring for part in item.parts(tolerance) for ring in part.rings]
        if not rings:
            continue
        height, width = item.rle["size"]
        shares = join(rings) / (width, height)
        numbers = " ".join(f"{share:.6f}" for share in shares.ravel())
        lines.append(f"{classes.index(item.name)} {numbers}\n")
    return "".join(lines)


def _large_first(objects: Sequence[ObjectMask]) -> list[int]:
    return sorted(range(len(objects)), key=lambda index: -objects[index].area)


def _score(item: ObjectMask) -> dict[str, float]:
    return {} if item.score is None else {"score": round(float(item.score), 4)}

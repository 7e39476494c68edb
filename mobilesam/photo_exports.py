"""One photo with its objects, as any kind of file: the one door for page, API and command line."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mobilesam import exporting, rle
from mobilesam.exporting import OBJECT, ObjectMask, Size
from mobilesam.rendering import DODGER_BLUE, Color, png_bytes
from mobilesam.svg import svg

KINDS = ("mask", "indexed", "cutout", "overlay", "coco", "labelme", "yolo", "svg", "zip")
NEEDS_PHOTO = ("cutout", "overlay", "zip")
MAX_STEM_BYTES = 150  # file systems take 255, with the kind and the suffix
KEPT_CONTROLS = "\u200c\u200d"  # join and part letters in some scripts
UNFIT_FOR_FILES = re.compile(r'[<>:"/\\|?*]')  # on one system or another
RESERVED_FOR_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.I)  # by Windows
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")  # what would show a suffix elsewhere
YOLO_NOTE = "# Put the photo into images/ beside labels/.\n"


@dataclass(frozen=True, eq=False)
class PhotoObject:
    """One object of a photo, as it is to be exported.

    Attributes:
        mask: (H, W) bool, refined already.
        name: What it is; objects of one name are of one class.
        color: RGB, 0 to 255.
        score: Predicted IoU, 0 to 1; None if nobody said.
        alpha: (H, W) uint8, the mask with a feathered edge; None if it is not feathered.
    """

    mask: np.ndarray
    name: str = OBJECT
    color: Color = DODGER_BLUE
    score: float | None = None
    alpha: np.ndarray | None = None


def export(
    kind: str,
    photo_name: str,
    size: Size,
    objects: Sequence[PhotoObject],
    chosen: int,
    read_photo: Callable[[], np.ndarray],
    opacity: float = 0.5,
    image_path: str | None = None,
) -> tuple[str, bytes]:
    """Write a photo's objects as one file, at the photo's own size.

    Args:
        kind: One of ``KINDS``:

            - ``mask``: a PNG of the chosen object, white on black; grey along a feathered edge.
            - ``cutout``: a PNG of it on a transparent background, its alpha feathered.
            - ``indexed``: a PNG whose pixels are k in the k-th object, in the objects' colors.
            - ``overlay``: a PNG of the photo with all objects laid over it.
            - ``coco``: a data set of one picture. ``segmentation`` is polygons, which every reader
              of objects that are no crowd takes; they follow the mask to an IoU of 0.995. ``rle``
              beside it, a key that readers leave alone, has the exact mask as compressed run
              lengths. So one file opens in pycocotools, and nothing is lost.
            - ``labelme``: LabelMe's JSON, named as the photo, so that LabelMe finds both.
            - ``yolo``: YOLO-seg's text, named as the photo. Classes are numbered in the order of
              the names; the names themselves are in the ZIP.
            - ``svg``: outlines.
            - ``zip``: all of these, with mask and cut-out of every object, and for YOLO a
              ``classes.txt`` and a ``data.yaml``.
        photo_name: The photo's file name; folders before it are left out.
        size: Its (height, width), pixels.
        objects: All that are to be seen; later ones are newer.
        chosen: Which of them ``mask`` and ``cutout`` show.
        read_photo: Returns the (H, W, 3) uint8 photo; called once, for the kinds that show it.
        opacity: Of overlay and SVG, 0 to 1.
        image_path: Where LabelMe finds the photo, seen from its file; by default beside it.

    Returns:
        The file's name and content.

    Raises:
        ValueError: The kind is unknown, there is no such object, or a mask has another size.
    """
    if kind not in KINDS:
        raise ValueError(f"The kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    if not 0 <= chosen < len(objects):
        raise ValueError(
            f"The chosen object must be one of the {len(objects)} given; got {chosen}. "
            "Segment something first."
        )
    for item in objects:
        if item.mask.shape != tuple(size):
            raise ValueError(
                f"The mask's size {item.mask.shape} is not the photo's {tuple(size)}; scale it."
            )
    photo = read_photo() if kind in NEEDS_PHOTO else None
    shown = [replace(item, name=one_line(item.name) or OBJECT) for item in objects]
    writer = _Writer(photo_name, size, shown, photo, opacity, image_path)
    return writer.archive() if kind == "zip" else writer.file(kind, chosen)


@dataclass(frozen=True, eq=False)
class _Writer:
    """What all kinds of files of one photo share; attributes as the arguments of ``export``."""

    photo_name: str
    size: Size
    objects: Sequence[PhotoObject]
    photo: np.ndarray | None
    opacity: float
    image_path: str | None

    @cached_property
    def name(self) -> str:
        """The photo's file name as it is, without folders: by it programs find the photo."""
        return _written(PurePosixPath(self.photo_name.replace("\\", "/")).name) or "photo"

    @cached_property
    def stem(self) -> str:
        """What its files' names begin with; fit for all file systems."""
        return fit_for_files(PurePosixPath(self.name).stem) or "photo"

    @cached_property
    def masks(self) -> list[ObjectMask]:
        return [ObjectMask.from_mask(item.mask, item.name, item.score) for item in self.objects]

    @cached_property
    def colors(self) -> list[Color]:
        return [item.color for item in self.objects]

    @cached_property
    def classes(self) -> list[str]:
        """The objects' names, each once, in their order."""
        return list(dict.fromkeys(item.name for item in self.objects))

    def file(self, kind: str, chosen: int, numbered: bool = False) -> tuple[str, bytes]:
        """Return one file's name and content."""
        item = self.objects[chosen]
        number = f"-{chosen + 1}" if numbered else ""
        if kind == "mask":
            return f"{self.stem}-mask{number}.png", _mask_png(item)
        if kind == "cutout":
            content = exporting.cut_out_png(self._photo(), item.mask, item.alpha)
            return f"{self.stem}-cutout{number}.png", content
        if kind == "indexed":
            content = exporting.indexed_png(self.masks, self.size, self.colors)
            return f"{self.stem}-indexed.png", content
        if kind == "overlay":
            return f"{self.stem}-overlay.png", self._overlay()
        if kind == "coco":
            return f"{self.stem}-coco.json", json.dumps(self._coco()).encode()
        if kind == "labelme":
            path = self.image_path or self.name
            found = exporting.labelme(self.masks, path, self.size)
            return f"{self.stem}.json", json.dumps(found, indent=1).encode()
        if kind == "yolo":
            return f"{self.stem}.txt", exporting.yolo_seg(self.masks, self.classes).encode()
        text = svg(self.masks, self.size, self.colors, opacity=self.opacity)
        return f"{self.stem}.svg", text.encode()

    def archive(self) -> tuple[str, bytes]:
        """Return a ZIP of all kinds; the same bytes for the same objects."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, content in self._members():
                entry = zipfile.ZipInfo(name)  # of 1980: no clock
                packed = not name.endswith(".png")
                entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
                file.writestr(entry, content)
        return f"{self.stem}-masks.zip", buffer.getvalue()

    def _members(self) -> Iterator[tuple[str, bytes]]:
        several = len(self.objects) > 1
        for kind in ("mask", "cutout"):
            yield from (self.file(kind, index, several) for index in range(len(self.objects)))
        for kind in ("indexed", "overlay", "svg", "coco"):
            yield self.file(kind, 0)
        name, content = self.file("labelme", 0)
        yield f"labelme/{name}", content
        name, content = self.file("yolo", 0)
        yield f"yolo/labels/{name}", content
        yield "yolo/classes.txt", "".join(f"{name}\n" for name in self.classes).encode()
        yield "yolo/data.yaml", self._data_yaml().encode()

    def _overlay(self) -> bytes:
        alphas = [item.alpha for item in self.objects]
        return exporting.overlay_png(
            self._photo(), self.masks, colors=self.colors, alphas=alphas, opacity=self.opacity
        )

    def _coco(self) -> dict[str, Any]:
        picture = exporting.coco_picture(self.name, self.size, self.masks, polygons=True)
        for annotation, item in zip(picture["annotations"], self.masks, strict=True):
            annotation["rle"] = rle.compress(item.rle)
        return exporting.coco_dataset([picture], self.classes)

    def _data_yaml(self) -> str:
        """Return YOLO's description of a data set, its names quoted as JSON, which YAML takes."""
        names = (
            f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
            for number, name in enumerate(self.classes)
        )
        head = f"{YOLO_NOTE}path: .\ntrain: images\nval: images\n"
        return f"{head}nc: {len(self.classes)}\nnames:\n{''.join(names)}"

    def _photo(self) -> np.ndarray:
        if self.photo is None or self.photo.shape[:2] != tuple(self.size):
            got = None if self.photo is None else self.photo.shape[:2]
            raise ValueError(f"The photo must have the size {tuple(self.size)}; got {got}.")
        return self.photo


def fit_for_files(text: str) -> str:
    """Return text as part of a file's name that all file systems take; it may come out empty."""
    text = UNFIT_FOR_FILES.sub("_", TURNING.sub("", _written(text))).strip(". ")
    text = text.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    return f"_{text}" if RESERVED_FOR_DEVICES.fullmatch(text) else text


def _written(text: str) -> str:
    """Return text without characters that cannot stand in a file's name or a line."""
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp"))


def _mask_png(item: PhotoObject) -> bytes:
    return exporting.mask_png(item.mask) if item.alpha is None else png_bytes(item.alpha)


def one_line(text: str) -> str:
    """Return a name in one line, without what is not seen of it; it may come out empty."""
    return " ".join("".join(" " if _is_unseen(c) else c for c in text).split())


def _is_unseen(c: str) -> bool:
    is_control = unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in KEPT_CONTROLS
    return is_control or c in "\ufffe\uffff"  # no characters: XML cannot hold them

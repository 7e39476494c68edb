"""What is written for each picture, and where."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mobilesam.files import opened_atomically, write_atomically
from mobilesam.folders.inputs import STATE_FOLDER, Picture

if TYPE_CHECKING:
    import numpy as np

    from mobilesam.exporting import ObjectMask

Format = Literal["png", "coco", "labelme", "yolo", "cutout"]
FORMATS: tuple[Format, ...] = ("png", "coco", "labelme", "yolo", "cutout")
SUFFIXES = {"png": ".png", "coco": ".json", "labelme": ".json", "yolo": ".txt", "cutout": ".png"}
SEVERAL_SUFFIX = ".cutouts"  # of the folder that holds a picture's cut-outs
COCO_FILE = "annotations.json"
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class Job:
    """One picture and what becomes of it.

    Attributes:
        picture: What was asked for.
        name: Of its results, below the folder of results, without suffix; no other's.
        shown: Its path as COCO's file_name.
    """

    picture: Picture
    name: str
    shown: str


@dataclass(frozen=True)
class Output:
    """How results are written.

    Attributes:
        folder: Where.
        format: What.
        polygons: Whether COCO gets outlines instead of run lengths.
        tolerance: Of outlines, pixels.
        several: Whether every picture may have several objects.
        classes: Names of all objects.
    """

    folder: Path
    format: Format
    polygons: bool
    tolerance: float
    several: bool
    classes: tuple[str, ...]

    @property
    def state_folder(self) -> Path:
        """Where the bookkeeping is, and what is not whole yet."""
        return self.folder / STATE_FOLDER

    def path(self, job: Job) -> Path:
        """Return what a picture's result is called: a file, or a folder of cut-outs."""
        suffix = SUFFIXES[self.format]
        if self.format == "coco":
            return self.state_folder / "coco" / (job.name + suffix)
        if self.format == "cutout" and (self.several or len(job.picture.prompts) > 1):
            suffix = SEVERAL_SUFFIX
        return self.folder / (job.name + suffix)

    @property
    def whole_path(self) -> Path | None:
        """The file that belongs to all pictures together; None if there is none."""
        name = {"coco": COCO_FILE, "yolo": CLASSES_FILE}.get(self.format)
        return self.folder / name if name else None

    def is_finished(self, job: Job) -> bool:
        """Tell whether a picture's result is there; only whole ones ever are."""
        path = self.path(job)
        return path.is_dir() if path.suffix == SEVERAL_SUFFIX else path.is_file()

    def result(self, job: Job) -> str:
        """Return what a picture's result is called, seen from the folder of results."""
        return relative_path(self.path(job), self.folder)

    def write(self, job: Job, objects: Sequence[ObjectMask], photo: np.ndarray) -> None:
        """Write a picture's result, whole or not at all.

        Args:
            job: The picture.
            objects: What was found in it.
            photo: (H, W, 3) uint8.

        Raises:
            OSError: It could not be written.
        """
        path = self.path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == SEVERAL_SUFFIX:
            self._write_cutouts(path, objects, photo)
        else:
            content = self._content(job, objects, photo)
            write_atomically(path, content, self.state_folder)

    def _content(self, job: Job, objects: Sequence[ObjectMask], photo: np.ndarray) -> bytes:
        from mobilesam import exporting

        height, width = photo.shape[:2]
        if self.format == "png":
            return exporting.indexed_png(objects, (height, width))
        if self.format == "cutout":
            return exporting.cut_out_png(photo, objects[0].mask())
        if self.format == "yolo":
            return exporting.yolo_seg(objects, self.classes, self.tolerance).encode()
        if self.format == "labelme":
            source = path_seen_from(self.path(job), job.picture.path)
            found = exporting.labelme(objects, source, (height, width), self.tolerance)
            return json.dumps(found, indent=1).encode()
        picture = exporting.coco_picture(
            job.shown,
            (height, width),
            objects,
            polygons=self.polygons,
            tolerance=self.tolerance,
        )
        return json.dumps(picture).encode()

    def _write_cutouts(self, path: Path, objects: Sequence[ObjectMask], photo: np.ndarray) -> None:
        """Write a folder of cut-outs, numbered from 1; it gets its name when it is whole."""
        from mobilesam import exporting

        part = self.state_folder / f"{uuid.uuid4().hex}.part"
        try:
            part.mkdir()
            digits = len(str(len(objects)))
            for number, item in enumerate(objects, 1):
                content = exporting.cut_out_png(photo, item.mask())
                write_atomically(part / f"{number:0{digits}}.png", content)
            if path.exists():
                path.rename(part.with_suffix(".old"))
            os.replace(part, path)
        finally:
            for left in (part, part.with_suffix(".old")):
                shutil.rmtree(left, ignore_errors=True)

    def write_whole(self, jobs: Sequence[Job]) -> Path | None:
        """Write what belongs to all pictures together: COCO's data set, or YOLO's list of classes.

        Args:
            jobs: Those that count; of COCO the ones that are finished.

        Returns:
            The file; None where there is none of that kind.

        Raises:
            OSError: It could not be written.
            ValueError: A picture's part cannot be read.
        """
        path = self.whole_path
        if path is None:
            return None
        if self.format == "yolo":
            content = "".join(f"{name}\n" for name in self.classes)
            write_atomically(path, content.encode(), self.state_folder)
            return path
        from mobilesam.exporting import coco_json

        finished = [job for job in jobs if self.is_finished(job)]

        def pictures() -> Iterator[dict[str, Any]]:
            for job in finished:
                part = self.path(job)
                try:
                    picture = json.loads(part.read_bytes()) | {"file_name": job.shown}
                except (OSError, ValueError, TypeError) as error:
                    hint = "delete it and give the same command again: it is made anew"
                    raise ValueError(f"{part} is damaged or cannot be read; {hint}.") from error
                yield picture

        with opened_atomically(path, self.state_folder) as file:
            for piece in coco_json(pictures, self.classes):
                file.write(piece.encode())
        return path


def path_seen_from(file: Path, photo: Path) -> str:
    """Return where a file that is opened finds a photo; their folders may be links.

    As `..` leads from a link to another place than from its name.
    """
    return relative_path(photo.parent.resolve() / photo.name, file.parent.resolve())


def relative_path(path: Path, folder: Path) -> str:
    """Return a path seen from a folder, with forward slashes; whole if there is no way to it."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return Path(os.path.abspath(path)).as_posix()

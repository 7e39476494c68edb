"""Files: written whole or not at all, told apart by what they hold; and a program's own streams."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: It could not be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        ValueError: It cannot be made or not be written to.
    """
    with _refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def check_folder(folder: Path) -> None:
    """Check that ``make_folder`` can make a folder, or find it; nothing is made.

    Raises:
        ValueError: It cannot be made or not be written to.
    """
    place = folder.absolute()
    with _refused(folder):
        there = next(each for each in (place, *place.parents) if each.exists())
        tempfile.TemporaryFile(dir=there).close()


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    """Say of what goes wrong inside that another folder is needed."""
    try:
        yield
    except OSError as error:
        is_other = os.path.exists(folder) and not os.path.isdir(folder)
        what = "is not a folder" if is_other else f"cannot be written ({error.strerror})"
        raise ValueError(f"{folder} {what}; choose another folder.") from error


def write_atomically(path: Path, content: bytes, part_folder: Path | None = None) -> None:
    """Write a file that appears whole or not at all.

    Args:
        path: Of the file; one that is there is replaced.
        content: What it shall hold.
        part_folder: Where it is while it is not whole, on the same file system; beside ``path``,
            under a hidden name, if left out.

    Raises:
        OSError: It could not be written; nothing of it is left. The system's own error is the
            cause.
    """
    with _part(path, part_folder) as part:
        part.write_bytes(content)


@contextmanager
def opened_atomically(path: Path, part_folder: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file to be written piece by piece; else as ``write_atomically``."""
    with _part(path, part_folder) as part, part.open("wb") as file:
        yield file


@contextmanager
def _part(path: Path, folder: Path | None) -> Iterator[Path]:
    """Give a name to write to, and move what is there to ``path`` if all went well."""
    own = f"{uuid.uuid4().hex}.part"  # no other process has it, on no machine
    part = (folder or path.parent) / (own if folder else f".{own}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.errno is None:  # has its sentence already
            raise
        raise OSError(f"{path} could not be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def open_closed_streams() -> None:
    """Give what is printed a place to go where a program was started without one, as by ``>&-``.

    Python has None for such a stream, and the next file that is opened would take its number.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))

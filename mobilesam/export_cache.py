"""Exported image encoders on this machine's disk: made once for each checkpoint, then only read.

They are in `~/.cache/mobilesam/exported` (or below `XDG_CACHE_HOME`), each in a folder named after
all that it was made of: the checkpoint's content and the versions of what exported it. The folder
appears whole or not at all, and the checksums in it are verified before it is used. It may be
deleted at any time; one that nobody has used for a while is, when another is made.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import filelock
import torch

from mobilesam import __version__
from mobilesam.checkpoints import cache_folder
from mobilesam.files import sha256_of
from mobilesam.modeling.timm_import import timm

LOGGER = logging.getLogger(__name__)

OPSET = 20  # the first with GELU, without which ONNX Runtime is slower than PyTorch
FORMAT = 1  # raised when what is exported changes though none of the versions does
MODEL_FILE = "encoder.onnx"
SUMS_FILE = "SHA256SUMS"
UNUSED_DAYS = 60  # after which an export is deleted: its checkpoint or its versions are gone
DAY_S = 24 * 3600


def find(checkpoint: Path) -> Path | None:
    """Return the exported encoder of a checkpoint file, or None if it is not here or damaged."""
    return _verified(_folder_of(checkpoint))


def find_or_build(checkpoint: Path, build: Callable[[Path], None]) -> Path:
    """Return the exported encoder of a checkpoint file, made now if it is not here.

    Of several processes that ask at once one makes it, and the others wait.

    Args:
        checkpoint: The file.
        build: Called with the path to write to; may write further files beside it.

    Raises:
        OSError: If it cannot be stored; nothing is left of it.
    """
    folder = _folder_of(checkpoint)
    found = _verified(folder)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            return _verified(folder) or _build(folder, build)
    except OSError as error:
        raise OSError(
            f"The exported image encoder of {checkpoint.name} cannot be stored in {folder.parent} "
            f"({error.strerror or error}); set XDG_CACHE_HOME to a folder that can be written, or "
            "use backend='torch'."
        ) from error


def _build(folder: Path, build: Callable[[Path], None]) -> Path:
    """Make a folder's content under another name and give it its own."""
    for left in folder.parent.glob(f"{folder.name}.*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    if folder.exists():
        LOGGER.warning("%s is damaged and made again", folder)
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.part")
    part.mkdir()  # not as tempfile does: others may read the export, too
    try:
        build(part / MODEL_FILE)
        sums = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(part.iterdir())]
        (part / SUMS_FILE).write_text("".join(sums))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _delete_unused(folder.parent)
    return folder / MODEL_FILE


def _delete_unused(exported: Path) -> None:
    """Delete exports last used more than ``UNUSED_DAYS`` days ago, and what was never finished."""
    for part in exported.glob("*.part"):  # also of versions that nobody will ask for again
        with suppress(OSError):
            if part.stat().st_mtime < time.time() - DAY_S:
                shutil.rmtree(part)
    for sums in exported.glob(f"*/{SUMS_FILE}"):
        with suppress(OSError):  # another process was quicker
            if sums.stat().st_mtime < time.time() - UNUSED_DAYS * DAY_S:
                LOGGER.info("%s was not used for %d days and is deleted", sums.parent, UNUSED_DAYS)
                shutil.rmtree(sums.parent)


def _folder_of(checkpoint: Path) -> Path:
    made_of = (sha256_of(checkpoint), __version__, torch.__version__, timm.__version__)
    key = hashlib.sha256(repr((*made_of, OPSET, FORMAT)).encode()).hexdigest()[:32]
    return cache_folder() / "exported" / key


def _verified(folder: Path) -> Path | None:
    try:
        lines = (folder / SUMS_FILE).read_text().splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        whole = all(sha256_of(folder / name) == digest for name, digest in sums.items())
        with suppress(OSError):  # a cache that others own is only read
            os.utime(folder / SUMS_FILE)
    except (OSError, ValueError):  # not there, or no such file as we write
        return None
    return folder / MODEL_FILE if whole and MODEL_FILE in sums else None

"""Files that the web server serves or has been sent: written, and deleted again in time."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import strip_invalid_filename_characters

LOGGER = logging.getLogger(__name__)

MAX_AGE_S = 3600.0
SWEEP_EVERY_S = 600.0


def store_in(
    folder: str | Path, note: Callable[[str], object] = lambda path: None
) -> Callable[[bytes, str], dict[str, Any]]:
    """Return the function by which handlers hand files to Gradio's web server.

    Each file gets a folder of its own, whose name cannot be guessed: the same picture opened by
    two visitors is two files, and either can be deleted.

    Args:
        folder: Where Gradio serves files from.
        note: Called with each file's path. Gradio knows a file from when it is sent, and a visitor
            who has left while it was made gets none.
    """

    def store(data: bytes, file_name: str) -> dict[str, Any]:
        path = Path(folder, secrets.token_hex(16), strip_invalid_filename_characters(file_name))
        path.parent.mkdir(parents=True)
        note(str(path.resolve()))
        try:
            path.write_bytes(data)
        except OSError:  # the disk is full: nobody would ever delete what is there
            discard(str(path))
            raise
        return {
            "path": str(path.resolve()),
            "orig_name": file_name,
            "meta": {"_type": "gradio.FileData"},
        }

    return store


def discard(path: str) -> None:
    """Delete a file of the page and, if it was the last one there, its folder."""
    with contextlib.suppress(OSError):  # deleted already, or others in the folder
        Path(path).unlink(missing_ok=True)
        Path(path).parent.rmdir()


def sweep(blocks: gr.Blocks, max_age_s: float = MAX_AGE_S) -> None:
    """Delete what visitors uploaded and were sent, and what calls were, once it is so old.

    Uploads that were cut off are not among them: Gradio itself does not know them.

    Args:
        blocks: The page.
        max_age_s: Seconds since a file was written.
    """
    oldest = time.time() - max_age_s
    kept: set[str] = set()
    for component in blocks.blocks.values():
        kept |= getattr(component, "keep_in_cache", set())
    for paths in blocks.temp_file_sets:
        for path in tuple(paths):  # in one go: the server adds to it meanwhile
            if path not in kept and not _is_younger(path, oldest):
                discard(path)
                paths.discard(path)


def keep_sweeping(blocks: gr.Blocks) -> None:
    """Sweep again and again, as long as there is the page.

    Gradio's own clean-up does not survive a file that arrives while it looks at the files: its
    task ends without a word. It also remembers for good what others have deleted.
    """
    page = weakref.ref(blocks)

    def go_on() -> None:
        pause = threading.Event()
        while not pause.wait(SWEEP_EVERY_S):
            found = page()
            if found is None:
                return
            try:
                sweep(found)
            except Exception:
                LOGGER.exception("Old files could not be deleted")
            del found

    threading.Thread(target=go_on, name="sweep", daemon=True).start()


def _is_younger(path: str, oldest: float) -> bool:
    """Tell whether a file, or its folder where it is still to be written, came after a time."""
    for place in (Path(path), Path(path).parent):
        with contextlib.suppress(OSError):
            return place.lstat().st_ctime > oldest
    return False

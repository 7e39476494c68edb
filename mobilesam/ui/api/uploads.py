"""Which file a call from outside may name: one that was uploaded here, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mobilesam.ui.messages import PromptError

SERVED_FILE = "/gradio_api/file="  # in the address under which the server shows an uploaded file
NOT_UPLOADED = (
    "The image must be a file that was uploaded to this server before; got something else. Upload "
    "it, then name the path that the server answered."
)


def uploaded_file(image: Any, folder: Path) -> Path:
    """Return the file that a call names.

    Args:
        image: What came from outside: a mapping with `path`, which is a file's path on the server,
            or the address under which this server shows that file.
        folder: Where the server keeps uploads.

    Raises:
        PromptError: It is no file that was uploaded. No address is fetched to find that out.
    """
    path = image.get("path") if isinstance(image, Mapping) else None
    if not isinstance(path, str) or not path:
        raise PromptError(NOT_UPLOADED)
    if "://" in path:
        path = _path_of_address(path)
    try:
        found = Path(path).resolve()
        is_upload = found.is_relative_to(folder.resolve()) and found.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        is_upload = False
    if not is_upload:
        raise PromptError(NOT_UPLOADED)
    return found


def _path_of_address(address: str) -> str:
    try:
        served = urlsplit(address).path
    except ValueError:
        served = ""
    _, mark, path = served.partition(SERVED_FILE)
    if not mark:
        raise PromptError("An address is not fetched; upload the photo, and name what came back.")
    return unquote(path)


def holds_file(value: Any) -> bool:
    """Tell whether a value that should be numbers and text has a mapping in it.

    Gradio takes some mappings for files wherever they stand.
    """
    left = [value]
    while left:
        entry = left.pop()
        if isinstance(entry, Mapping):
            return True
        if isinstance(entry, list | tuple):
            left.extend(entry)
    return False

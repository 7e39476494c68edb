"""Errors in one sentence, and the exit status of what a person ended."""

from __future__ import annotations

import errno

INTERRUPTED = 130  # exit status, as shells have it for Ctrl+C
PAGE_LENGTH = 300  # characters: the most that the page and the API say of one error


def sentence(error: BaseException, length: int | None = None) -> str:
    """Return an error's message in one line; the system's own errors name their file.

    Args:
        error: What was raised.
        length: Characters after which the message is cut off.
    """
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return (" ".join(str(error).split()) or type(error).__name__)[:length]


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether a disk had no room, or this user none on it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, the processor's or a GPU's.

    PyTorch raises a ``RuntimeError`` for the processor's, which only its words tell from others.
    """
    words = ("can't allocate memory", "out of memory")
    is_torchs = isinstance(error, RuntimeError) and any(said in str(error) for said in words)
    return isinstance(error, MemoryError) or is_torchs

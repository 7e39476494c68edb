"""Errors in one sentence, which of them a machine is to blame for, and an exit status."""

from __future__ import annotations

import errno

INTERRUPTED = 130  # exit status, as shells have it for Ctrl+C
PAGE_LENGTH = 300  # characters: the most that the page and the API say of one error
MEMORY_WORDS = (
    "allocate memory",
    "out of memory",
    "not enough memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


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

    For most of it PyTorch, OpenVINO and ONNX Runtime have no class of their own, only words.
    """
    is_systems = isinstance(error, OSError) and error.errno == errno.ENOMEM
    said = any(words in str(error) for words in MEMORY_WORDS)
    return isinstance(error, MemoryError) or is_systems or said

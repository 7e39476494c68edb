"""Errors in one sentence, and the exit status of what a person ended."""

from __future__ import annotations

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

"""Errors in one sentence."""

from __future__ import annotations


def sentence(error: BaseException) -> str:
    """Return an error's message in one line; the system's own errors name their file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__

"""Long work that steps back while visitors wait for a click."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_WAIT = 1.0  # seconds: under a stream of clicks long work still gets on


class Courtesy:
    """Counts what visitors wait for now; long work asks before each of its parts."""

    def __init__(self) -> None:
        self._waiting = 0
        self._condition = threading.Condition()

    @contextmanager
    def first(self) -> Iterator[None]:
        """Do something that a visitor waits for."""
        with self._condition:
            self._waiting += 1
        try:
            yield
        finally:
            with self._condition:
                self._waiting -= 1
                self._condition.notify_all()

    def wait(self) -> None:
        """Return when no visitor waits, or after `LONGEST_WAIT`."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting == 0, LONGEST_WAIT)

"""Ctrl+C and SIGTERM, which let a step end and its state be saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody has asked a run to stop; a context manager.

    The first signal is noted, and what to do about it is left to the run. After that signals are
    what they were before, so that a second one ends the process at once.

    Args:
        heeds: Whether signals are noted at all. Outside the main thread they cannot be, and where
            they were ignored they still are.

    Attributes:
        made: Whether one has come.
    """

    def __init__(self, heeds: bool) -> None:
        self._heeds = heeds and threading.current_thread() is threading.main_thread()
        self._before: dict[signal.Signals, Any] = {}
        self.made = False

    def __enter__(self) -> StopRequest:
        """Begin to note signals."""
        for number in SIGNALS if self._heeds else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Let signals be what they were."""
        self._restore()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.made = True
        self._restore()
        os.write(
            2, b"\nstopping after this step; a second time ends at once\n"
        )  # not reentrant: log

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

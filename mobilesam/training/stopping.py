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
    what they were before, so that a second one ends the process at once: but not where torchrun
    has started several, to which it may send a second one itself, and which it ends by force when
    they take long. Outside the main thread signals cannot be noted, and where they were ignored
    they still are.

    Args:
        rank: This process's; the first one says what has come.
        world: How many processes there are.

    Attributes:
        made: Whether one has come.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self._speaks, self._is_one_of_several = rank == 0, world > 1
        self._before: dict[signal.Signals, Any] = {}
        self.made = False

    def __enter__(self) -> StopRequest:
        """Begin to note signals."""
        is_main = threading.current_thread() is threading.main_thread()
        for number in SIGNALS if is_main else ():
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
        first, self.made = not self.made, True
        text = "stopping after this step"
        if not self._is_one_of_several:
            self._restore()
            text += "; a second time ends at once"
        if first and self._speaks:
            os.write(2, f"\n{text}\n".encode())  # logging is not reentrant

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

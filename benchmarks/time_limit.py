"""An end to a measurement that leaves time to say what it has found."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class CutOff(BaseException):
    """The time is up, or somebody has ended the run; no ``except Exception`` is to stop it."""


@contextmanager
def cut_off_after(minutes: float | None) -> Iterator[None]:
    """Raise ``CutOff`` inside after so long, and where a signal would end the process."""

    def raise_it(number: int, _frame: object) -> None:
        raise CutOff("the time was up" if number == signal.SIGALRM else "it was asked to end")

    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, raise_it) for number in numbers}
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))  # 0: never
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)

"""What the compare tab works at behind the page: one job at a time for each visitor.

A job runs in a thread of its own, which waits for another process or for the network; the page
follows it. It ends when the visitor cancels it, starts another one, or leaves.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mobilesam.comparison import ComparisonCancelled, ComparisonError
from mobilesam.errors import PAGE_LENGTH, sentence
from mobilesam.ui.trouble import trouble

LOGGER = logging.getLogger(__name__)

CANCELLED = "Cancelled."
FOLLOW_SECONDS = 0.5  # between two updates of the page, at least
END_SECONDS = 3.0  # that a cancelled job may take; a silent server would hold it up longer


class Update(NamedTuple):
    """How far a job is: the share done, 0 to 1, and what is being done."""

    share: float
    text: str


class Job:
    """Something that takes long, its progress, and its end.

    Args:
        work: Called with the job; reports to ``report``, asks ``is_cancelled``, and returns the
            result.
    """

    def __init__(self, work: Callable[[Job], Any]) -> None:
        self._work = work
        self._cancel = threading.Event()
        self._updates: queue.SimpleQueue[Update | None] = queue.SimpleQueue()
        self.result: Any = None
        self.trouble = ""

    def cancel(self) -> None:
        """Ask it to end; who follows it waits ``END_SECONDS`` at most."""
        self._cancel.set()

    def is_cancelled(self) -> bool:
        """Tell whether it was asked to end."""
        return self._cancel.is_set()

    def report(self, share: float, text: str) -> None:
        """Say how far it is."""
        self._updates.put(Update(share, text))

    def follow(self) -> Iterator[Update]:
        """Start it, and yield how far it is until it has ended.

        Afterwards ``result`` holds what it made, or ``trouble`` why it made nothing. Whoever stops
        following, as when the visitor has left, cancels it.
        """
        threading.Thread(target=self._run, name="comparison", daemon=True).start()
        try:
            while (update := self._newest()) is not None:
                yield update
                self._cancel.wait(FOLLOW_SECONDS)
        finally:
            self.cancel()

    def _newest(self) -> Update | None:
        """Return the last thing told; None at its end, or if it does not end though asked to."""
        asked_at = 0.0
        while True:
            try:
                update = self._updates.get(timeout=FOLLOW_SECONDS)
                break
            except queue.Empty:
                if self.is_cancelled():
                    asked_at = asked_at or time.monotonic()
                    if time.monotonic() - asked_at > END_SECONDS:
                        self.trouble = CANCELLED
                        return None
        while update is not None and not self._updates.empty():
            update = self._updates.get()
        return update

    def _run(self) -> None:
        try:
            self.result = self._work(self)
        except ComparisonCancelled:
            self.trouble = CANCELLED
        except FileNotFoundError:
            self.trouble = "The photo is no longer on the server; please open it again."
        except (ComparisonError, ValueError, TypeError) as error:
            self.trouble = sentence(error, PAGE_LENGTH)
        except Exception as error:
            LOGGER.exception("A comparison failed")
            self.trouble = trouble(error)
        finally:
            self._updates.put(None)


class Desk:
    """The jobs of all visitors, told apart by Gradio's session hash."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Job] = {}
        self._running: dict[str, Job] = {}

    def hand_in(self, visitor: str, job: Job) -> int:
        """Let a visitor's job wait for its turn; the one before is cancelled.

        Returns:
            How many other jobs come first.
        """
        with self._lock:
            for jobs in (self._waiting, self._running):
                earlier = jobs.pop(visitor, None)
                if earlier is not None:
                    earlier.cancel()
            self._waiting[visitor] = job
            return len(self._waiting) - 1 + len(self._running)

    def has(self, visitor: str) -> bool:
        """Tell whether a visitor has a job under way or waiting."""
        with self._lock:
            return visitor in self._waiting or visitor in self._running

    def take(self, visitor: str) -> Job | None:
        """Return the visitor's job, whose turn has come; None if he cancelled it meanwhile."""
        with self._lock:
            job = self._waiting.pop(visitor, None)
            if job is not None:
                self._running[visitor] = job
            return job

    def finish(self, visitor: str, job: Job) -> bool:
        """Forget a job; tell whether it was still the visitor's."""
        with self._lock:
            if self._running.get(visitor) is not job:
                return False
            del self._running[visitor]
            return True

    def cancel(self, visitor: str) -> None:
        """Cancel what a visitor has under way or waiting, if anything."""
        with self._lock:
            found = [jobs.pop(visitor, None) for jobs in (self._waiting, self._running)]
        for job in found:
            if job is not None:
                job.cancel()

"""A model at work in a process of its own, seen from the process that asked for it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

LOGGER = logging.getLogger(__name__)

END_SECONDS = 5.0  # a killed process is gone long before


class WorkerDied(RuntimeError):
    """The process ended without an answer; the message says how."""


class Worker:
    """Start ``mobilesam.comparison.worker``, and end it when the ``with`` block is left.

    Args:
        request: What it is asked, see there.
        photo: (H, W, 3) uint8 RGB.
    """

    def __init__(self, request: dict[str, Any], photo: np.ndarray) -> None:
        paths = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mobilesam.comparison.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended = False
        threads = (
            threading.Thread(target=self._ask, args=(request, photo), daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        )
        for thread in threads:
            thread.start()
        self._threads = threads

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        for thread in self._threads:
            thread.join(END_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the rest of a request that nobody reads
                    pipe.close()

    def end(self) -> None:
        """End the process, and wait until it is gone."""
        self.process.kill()
        self.process.wait(END_SECONDS)

    def begin(self) -> None:
        """Let a process that has said it is ready load its model."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: `_listen` notices
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()

    def next_message(self, seconds: float) -> dict[str, Any] | None:
        """Return what the process said next; None if that was nothing for so many seconds.

        Raises:
            WorkerDied: It has ended, and all it said was returned already.
        """
        try:
            message = self._messages.get(timeout=seconds)
        except queue.Empty:
            return None
        if message is None:
            raise WorkerDied(self._last_words())
        return message

    def _ask(self, request: dict[str, Any], photo: np.ndarray) -> None:
        """Write the request; the pipe stays open, since the process ends when it closes."""
        head = json.dumps({**request, "size": list(photo.shape[:2])}).encode() + b"\n"
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: `_listen` notices
            self.process.stdin.write(head)
            self.process.stdin.write(np.ascontiguousarray(photo).data)
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        try:
            while line := self.process.stdout.readline():
                message = json.loads(line)
                if count := message.get("mask_bytes"):
                    message["mask_bits"] = self.process.stdout.read(count)
                    if len(message["mask_bits"]) < count:
                        break  # it has ended meanwhile
                self._messages.put(message)
        except (OSError, ValueError):  # cut off in the middle of a line
            pass
        self._messages.put(None)

    def _last_words(self) -> str:
        status = self.process.wait(END_SECONDS)
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        LOGGER.warning("A comparison's process ended with status %s: %s", status, text)
        if status == -9:  # nobody here sent that signal
            return "the system ended it, most likely for want of memory"
        return text.splitlines()[-1] if text else f"exit status {status}"

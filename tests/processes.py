"""The command line as a process of its own, with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300  # at most, for anything, on a very busy machine


def hear_ctrl_c() -> None:
    """Let a new process have SIGINT, which is ignored where the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*words: object, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    """Start a command; no file it writes may be larger than the limit."""

    def prepare() -> None:
        hear_ctrl_c()
        if limit_bytes is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", "mobilesam", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=prepare,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[Any], seconds: float = SECONDS
) -> None:
    """Wait until something is so, while a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def descendants(pid: int) -> dict[int, str]:
    """Return a process's children, their children and so on, with their command lines (Linux)."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(after_name[1])
    found: dict[int, str] = {}
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found |= {child: commands[child] for child in generation}
    return found

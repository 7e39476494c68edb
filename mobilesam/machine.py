"""This machine's processor, and how much of it may be used here."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # where a container's own bounds are told
CPUINFO = Path("/proc/cpuinfo")
THREADS_VARIABLE = "OMP_NUM_THREADS"


def machine_name() -> str:
    """Name this machine's processor and how many cores may be used."""
    count = usable_cores()
    return f"{_processor()}, {count} core{'s' if count > 1 else ''}"


def _processor() -> str:
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown processor"


def usable_cores() -> int:
    """Return how many cores may compute at once here, at least 1.

    In a container it is often fewer than the machine has: one that uses more than its share is
    stopped for the rest of each tenth of a second.
    """
    told = [_own_cores(), _quota(), _space_cores()]
    return max(1, math.ceil(min(cores for cores in told if cores is not None)))


def bound_threads() -> None:
    """Let PyTorch, here and in processes started from here, use no more threads than cores.

    To be called before PyTorch is imported, which reads ``OMP_NUM_THREADS`` then. One that is set
    already stays; without a container's bound PyTorch's own choice does.
    """
    cores = usable_cores()
    if cores < _own_cores():
        os.environ.setdefault(THREADS_VARIABLE, str(cores))


def _own_cores() -> int:
    """Count the cores on which the system lets this process run."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _quota() -> float | None:
    """Return the control group's share of processor time in cores, None where there is no bound.

    It is the container's own; bounds on a group below the root of what is seen are not looked for.
    """
    try:
        limit, period = (CGROUP / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            folder = CGROUP / "cpu"  # version 1
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        except (OSError, ValueError):
            return None
    try:
        share = int(limit) / int(period)  # "max" or -1 where there is none
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _space_cores() -> float | None:
    """Return what Hugging Face tells a Space of its cores."""
    if "SPACE_ID" not in os.environ:
        return None
    try:
        cores = float(os.environ["CPU_CORES"])
    except (KeyError, ValueError):
        return None
    return cores if 0 < cores < math.inf else None

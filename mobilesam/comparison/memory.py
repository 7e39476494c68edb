"""Whether a model fits into the memory that is free, told before it is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from mobilesam.machine import CGROUP
from mobilesam.registry import MODELS

MIB = 2**20
PROCESS_BYTES = 350 * MIB  # Python with PyTorch and timm, before any model
VALUE_BYTES = 4  # float32
# What encoding one picture takes beside the weights, as measured with PyTorch 2.13 on a CPU: SAM's
# attention lays out (heads, 4096, 4096) values several times.
ENCODE_BYTES = {
    "deit_tiny": 100 * MIB,
    "tiny_vit": 330 * MIB,
    "sam_vit_b": 2700 * MIB,
    "sam_vit_l": 3700 * MIB,
    "sam_vit_h": 3700 * MIB,
}
PHOTO_COPIES = 6  # of the photo's pixels, while it is read, resized and its mask made
MEMINFO = Path("/proc/meminfo")


def needed_bytes(file_bytes: int, photo_bytes: int = 0, name: str | None = None) -> int:
    """Estimate the peak memory of a process that loads a model and segments one photo.

    Args:
        file_bytes: Size of the checkpoint.
        photo_bytes: Size of the photo's pixels.
        name: The model's, where it has one; else its size tells which encoder it will be.
    """
    if name in MODELS:
        weights, encoder = MODELS[name].parameters * VALUE_BYTES, MODELS[name].encoder
    else:
        weights = file_bytes
        larger = [s for s in MODELS.values() if s.parameters * VALUE_BYTES >= 0.9 * file_bytes]
        kin = min(larger, key=lambda s: s.parameters, default=MODELS["sam_vit_h"])
        encoder = kin.encoder
    at_work = weights + ENCODE_BYTES[encoder] + PHOTO_COPIES * photo_bytes
    return PROCESS_BYTES + max(2 * weights, at_work)  # a file is read beside what it is read into


def free_bytes() -> int | None:
    """Return how much memory may still be taken, by the machine and by a container's bound.

    None where the system does not tell.
    """
    told = [told for told in (_machine_free(), _container_free()) if told is not None]
    return min(told) if told else None


def _machine_free() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kib) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _container_free() -> int | None:
    """Return what a control group (version 2) leaves; files it could forget count as free."""
    try:
        limit = int((CGROUP / "memory.max").read_text())  # "max" where there is none
        used = int((CGROUP / "memory.current").read_text())
        entries = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(entries.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None

"""Limits of time on a machine that may be slower just now than where they were set."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

USUAL_COUNT_S = 0.0212  # for a million steps of a loop, on two idle cores of an Intel Xeon
USUAL_COPY_S = 0.0068  # for 64 MB
ROUNDS = 3


def slowness() -> float:
    """How many times longer than usual this machine takes now, 1 at least."""
    source = np.zeros(64 * 2**20, np.uint8)
    copy = source.copy()
    counts, copies = [], []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(1_000_000):
            pass
        counts.append(time.perf_counter() - start)
        start = time.perf_counter()
        np.copyto(copy, source)
        copies.append(time.perf_counter() - start)
    counting, copying = statistics.median(counts), statistics.median(copies)
    return max(1.0, counting / USUAL_COUNT_S, copying / USUAL_COPY_S)


def assert_median_within(limit_ms: float, measure: Callable[[int], Sequence[float]]) -> None:
    """Expect the median of what a round measures to keep a limit, in one of three rounds.

    Args:
        limit_ms: Where the limit was set; a slower machine has more.
        measure: Called with the round's number; returns milliseconds.
    """
    seen = []
    for number in range(ROUNDS):
        allowed_ms = limit_ms * slowness()
        times_ms = measure(number)
        if statistics.median(times_ms) <= allowed_ms:
            return
        seen.append(f"{[round(value) for value in times_ms]} ms where {allowed_ms:.0f} is allowed")
    raise AssertionError("; ".join(seen))

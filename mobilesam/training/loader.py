"""Batches made ahead of time by other processes, and what went wrong there."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

PREFETCH = 2  # batches that each worker has ready
LAST_STEP_S = 60  # for which a reader outlives SIGTERM


@dataclass(frozen=True)
class _Failure:
    """An error that a reader process hands over; PyTorch would wrap it into a traceback."""

    error: ValueError | OSError


class _Reader(IterableDataset):
    """Batches as a reader process makes them, and in the end the error that stopped it."""

    def __init__(self, batches: IterableDataset) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.batches
        except (ValueError, OSError) as error:
            yield _Failure(error)


def training_loader(
    batches: Dataset | IterableDataset, workers: int, pin_memory: bool = False
) -> Generator[Any, None, None]:
    """Yield such batches endlessly, in the order of their steps.

    Close it in the end, whatever ends the work: a traceback keeps it otherwise, and the processes
    outlive the SIGTERM with which Python, when it ends, would end them.

    Args:
        batches: What makes them; or photos by their numbers, which end with the last.
        workers: Processes that do so; with 0, this one does. They are forked where that is usual,
            so that they share what is in memory.
        pin_memory: Whether batches lie where a GPU copies them from quickly.

    Raises:
        ValueError, OSError: As in whatever process made the batch.
    """
    loader = DataLoader(
        _Reader(batches) if isinstance(batches, IterableDataset) else batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_begin_reader if workers else None,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch


def _begin_reader(_worker: int) -> None:
    """Prepare a reader process.

    Signals are for the process that trains, but Ctrl+C goes to all, and so does SIGTERM from
    ``timeout``, Slurm and others. Were a reader to end at once, PyTorch would raise an error in
    the midst of the last step, and there would be no state to save.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LAST_STEP_S))

"""Processes that read data: what they meet reaches the one that trains."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import IterableDataset

from mobilesam.training.failures import FEWER, in_sentences
from mobilesam.training.loader import training_loader


class Killed(IterableDataset):
    """Ends its own process, as the kernel does where shared memory is too small."""

    def __iter__(self) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGBUS)
        yield 1


def test_a_reader_that_is_killed_says_what_to_do() -> None:
    expected = r"take fewer --workers, .* or make /dev/shm larger"
    with pytest.raises(ValueError, match=expected) as caught, in_sentences():
        next(training_loader(Killed(), workers=1))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ValueError, match="smaller --images-per-batch"), in_sentences():
        raise torch.OutOfMemoryError("CUDA out of memory")
    for error, said in (
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors"), "The GPU's memory ran out"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), "The GPU's memory ran out"),
        (MemoryError("Unable to allocate 9 GiB for an array"), "Memory ran out"),
    ):
        with pytest.raises(ValueError, match=f"^{said}: take fewer --jobs"), in_sentences(FEWER):
            raise error
    with pytest.raises(RuntimeError, match="a mistake of ours"), in_sentences():
        raise RuntimeError("a mistake of ours")

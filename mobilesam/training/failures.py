"""What commonly ends training or validation, in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from mobilesam.errors import is_out_of_memory

SMALLER = (
    "take a smaller --images-per-batch or, where masks are learnt, --masks-per-image or "
    "--max-corrections."
)
FEWER = "take fewer --jobs, a smaller model or --device cpu."  # for val
MEMORY = "Memory ran out: "
GPU_MEMORY = "The GPU's memory ran out: "
MEASURER_ENDED = "A process that measures ended, most often because memory ran out: "
READER_ENDED = (
    "A process that reads data ended, most often because memory or shared memory ran out: take "
    "fewer --workers, go without --in-memory, or make /dev/shm larger."
)
READER_WORDS = (  # in PyTorch's errors, none of which has a class of its own
    "DataLoader worker (pid",
    "unable to write to file </torch",
    "unable to allocate shared memory",
)


@contextmanager
def in_sentences(less: str = SMALLER) -> Iterator[None]:
    """Turn those errors that need no programmer into sentences; pass on the others.

    Args:
        less: What to do where memory runs out.

    Raises:
        ValueError: Instead of one of them.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = _said_of(error, less)
        if not said:
            raise
        raise ValueError(said) from error


def _said_of(error: Exception, less: str) -> str:
    if any(words in str(error) for words in READER_WORDS):
        return READER_ENDED
    if isinstance(error, BrokenProcessPool):
        return MEASURER_ENDED + less
    if is_out_of_memory(error):
        return (GPU_MEMORY if "CUDA" in str(error) else MEMORY) + less
    return ""

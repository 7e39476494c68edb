"""What commonly ends training or validation, in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALLER = (
    "take a smaller --images-per-batch or, where masks are learnt, --masks-per-image or "
    "--max-corrections."
)
FEWER = "take fewer --jobs, a smaller model or --device cpu."  # for val
MEMORY = "Memory ran out: "
GPU_MEMORY = "The GPU's memory ran out: "
READER_ENDED = (
    "A process that reads data ended, most often because memory or shared memory ran out: take "
    "fewer --workers, go without --in-memory, or make /dev/shm larger."
)
CAUSES = {  # words in PyTorch's errors, none of which has a class of its own
    "can't allocate memory": MEMORY,
    "CUDA error: out of memory": GPU_MEMORY,  # of a kernel's own, or of memory that is pinned
    "CUBLAS_STATUS_ALLOC_FAILED": GPU_MEMORY,
    "DataLoader worker (pid": READER_ENDED,
    "unable to write to file </torch": READER_ENDED,
    "unable to allocate shared memory": READER_ENDED,
}


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
    except torch.OutOfMemoryError as error:
        raise ValueError(GPU_MEMORY + less) from error
    except MemoryError as error:
        raise ValueError(MEMORY + less) from error
    except RuntimeError as error:
        said = next((text for words, text in CAUSES.items() if words in str(error)), None)
        if said is None:
            raise
        raise ValueError(said if said == READER_ENDED else said + less) from error

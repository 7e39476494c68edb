"""What commonly ends a training run, in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALLER = (
    "take a smaller --images-per-batch or, where masks are learnt, --masks-per-image or "
    "--max-corrections."
)
READER_ENDED = (
    "A process that reads data ended, most often because memory or shared memory ran out: take "
    "fewer --workers, go without --in-memory, or make /dev/shm larger."
)
CAUSES = {  # words in PyTorch's errors, none of which has a class of its own
    "can't allocate memory": f"Memory ran out: {SMALLER}",
    "DataLoader worker (pid": READER_ENDED,
    "unable to write to file </torch": READER_ENDED,
    "unable to allocate shared memory": READER_ENDED,
}


@contextmanager
def in_sentences() -> Iterator[None]:
    """Turn those of PyTorch's errors that need no programmer into sentences; pass on the others.

    Raises:
        ValueError: Instead of one of them.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"The GPU's memory ran out: {SMALLER}") from error
    except RuntimeError as error:
        said = next((text for words, text in CAUSES.items() if words in str(error)), None)
        if said is None:
            raise
        raise ValueError(said) from error

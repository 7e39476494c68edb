"""A run's data and folders: whether they will do is asked before anything slow begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mobilesam.files import check_folder
from mobilesam.training.config import DistillConfig, RunConfig
from mobilesam.training.sources import Source, check_source, open_source


def check_places(config: RunConfig) -> None:
    """Check that there are data, and that folders can be written; nothing is made or read.

    Neither PyTorch is imported nor a model built for it.

    Raises:
        FileNotFoundError: If there are no photos to train or to validate with.
        ValueError: If a folder cannot be written.
    """
    check_source(config.data.data, "train")
    if config.val_photos:
        with _saying_how_to_do_without():
            check_source(config.data.data, "val")
    check_folder(Path(config.out))
    if isinstance(config, DistillConfig) and config.cache is not None:
        check_folder(Path(config.cache))


def open_validation(config: RunConfig) -> Source | None:
    """Return the source of a run's validation photos; None if it shall have none.

    Raises:
        FileNotFoundError: If there are none; it says what to do.
    """
    if not config.val_photos:
        return None
    with _saying_how_to_do_without():
        return open_source(config.data.data, "val", config.val_photos)


@contextmanager
def _saying_how_to_do_without() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        hint = "To train without validation, set val_photos to 0."
        raise FileNotFoundError(f"{error} {hint}") from error

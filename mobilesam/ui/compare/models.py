"""Which models the compare tab offers, and how missing weights are had."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobilesam.checkpoints import (
    CHECKPOINTS,
    CheckpointError,
    download_folder,
    resolve_checkpoint,
)
from mobilesam.comparison import ComparisonCancelled, ComparisonError, check_memory
from mobilesam.comparison.memory import free_bytes, needed_bytes
from mobilesam.downloads import FREE_SPACE_MARGIN_BYTES
from mobilesam.registry import MODELS, available
from mobilesam.ui.compare.jobs import Job

LOGGER = logging.getLogger(__name__)

FILE_PREFIX = "file:"  # before the name of a checkpoint file, which may be called like a model


@dataclass(frozen=True)
class Choice:
    """A model that a visitor may choose.

    Attributes:
        value: What the page sends.
        title: What people read.
        source: What ``compare`` takes.
        is_here: Whether its weights are on this machine.
        size_bytes: Of the download, where it is not.
    """

    value: str
    title: str
    source: str | Path
    is_here: bool
    size_bytes: int = 0

    @property
    def label(self) -> str:
        """Its title, and that it is not on this server, if so."""
        return (
            self.title if self.is_here else f"{self.title}: not on this server, {_megabytes(self)}"
        )


def list_choices(sources: list[str | Path]) -> list[Choice]:
    """Return the models to choose from: those with a name, then checkpoint files.

    Args:
        sources: What the page's own models were loaded from; files are offered, too.
    """
    choices = []
    for spec in MODELS.values():
        is_here = available(spec.name)
        if spec.checkpoint is None and not is_here:
            continue
        size = CHECKPOINTS[spec.checkpoint].size_bytes if spec.checkpoint else None
        choices.append(Choice(spec.name, spec.title, spec.name, is_here, size or 0))
    for source in sources:
        if source not in MODELS:
            path = Path(source)
            choices.append(
                Choice(f"{FILE_PREFIX}{path.stem}", f"{path.stem} ({path.name})", path, True)
            )
    return choices


def first_two(choices: list[Choice], standard: str) -> tuple[Choice, Choice]:
    """Return the models to begin with: the page's own, and another one, if possible one here.

    Args:
        choices: At least one.
        standard: Name of the page's own model.
    """
    own = [c for c in choices if c.value in (f"{FILE_PREFIX}{standard}", standard)]
    first = (own or choices)[-1]
    others = [choice for choice in choices if choice is not first]
    here = [choice for choice in others if choice.is_here]
    return first, (here or others or [first])[0]


def describe_missing(choice: Choice) -> str:
    """Say what it takes to have a model that is not here."""
    free_disk = _free_disk()
    memory, free_memory = needed_bytes(choice.size_bytes, name=choice.value), free_bytes()
    free = "" if free_memory is None else f" of {free_memory / 1e9:.1f} GB that are free"
    return (
        f"{choice.title} is not on this server. To download: {_megabytes(choice)}, with "
        f"{free_disk / 1e9:,.1f} GB free on the disk. To run: about {memory / 1e9:.1f} GB of "
        f"memory{free}."
    )


def download_job(choice: Choice) -> Job:
    """Return the job that downloads a model's weights.

    Raises:
        ComparisonError: Disk or memory do not suffice.
    """
    free_disk = _free_disk()
    if free_disk < choice.size_bytes + FREE_SPACE_MARGIN_BYTES:
        raise ComparisonError(
            f"The disk has {free_disk / 1e6:,.0f} MB free, and {choice.title} takes "
            f"{_megabytes(choice)}; choose another model."
        )
    check_memory(choice.title, choice.value, choice.size_bytes)

    def work(job: Job) -> Path:
        job.report(0.0, f"Asking for {choice.title}, {_megabytes(choice)}")
        try:
            return resolve_checkpoint(choice.value, progress=_reporter(job, choice.title))
        except CheckpointError as error:  # its text is for those who have a shell here
            LOGGER.warning("%s", error)
            reason = error.__cause__ or "this server is told to stay offline"
            raise ComparisonError(
                f"{choice.title} could not be downloaded: {reason}. Compare models that are here."
            ) from error

    return Job(work)


def _reporter(job: Job, title: str) -> Callable[[int, int], None]:
    def report(done_bytes: int, total_bytes: int) -> None:
        if job.is_cancelled():
            raise ComparisonCancelled("The download was cancelled; what has come is kept.")
        share = done_bytes / total_bytes if total_bytes else 0.0
        words = f"{done_bytes / 1e6:,.0f} of {total_bytes / 1e6:,.0f} MB"
        job.report(share, f"Downloading {title}: {words}")

    return report


def _megabytes(choice: Choice) -> str:
    return f"{choice.size_bytes / 1e6:,.0f} MB"


def _free_disk() -> int:
    folder = download_folder()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

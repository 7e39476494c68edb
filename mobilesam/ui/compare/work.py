"""From the page's message to a comparison with its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mobilesam.comparison import Comparison, compare
from mobilesam.comparison.pictures import ComparisonPictures, draw
from mobilesam.photo_exports import fit_for_files
from mobilesam.transforms import read_image
from mobilesam.ui.compare.jobs import Job
from mobilesam.ui.compare.models import Choice
from mobilesam.ui.courtesy import Courtesy
from mobilesam.ui.messages import PromptError
from mobilesam.ui.page_objects import find_objects, parse_object, parse_objects
from mobilesam.ui.sessions import Snapshot


@dataclass(frozen=True)
class Subject:
    """Which object of which photo a comparison is about, since both may change meanwhile.

    Attributes:
        name: The object's.
        photo: The photo's file name.
        content: Tells it from other photos, but not from itself opened again.
        asked: The object's prompts as JSON: by these the page tells whether they have changed.
    """

    name: str
    photo: str
    content: str
    asked: str = "null"

    def __str__(self) -> str:
        return f"{self.name} in {self.photo}"

    @property
    def file_name(self) -> str:
        """What the figure's file is called."""
        parts = (PurePosixPath(self.photo).stem, self.name)
        return f"{fit_for_files('-'.join(parts)) or 'photo'}-comparison.png"


@dataclass(frozen=True)
class Outcome:
    """A comparison as the page shows it.

    Attributes:
        subject: What it is about.
        comparison: The numbers.
        pictures: The pictures.
        figure: All of it as a PNG.
    """

    subject: Subject
    comparison: Comparison
    pictures: ComparisonPictures
    figure: bytes


def comparison_job(
    models: Sequence[Choice | None],
    photo: Snapshot,
    message: Mapping[str, Any],
    courtesy: Courtesy,
    answering: str | Path,
) -> tuple[Subject, Job]:
    """Return what a visitor wants compared, and the job; its result is an `Outcome`.

    Args:
        models: The two that were chosen; None for one that there is not.
        photo: The visitor's.
        message: The page's; the selected object's prompts are taken.
        courtesy: What is drawn here waits for clicks that are being answered.
        answering: What the page's model was loaded from: the visitor chose among its candidates.

    Raises:
        ValueError: There is no photo, no prompt, or a model is missing.
    """
    source = photo.source
    if not photo.picture_id or source is None:
        raise PromptError("There is no photo yet; open one first.")
    if message.get("picture") not in (None, photo.picture_id):
        raise PromptError("The photo has just changed; press Compare again.")
    objects = find_objects(parse_objects(message.get("objects") or []), [message.get("active")])
    if not objects:
        raise PromptError("There is no object yet; click on the photo, then press Compare.")
    wanted = parse_object(objects[0], photo.original_size)
    chosen = [choice for choice in models if choice is not None]
    if len(chosen) != 2:
        raise PromptError("Choose two models first.")
    for choice in chosen:
        if not choice.is_here:
            raise PromptError(f"{choice.title} is not on this server; download it first.")
    pair = chosen[0].source, chosen[1].source
    arguments = wanted.prompts.as_arguments()
    arguments |= {"steps": wanted.steps, "choices": wanted.choices, "chosen_with": answering}
    raw, earlier_choices = objects[0], (wanted.choices or ())[:-1]
    asked = json.dumps([raw.get("points"), raw.get("box"), wanted.steps, earlier_choices])
    subject = Subject(wanted.name, photo.title, photo.content, asked)
    return subject, Job(lambda job: _compare(job, source, pair, arguments, courtesy, subject))


def _compare(
    job: Job,
    source: Path,
    models: tuple[str | Path, str | Path],
    arguments: Mapping[str, Any],
    courtesy: Courtesy,
    subject: Subject,
) -> Outcome:
    from mobilesam.comparison.figure import figure_png  # brings matplotlib, which takes a while

    photo = read_image(source)
    comparison = compare(
        photo, models, progress=job.report, cancelled=job.is_cancelled, **arguments
    )
    job.report(1.0, "Drawing the pictures")
    courtesy.wait()
    pictures = draw(photo, comparison)
    courtesy.wait()
    return Outcome(subject, comparison, pictures, figure_png(photo, comparison, str(subject)))


def summary(outcome: Outcome) -> str:
    """Say in a sentence what came out."""
    comparison = outcome.comparison
    first, second = comparison.titles
    runs = zip(comparison.titles, (comparison.first, comparison.second), strict=True)
    names = " and ".join(title for title, run in runs if run.is_chosen)
    chosen = f" The mask of {names} is the one that was chosen here." if names else ""
    return (
        f"Done. {outcome.subject}: {first} encoded in {comparison.first.encode_ms:,.0f} ms,"
        f" {second} in {comparison.second.encode_ms:,.0f} ms; their masks agree with an IoU of "
        f"{comparison.iou:.3f}.{chosen}"
    )

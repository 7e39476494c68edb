"""The objects that the page and the API send: checked field by field, then decoded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.everything import EverythingOptions
from mobilesam.photo_exports import PhotoObject
from mobilesam.refinement import MAX_SIGMA, Refinement
from mobilesam.steps import predict_steps
from mobilesam.ui.messages import (
    MAX_POINTS,
    PagePrompts,
    PromptError,
    is_list,
    parse_color,
    parse_name,
    parse_number,
    parse_prompts,
)

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, MaskPrediction, Predictor

MAX_OBJECTS = 50  # of one picture; the page offers no more


@dataclass(frozen=True)
class PageObject:
    """One object of the visitor's picture.

    Attributes:
        id: What the page calls it.
        name: What the visitor calls it.
        color: RGB.
        hidden: Whether it is left out of pictures and exports of all objects.
        prompts: Its points and its box.
        steps: After how many points a mask was looked at, see `steps.predict_steps`; None for the
            usual ones.
        choices: For each step which candidate was chosen; None for the best.
        refinement: What is done to its mask afterwards.
    """

    id: Any
    name: str
    color: tuple[int, int, int]
    hidden: bool
    prompts: PagePrompts
    steps: tuple[int, ...] | None
    choices: tuple[int | None, ...] | None
    refinement: Refinement

    def predict(
        self,
        predictor: Predictor,
        embedding: ImageEmbedding,
        known: MutableMapping[Hashable, np.ndarray] | None = None,
    ) -> MaskPrediction:
        """Decode all candidates of the last step.

        Raises:
            ValueError: The steps or choices do not fit the prompts.
        """
        return predict_steps(
            predictor,
            embedding,
            **self.prompts.as_arguments(),
            steps=self.steps,
            choices=self.choices,
            known=known,
        )

    def mask(self, prediction: MaskPrediction) -> np.ndarray:
        """Return its (H, W) bool mask at the photo's own size, cleaned up."""
        return self.refinement.mask(prediction.mask(self.chosen(prediction)))

    def exported(self, prediction: MaskPrediction, mask: np.ndarray) -> PhotoObject:
        """Return what a file shows of it; `mask` is its own."""
        return PhotoObject(
            mask=mask,
            name=self.name,
            color=self.color,
            score=float(prediction.iou_predictions[self.chosen(prediction)]),
            alpha=self.refinement.alpha(mask) if self.refinement.feather else None,
        )

    def chosen(self, prediction: MaskPrediction) -> int:
        """Return the index of the candidate that is this object's mask."""
        choice = self.choices[-1] if self.choices else None
        return prediction.best if choice is None else choice


def parse_objects(raw_objects: Any) -> list[Mapping[str, Any]]:
    """Check that something is a list of not too many objects; each is checked on its own.

    Raises:
        PromptError: It is not.
    """
    if not is_list(raw_objects) or not all(isinstance(raw, Mapping) for raw in raw_objects):
        raise PromptError("The objects must be a list of objects, each with points or a box.")
    if len(raw_objects) > MAX_OBJECTS:
        raise PromptError(f"At most {MAX_OBJECTS} objects are taken; got {len(raw_objects)}.")
    return list(raw_objects)


def parse_object(raw: Mapping[str, Any], original_size: tuple[int, int]) -> PageObject:
    """Check one object.

    Args:
        raw: As the page sends it: `points`, `box`, `steps`, `choices`, `refine`, and what it is
            called and looks like.
        original_size: `(height, width)` of the photo in pixels.

    Raises:
        PromptError: Something in it cannot be.
    """
    return PageObject(
        id=raw.get("id"),
        name=parse_name(raw.get("name")),
        color=parse_color(raw.get("color")),
        hidden=raw.get("hidden") is True,
        prompts=parse_prompts(raw, original_size),
        steps=_parse_whole_numbers(raw.get("steps"), "steps"),
        choices=_parse_choices(raw.get("choices")),
        refinement=parse_refinement(raw.get("refine"), original_size),
    )


def parse_refinement(raw: Any, original_size: tuple[int, int]) -> Refinement:
    """Check `area`, `smooth` and `feather`, in pixels of the photo; what is left out is 0.

    Raises:
        PromptError: One is no number, negative or too large.
    """
    if raw is None:
        return Refinement()
    if not isinstance(raw, Mapping):
        raise PromptError("The clean-up must have numbers for area, smooth and feather.")
    limits = {"area": float(np.prod(original_size)), "smooth": MAX_SIGMA, "feather": MAX_SIGMA}
    pixels = {}
    for key, limit in limits.items():
        number = parse_number(raw.get(key) or 0, f"The clean-up's {key}")
        if not 0 <= number <= limit:
            raise PromptError(
                f"The clean-up's {key} must be 0 to {limit:g} pixels; got {number:g}."
            )
        pixels[key] = number
    return Refinement(round(pixels["area"]), pixels["smooth"], pixels["feather"])


def stability_scores(prediction: MaskPrediction, predictor: Predictor) -> list[float]:
    """Return how little each candidate depends on where its edge is cut, 0 to 1.

    As everything mode measures it with the model's own offset, at low resolution.
    """
    offset = EverythingOptions.for_model(predictor.model).stability_score_offset
    return [float(score) for score in np.nan_to_num(prediction.stability_scores(offset))]


def _parse_choices(raw: Any) -> tuple[int | None, ...] | None:
    if raw is None:
        return None
    if not is_list(raw):
        raise PromptError("The choices must be a list of whole numbers or null.")
    given = [entry for entry in raw if entry is not None]
    numbers = iter(_parse_whole_numbers(given, "choices") or ())
    return tuple(None if entry is None else next(numbers) for entry in raw)


def _parse_whole_numbers(raw: Any, what: str) -> tuple[int, ...] | None:
    if raw is None:
        return None
    if not is_list(raw) or not all(type(entry) is int for entry in raw):
        raise PromptError(f"The {what} must be a list of whole numbers.")
    if len(raw) > MAX_POINTS + 1:
        raise PromptError(f"At most {MAX_POINTS + 1} {what} are taken; got {len(raw)}.")
    return tuple(raw)


def find_objects(raw_objects: Sequence[Mapping[str, Any]], wanted: Any) -> list[Mapping[str, Any]]:
    """Return the objects whose ids are wanted, in that order; unknown ids are left out."""
    by_id = {raw.get("id"): raw for raw in raw_objects if isinstance(raw.get("id"), int | str)}
    ids = [entry for entry in wanted if isinstance(entry, int | str)] if is_list(wanted) else []
    return [by_id[entry] for entry in dict.fromkeys(ids) if entry in by_id]

"""Masks click by click: each step starts from the mask of the step before (SAM, section 7.1)."""

from __future__ import annotations

import operator
from collections.abc import Hashable, MutableMapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from mobilesam.predictor import ImageEmbedding, MaskPrediction, Predictor
from mobilesam.prompts import Numbers, Prompts

LONE_CLICK_CANDIDATES, CANDIDATES = 3, 4  # as ``Predictor.candidates`` gives them


def predict_steps(
    predictor: Predictor,
    embedding: ImageEmbedding,
    points: Numbers | None = None,
    labels: Numbers | None = None,
    box: Numbers | None = None,
    *,
    steps: Sequence[int] | None = None,
    choices: Sequence[int | None] | None = None,
    known: MutableMapping[Hashable, np.ndarray] | None = None,
) -> MaskPrediction:
    """Predict the masks of a prompt that grew click by click.

    SAM's own evaluation does this: the first step decodes its points, and the box if there is one;
    every further step decodes all points up to then together with the low-res logits of the mask
    chosen before. A correction so starts from the mask that is to be corrected.

    Args:
        predictor: Holds the model that made the embedding.
        embedding: Of the picture.
        points: (N, 2) x, y in pixels of the photo, in the order they were set.
        labels: (N,) 1 to include, 0 to exclude; all 1 if left out.
        box: (4,) x0, y0, x1, y1 in pixels of the photo; part of every step.
        steps: After how many points a mask was looked at, ascending; the last is N. A leading 0 is
            the box alone. Left out: the box alone if there is one, then every point.
        choices: For each step which of its candidates was chosen, counted from 0; None is the
            best. Left out: the best everywhere. The last one is checked, and changes nothing.
        known: Keeps logits between calls for the same embedding, so that a further click costs one
            decode: of each earlier step those of the mask chosen, of the last step those of all
            candidates. The caller bounds it, and gives each embedding its own.

    Returns:
        The last step's ``Predictor.candidates``: three masks for a lone click, else four;
        ``decode_ms`` is the last step's.

    Raises:
        TypeError, ValueError: As ``Predictor.candidates``, or steps and choices do not fit the
            prompt.
    """
    if not hasattr(predictor, "check_embedding"):
        raise TypeError(f"predictor must be a Predictor; got {type(predictor).__name__}.")
    predictor.check_embedding(embedding)
    prompts = Prompts.check(embedding.original_size, points, labels, box)
    counts, chosen = check_steps(prompts, steps, choices)
    memory = {} if known is None else known
    keys = [_key(embedding, prompts, counts[: i + 1], chosen[:i]) for i in range(len(chosen))]
    start, logits = 0, None
    for index in reversed(range(len(chosen) - 1)):  # from the last step whose mask is known
        logits = memory.get((*keys[index], chosen[index]))
        if logits is not None:
            start = index
            break
    for index in range(start, len(chosen) - 1):
        choice = chosen[index]
        if index > start or logits is None:
            prediction = _decode(predictor, embedding, prompts, counts[index], logits)
            logits = prediction.low_res_logits[prediction.best if choice is None else choice]
        for other in (None, *range(CANDIDATES)):  # kept while this step was the last one
            memory.pop((*keys[index], other), None)
        logits = memory[(*keys[index], choice)] = logits.copy()  # else it holds all candidates
    prediction = _decode(predictor, embedding, prompts, counts[-1], logits)
    key = keys[-1]
    kept = prediction.low_res_logits.copy()  # the caller may write to his
    memory[(*key, None)] = kept[prediction.best]
    for candidate, low_res in enumerate(kept):
        memory[(*key, candidate)] = low_res
    return prediction


def check_steps(
    prompts: Prompts,
    steps: Sequence[int] | None = None,
    choices: Sequence[int | None] | None = None,
) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """Check the steps and choices of a prompt, and fill in what is left out.

    Args:
        prompts: Of one object.
        steps: As in ``predict_steps``.
        choices: As in ``predict_steps``.

    Returns:
        Steps and choices, of one length.

    Raises:
        TypeError: One of them is no list.
        ValueError: They do not fit the prompt.
    """
    for name, given in (("steps", steps), ("choices", choices)):
        is_array = isinstance(given, np.ndarray | torch.Tensor) and given.ndim > 0
        if given is not None and not is_array and not isinstance(given, Sequence):
            raise TypeError(f"{name} must be a list, with a value for each step; got {given!r}.")
    counts = _check_counts(steps, prompts)
    return counts, _check_choices(choices, counts, prompts)


def _decode(
    predictor: Predictor,
    embedding: ImageEmbedding,
    prompts: Prompts,
    count: int,
    logits: np.ndarray | None,
) -> MaskPrediction:
    """Decode the first ``count`` points with the box and the mask of the step before."""
    return predictor.candidates(
        embedding,
        prompts.points[:count] if count else None,
        prompts.labels[:count] if count else None,
        None if prompts.boxes is None else prompts.boxes[0],
        logits,
    )


def _key(
    embedding: ImageEmbedding,
    prompts: Prompts,
    counts: tuple[int, ...],
    chosen: tuple[int | None, ...],
) -> tuple[Hashable, ...]:
    """Return all that a step's logits depend on, beside the embedding and the step's choice."""
    box = None if prompts.boxes is None else prompts.boxes.tobytes()
    points, labels = prompts.points[: counts[-1]], prompts.labels[: counts[-1]]
    return embedding.model_identity, box, points.tobytes(), labels.tobytes(), counts, chosen


def _check_counts(steps: Sequence[int] | None, prompts: Prompts) -> tuple[int, ...]:
    count, has_box = len(prompts.points), prompts.boxes is not None
    if steps is None:
        return tuple(range(0 if has_box else 1, count + 1))
    numbers = [_whole(step) for step in steps]
    first = 0 if has_box else 1
    checked = tuple(number for number in numbers if number is not None and number >= first)
    ascending = all(a < b for a, b in pairwise(checked))
    hint = " (0 is the box alone)" if 0 in numbers and not has_box else ""
    if len(checked) != len(numbers) or not ascending or not checked or checked[-1] != count:
        raise ValueError(
            f"steps say how many points each step has: ascending, the first at least {first}{hint} "
            f"and the last {count}, all of them; got {list(steps)}."
        )
    return checked


def _check_choices(
    choices: Sequence[int | None] | None, counts: tuple[int, ...], prompts: Prompts
) -> tuple[int | None, ...]:
    if choices is None:
        return (None,) * len(counts)
    if len(choices) != len(counts):
        raise ValueError(
            f"choices must have one value for each of the {len(counts)} steps; got {len(choices)}."
        )
    checked: list[int | None] = []
    for index, choice in enumerate(choices):
        is_lone_click = index == 0 and counts[0] == 1 and prompts.boxes is None
        candidates = LONE_CLICK_CANDIDATES if is_lone_click else CANDIDATES
        number = None if choice is None else _whole(choice)
        if choice is not None and (number is None or not 0 <= number < candidates):
            raise ValueError(
                f"The choice of step {index + 1} must be 0 to {candidates - 1}, one of its "
                f"{candidates} candidates, or None (best on the command line, null in JSON) for "
                f"the best; got {choice!r}."
            )
        checked.append(number)
    return tuple(checked)


def _whole(value: Any) -> int | None:
    """Return a whole number of any type as int; None for anything else, True and False too."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None

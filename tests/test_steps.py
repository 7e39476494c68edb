"""Click by click, with the model that ships on a photo that ships."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mobilesam import ImageEmbedding, MaskPrediction, Predictor
from mobilesam.masks import mask_iou
from mobilesam.steps import predict_steps
from mobilesam.training.evaluate import _measure_clicks

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "raccoon.jpg"
POINTS, LABELS = [(620, 300), (480, 420), (100, 100)], [1, 1, 0]
BOX = (395, 20, 940, 480)


class Counting(Predictor):
    """Counts how often it decodes."""

    decodes = 0

    def candidates(self, *args: Any, **kwargs: Any) -> MaskPrediction:
        self.decodes += 1
        return super().candidates(*args, **kwargs)


@pytest.fixture
def counting(embedded: Predictor) -> Counting:
    return Counting(embedded.model)


@pytest.fixture(scope="module")
def embedding(embedded: Predictor) -> ImageEmbedding:
    return embedded.encode(PHOTO)


def check_same(a: MaskPrediction, b: MaskPrediction) -> None:
    np.testing.assert_array_equal(a.low_res_logits, b.low_res_logits)
    np.testing.assert_array_equal(a.iou_predictions, b.iou_predictions)
    assert a.best == b.best


def test_each_step_starts_from_the_mask_chosen_before(
    embedded: Predictor, embedding: ImageEmbedding
) -> None:
    first = embedded.candidates(embedding, POINTS[:1], [1])
    second = embedded.candidates(
        embedding, POINTS[:2], [1, 1], mask_input=first.low_res_logits[first.best]
    )
    third = embedded.candidates(embedding, POINTS, LABELS, mask_input=second.low_res_logits[3])
    answer = predict_steps(embedded, embedding, POINTS, LABELS, choices=[None, 3, None])
    check_same(answer, third)
    assert len(answer.masks) == 4
    another = (first.best + 1) % 3
    others = predict_steps(embedded, embedding, POINTS, LABELS, choices=[another, 3, None])
    assert (others.low_res_logits != third.low_res_logits).any()
    by_best = predict_steps(embedded, embedding, POINTS, LABELS, choices=[first.best, 3, 1])
    check_same(by_best, third)  # None is the best, and the last choice changes nothing


def test_steps_tell_when_a_mask_was_looked_at(
    embedded: Predictor, embedding: ImageEmbedding
) -> None:
    alone = predict_steps(embedded, embedding, POINTS[:1])
    check_same(alone, embedded.candidates(embedding, POINTS[:1]))
    assert len(alone.masks) == 3
    at_once = predict_steps(embedded, embedding, POINTS, LABELS, steps=[3])
    check_same(at_once, embedded.candidates(embedding, POINTS, LABELS))
    boxed = embedded.candidates(embedding, box=BOX)
    check_same(predict_steps(embedded, embedding, box=BOX), boxed)
    then = embedded.candidates(embedding, POINTS[:1], [0], BOX, boxed.low_res_logits[0])
    check_same(predict_steps(embedded, embedding, POINTS[:1], [0], BOX), then)
    together = embedded.candidates(embedding, POINTS[:1], [0], BOX)
    check_same(predict_steps(embedded, embedding, POINTS[:1], [0], BOX, steps=[1]), together)


def test_the_protocol_is_that_of_the_evaluation(
    embedded: Predictor, embedding: ImageEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = embedded.predict(embedding, box=BOX).mask(0)
    asked = []
    predict = Predictor.predict

    def noting(self: Predictor, *args: Any, **kwargs: Any) -> MaskPrediction:
        asked.append(args[1:3])
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "predict", noting)
    measured, _ = _measure_clicks(embedded, embedding, truth, None)
    assert len(asked) == 5
    for count in (1, 3, 5):
        answer = predict_steps(embedded, embedding, *asked[count - 1])
        assert mask_iou(answer.mask(answer.best), truth) == measured[f"click_{count}"]


def test_a_further_click_costs_one_decode(
    embedded: Predictor, counting: Counting, embedding: ImageEmbedding
) -> None:
    known: dict[Hashable, np.ndarray] = {}

    def ask(count: int, choices: list[int | None]) -> None:
        before = counting.decodes
        prompt = (POINTS[:count], LABELS[:count])
        answer = predict_steps(counting, embedding, *prompt, choices=choices, known=known)
        assert counting.decodes == before + 1
        check_same(answer, predict_steps(embedded, embedding, *prompt, choices=choices))

    ask(1, [None])
    ask(2, [1, None])  # another candidate was chosen since, on the page alone
    ask(3, [1, 2, None])
    assert len(known) == 2 + 5  # one for each earlier step, and all that may be chosen now
    ask(2, [1, None])  # undone
    ask(3, [1, 3, None])  # and done again from another candidate
    predict_steps(counting, embedding, POINTS, [1, 0, 0], choices=[1, 3, None], known=known)
    assert counting.decodes == 7  # the second point is another one: only the first step is known
    predict_steps(counting, embedding, POINTS, LABELS, steps=[2, 3], known=known)
    assert counting.decodes == 9


def test_what_a_caller_does_to_his_masks_does_not_reach_the_next_click(
    small_predictor: Predictor, noise_photo: np.ndarray
) -> None:
    embedding, known = small_predictor.encode(noise_photo), {}
    points = [(80, 40), (30, 60)]
    expected = predict_steps(small_predictor, embedding, points)
    first = predict_steps(small_predictor, embedding, points[:1], known=known)
    first.low_res_logits[:] = -20
    again = predict_steps(small_predictor, embedding, points, known=known)
    np.testing.assert_array_equal(again.low_res_logits, expected.low_res_logits)


@pytest.mark.parametrize(
    ("prompt", "settings", "expected"),
    [
        (
            {"points": POINTS},
            {"steps": [1, 2]},
            "at least 1 and the last 3, all of them; got [1, 2]",
        ),
        ({"points": POINTS}, {"steps": [0, 3]}, "at least 1 (0 is the box alone) and"),
        ({"points": POINTS}, {"steps": [2, 1, 3]}, "ascending, the first at least 1"),
        ({"points": POINTS}, {"steps": [1, 1, 3]}, "got [1, 1, 3]"),
        ({"points": POINTS}, {"steps": [1, 4]}, "got [1, 4]"),
        ({"points": POINTS}, {"steps": []}, "got []"),
        ({"points": POINTS}, {"steps": [1.0, 3]}, "got [1.0, 3]"),
        ({"points": POINTS}, {"steps": [True, 3]}, "got [True, 3]"),
        ({"box": BOX}, {"steps": [1]}, "at least 0 and the last 0, all of them; got [1]"),
        ({"points": POINTS}, {"choices": [None]}, "each of the 3 steps; got 1"),
        ({"points": POINTS}, {"choices": [3, 0, 0]}, "step 1 must be 0 to 2"),
        ({"points": POINTS}, {"choices": [2, 4, 0]}, "step 2 must be 0 to 3"),
        ({"points": POINTS}, {"choices": [2, 3, -1]}, "null in JSON) for the best; got -1"),
        ({"points": POINTS}, {"choices": [2, 3, "1"]}, "got '1'"),
        ({"box": BOX}, {"choices": [4]}, "step 1 must be 0 to 3"),
        ({}, {}, "No prompt was given"),
        ({"points": [(-1, 0)]}, {}, "must lie in the picture"),
    ],
)
def test_bad_steps_and_choices_are_refused_before_any_decode(
    counting: Counting,
    embedding: ImageEmbedding,
    prompt: dict[str, Any],
    settings: dict[str, Any],
    expected: str,
) -> None:
    with pytest.raises(ValueError) as refused:
        predict_steps(counting, embedding, **prompt, **settings)
    assert expected in str(refused.value)
    assert counting.decodes == 0


def test_what_is_no_list_and_no_embedding_is_named(
    counting: Counting, embedding: ImageEmbedding
) -> None:
    for name in ("steps", "choices"):
        for given in (1, np.array(1)):
            with pytest.raises(TypeError, match=rf"{name} must be a list, .*; got .*1\)?\."):
                predict_steps(counting, embedding, POINTS, **{name: given})
    with pytest.raises(TypeError, match=r"Expected a picture's embedding, got ndarray; encode"):
        predict_steps(counting, np.zeros((5, 5, 3), np.uint8), POINTS)
    assert counting.decodes == 0


def test_steps_and_choices_may_be_arrays_and_tensors(
    counting: Counting, embedding: ImageEmbedding
) -> None:
    points, given = POINTS[:2], {"steps": [1, 2], "choices": [2, 0]}
    expected = predict_steps(counting, embedding, points, **given)
    for make in (np.array, torch.tensor):
        arrays = {name: make(values) for name, values in given.items()}
        check_same(predict_steps(counting, embedding, points, **arrays), expected)


class LastFew(dict[Hashable, np.ndarray]):
    """Keeps what was written last, as a caller does who bounds his memory."""

    def __setitem__(self, key: Hashable, value: np.ndarray) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        while len(self) > 8:
            del self[next(iter(self))]


def test_a_further_click_costs_one_decode_also_where_little_is_kept(
    counting: Counting, embedding: ImageEmbedding
) -> None:
    points = [(300 + 20 * index, 200 + 10 * index) for index in range(14)]
    known = LastFew()
    for count in range(1, 15):
        answer = predict_steps(counting, embedding, points[:count], known=known)
        assert counting.decodes == count
    check_same(answer, predict_steps(counting, embedding, points))

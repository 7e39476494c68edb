"""Prompts are checked once, and every refusal says what came and what was expected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mobilesam.prompts import Prompts

SIZE = (100, 200)  # height, width


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        ({}, ValueError, "No prompt"),
        ({"points": [1, 2]}, ValueError, r"shape \(N, 2\).*got \(2,\)"),
        ({"points": []}, ValueError, "at least 1"),
        ({"points": [(1, 2, 3)]}, ValueError, r"got \(1, 3\)"),
        ({"points": [(1, 2), (3,)]}, ValueError, "unequal length"),
        ({"points": [("a", "b")]}, TypeError, "must be numbers"),
        ({"points": [(True, False)]}, TypeError, "must be numbers"),
        ({"points": [(np.nan, 1)]}, ValueError, "finite"),
        ({"points": [(1e308 * 10, 1)]}, ValueError, "finite"),
        ({"points": [(201, 5)]}, ValueError, r"x 0 to 200.*got \(201, 5\)"),
        ({"points": [(5, -1)]}, ValueError, "y 0 to 100"),
        ({"points": [(1, 1)], "labels": [1, 0]}, ValueError, "each of the 1 points"),
        ({"points": [(1, 1)], "labels": [2]}, ValueError, r"1 \(include\) or 0"),
        ({"points": [(1, 1)], "labels": [0.5]}, ValueError, r"1 \(include\) or 0"),
        ({"points": [(1, 1)], "labels": ["x"]}, TypeError, "numbers"),
        ({"labels": [1]}, ValueError, "No prompt"),
        ({"labels": [1], "box": (0, 0, 5, 5)}, ValueError, "without points"),
        ({"box": (0, 0, 5)}, ValueError, r"got shape \(3,\)"),
        ({"box": (9, 0, 5, 5)}, ValueError, "top left corner first"),
        ({"box": (5, 5, 5, 9)}, ValueError, "x1 > x0"),
        ({"box": (0, 0, 5, 101)}, ValueError, "lie in the picture"),
        ({"box": (0, 0, np.inf, 5)}, ValueError, "finite"),
        ({"boxes": [0, 0, 5, 5]}, ValueError, r"shape \(N, 4\)"),
        ({"boxes": [(0, 0, 5, 5)], "points": [(1, 1)]}, ValueError, "cannot be combined"),
    ],
)
def test_bad_prompts_are_refused(prompt: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Prompts.check(SIZE, **prompt)


def test_points_without_a_box_are_followed_by_padding() -> None:
    coords, labels = Prompts.check(SIZE, [(3, 4), (5, 6)], [1, 0]).as_labelled_points()
    assert coords.tolist() == [[[3, 4], [5, 6], [0, 0]]]
    assert labels.tolist() == [[1, 0, -1]]


def test_a_mask_alone_needs_no_padding() -> None:
    coords, labels = Prompts.check(SIZE, has_mask_input=True).as_labelled_points()
    assert (coords.shape, labels.shape) == ((1, 0, 2), (1, 0))


def test_tensors_and_truth_values_are_taken() -> None:
    prompts = Prompts.check(SIZE, torch.tensor([[3.5, 4], [5, 6]]), [True, False])
    assert prompts.points.tolist() == [[3.5, 4], [5, 6]]
    assert prompts.labels.tolist() == [1, 0]
    boxes = torch.tensor([[1.0, 2, 7, 8]], requires_grad=True)
    assert Prompts.check(SIZE, boxes=boxes).boxes.tolist() == [[1, 2, 7, 8]]


def test_a_box_becomes_two_corners() -> None:
    prompts = Prompts.check(SIZE, [(3, 4)], box=(1, 2, 7, 8))
    coords, labels = prompts.as_labelled_points()
    assert coords.tolist() == [[[3, 4], [1, 2], [7, 8]]]
    assert labels.tolist() == [[1, 2, 3]]
    assert not prompts.is_single_click


def test_several_boxes_are_a_batch() -> None:
    coords, labels = Prompts.check(SIZE, boxes=[(1, 2, 7, 8), (0, 0, 9, 9)]).as_labelled_points()
    assert coords.shape == (2, 2, 2)
    assert labels.tolist() == [[2, 3], [2, 3]]


def test_the_edges_belong_to_the_picture() -> None:
    Prompts.check(SIZE, [(0, 0), (200, 100)], box=(0, 0, 200, 100))
    assert Prompts.check(SIZE, [(0, 0)]).is_single_click

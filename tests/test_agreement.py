"""Agreement of two models' masks, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from validation_stubs import Scripted, half, row

from mobilesam import Predictor
from mobilesam.training.agreement import (
    DISTANCES,
    PUBLISHED,
    Agreement,
    BoxAgreement,
    PointAgreement,
    summarise_points,
    summarise_truth,
    two_point_agreement,
    two_points,
)

SIZE = (300, 400)  # px: a distance of 100 is 39.0625 px here


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_two_points_lie_on_the_photo_at_their_distance(distance: int) -> None:
    prompts = two_points(SIZE, "a-1", distance, seed=3, count=50)
    points = np.array(prompts)  # (50, 2, 2)
    assert points.shape == (50, 2, 2)
    assert points.min() >= 0
    assert points[..., 0].max() <= 399 and points[..., 1].max() <= 299
    apart = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    np.testing.assert_allclose(apart, distance * 400 / 1024)


def test_directions_and_places_differ() -> None:
    points = np.array(two_points((1024, 1024), "a-1", 100, count=400))
    x, y = points[:, 0].T
    assert np.histogram2d(x, y, bins=2, range=[[0, 1024]] * 2)[0].min() > 60  # of 100 expected
    dx, dy = (points[:, 1] - points[:, 0]).T
    quadrants = np.histogram2d(dx > 0, dy > 0, bins=2)[0]
    assert quadrants.min() > 60


def test_prompts_depend_on_photo_seed_and_distance_alone() -> None:
    prompts = two_points(SIZE, "a-1", 100)
    assert two_points(SIZE, "a-1", 100) == prompts
    assert two_points(SIZE, "a-1", 100, count=3)[:1] == prompts
    others = [two_points(SIZE, "a-2", 100), two_points(SIZE, "a-1", 100, seed=1)]
    others.append(two_points(SIZE, "a-1", 200))
    assert all(other[0][0] != prompts[0][0] for other in others)


def test_a_photo_that_is_too_small_gets_no_prompt() -> None:
    assert two_points((1024, 1024), "a-1", 1200)  # longer than a side: slantwise only
    assert two_points((1024, 1024), "a-1", 1448) == []


def test_both_models_get_the_same_prompt() -> None:
    left, upper = half(*SIZE, left=True), half(*SIZE, left=False)
    one, other = Scripted(lambda _: ([left], [0.5])), Scripted(lambda _: ([upper], [0.5]))
    embedding = SimpleNamespace(original_size=SIZE)
    results = two_point_agreement(
        (one, embedding), (other, embedding), "a-1", distances=(100, 5000), count=2
    )
    assert one.prompts == other.prompts
    assert [prompt["labels"] for prompt in one.prompts] == [[1, 0], [1, 0]]
    assert not any(prompt["multimask_output"] for prompt in one.prompts)
    near, also_near, far = results
    assert (near.iou, also_near.iou, far.iou) == (1 / 3, 1 / 3, None)  # a quarter of three
    assert [list(near.foreground), list(near.background)] == [
        list(point) for point in one.prompts[0]["points"]
    ]


def test_a_model_agrees_with_itself(small_predictor: Predictor, noise_photo: np.ndarray) -> None:
    side = (small_predictor, small_predictor.encode(noise_photo))
    results = two_point_agreement(side, side, "a-1")
    assert [result.iou for result in results] == [1.0] * 5


def test_agreement_is_averaged_by_distance() -> None:
    points = [
        PointAgreement("a-1", 100, (1, 1), (2, 2), 0.5),
        PointAgreement("a-2", 100, (1, 1), (2, 2), 1.0),
        PointAgreement("a-1", 500, (1, 1), (2, 2), 0.25),
        PointAgreement("a-2", 500, None, None, None),
        PointAgreement("a-1", 900, None, None, None),
    ]
    assert summarise_points(points) == [
        {"distance": 100, "mean_iou": 0.75, "prompts": 2, "photos_left_out": 0},
        {"distance": 500, "mean_iou": 0.25, "prompts": 1, "photos_left_out": 1},
        {"distance": 900, "mean_iou": None, "prompts": 0, "photos_left_out": 1},
    ]


def test_both_models_are_set_beside_the_truth() -> None:
    rows = [row("a-1", box=0.9), row("b-1", box=0.5)]
    against = [row("a-1", box=0.8), row("b-1", box=0.8)]
    boxes = [BoxAgreement("a-1", "a", 0, 1.0), BoxAgreement("b-1", "b", 0, 0.5)]
    summary = summarise_truth(rows, Agreement([], boxes, against))
    assert list(summary) == ["overall", "a", "b"]
    assert summary["overall"]["box_agreement"] == 0.75
    assert summary["overall"]["box"] == {
        "model": pytest.approx(0.7),
        "against": pytest.approx(0.8),
        "difference": pytest.approx(-0.1),
    }
    assert summary["a"]["box"]["difference"] == pytest.approx(0.1)
    assert summary["b"]["box_agreement"] == 0.5
    assert "box_itself" not in summary["a"]


def test_the_paper_is_quoted_rightly() -> None:
    assert DISTANCES == (100, 200, 300, 400, 500)
    assert list(PUBLISHED["MobileSAM (paper)"].values()) == [0.73, 0.71, 0.74, 0.73, 0.73]
    assert list(PUBLISHED["FastSAM (paper)"].values()) == [0.27, 0.33, 0.37, 0.41, 0.41]

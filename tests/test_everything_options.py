"""Everything mode's options and grids, and what is refused."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from mobilesam import EverythingOptions, Predictor, SamAutomaticMaskGenerator, generate
from mobilesam.modeling import Sam
from mobilesam.point_grids import coarse_to_fine, crop_boxes, point_grid

SAMS_ARGUMENTS = {
    "points_per_side": 32,
    "points_per_batch": 64,
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.95,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.7,
    "crop_n_layers": 0,
    "crop_nms_thresh": 0.7,
    "crop_overlap_ratio": 512 / 1500,
    "crop_n_points_downscale_factor": 1,
    "point_grids": None,
    "min_mask_region_area": 0,
    "output_mode": "binary_mask",
}


def test_the_generator_has_sams_arguments() -> None:
    model, *parameters = inspect.signature(SamAutomaticMaskGenerator).parameters.values()
    assert model.name == "model"
    assert [(p.name, p.default) for p in parameters] == list(SAMS_ARGUMENTS.items())


def test_coarse_to_fine_asks_about_each_point_once() -> None:
    levels = coarse_to_fine(point_grid(8))
    assert [len(level) for level in levels] == [4, 12, 48]
    assert sorted(np.concatenate(levels)) == list(range(64))
    sparse = point_grid(8)[levels[0]] * 8 - 0.5  # which column and row
    assert sparse.tolist() == [[1, 1], [5, 1], [1, 5], [5, 5]]
    odd = np.random.default_rng(0).random((37, 2))
    assert sorted(np.concatenate(coarse_to_fine(odd))) == list(range(37))
    assert [len(level) for level in coarse_to_fine(point_grid(1))] == [1]


def test_the_grid_by_hand() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_crops_by_hand() -> None:
    # overlap int(0.25 * 100 * 2 / 2) = 25: each crop is (25 + 200) / 2 wide and (25 + 100) / 2 high
    boxes = crop_boxes((100, 200), 1, 0.25)
    assert boxes == [
        ((0, 0, 200, 100), 0),
        ((0, 0, 113, 63), 1),
        ((0, 38, 113, 100), 1),
        ((88, 0, 200, 63), 1),
        ((88, 38, 200, 100), 1),
    ]
    assert len(crop_boxes((1000, 1000), 2, 0.3)) == 1 + 4 + 16
    assert crop_boxes((1, 1), 2, 0.3) == [((0, 0, 1, 1), layer) for layer in range(3)]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"points_per_side": None}, ValueError, "points_per_side or point_grids .* got neither"),
        ({"point_grids": [point_grid(2)]}, ValueError, "got both"),
        ({"points_per_side": 0}, ValueError, "points_per_side must be at least 1; got 0"),
        ({"points_per_side": 2.5}, TypeError, "points_per_side must be a whole number; got 2.5"),
        (
            {"points_per_side": None, "point_grids": 5},
            TypeError,
            r"point_grids must be a list of \(N, 2\) arrays, .*; got int",
        ),
        (
            {"points_per_side": None, "point_grids": [[[0.1, 0.2], [0.3]]]},
            ValueError,
            "point_grids must be .*; got rows of unequal length",
        ),
        ({"fast": "no"}, TypeError, "fast must be True or False; got 'no'"),
        ({"points_per_batch": 0}, ValueError, "points_per_batch must be at least 1"),
        ({"points_per_batch": True}, TypeError, "whole number; got True"),
        ({"pred_iou_thresh": "0.9"}, TypeError, "pred_iou_thresh must be a number; got '0.9'"),
        ({"pred_iou_thresh": float("nan")}, ValueError, "pred_iou_thresh must be finite; got nan"),
        ({"stability_score_offset": -1}, ValueError, "must be at least 0; got -1"),
        ({"box_nms_thresh": float("inf")}, ValueError, "box_nms_thresh must be at least 0"),
        ({"crop_n_layers": -1}, ValueError, "crop_n_layers must be at least 0"),
        ({"crop_n_layers": 9}, ValueError, "at most 5; got 9"),
        ({"crop_overlap_ratio": 1.0}, ValueError, "from 0 to below 1; got 1.0"),
        ({"min_mask_region_area": -5}, ValueError, "min_mask_region_area must be at least 0"),
        (
            {"points_per_side": 3, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2},
            ValueError,
            "3 points per side, thinned 2 times by 2, has no points left",
        ),
        (
            {"points_per_side": None, "point_grids": [point_grid(2)], "crop_n_layers": 1},
            ValueError,
            "one for each of the 1 crop_n_layers; got 1",
        ),
        (
            {"points_per_side": None, "point_grids": [np.zeros((2, 3))]},
            ValueError,
            r"an \(N, 2\) array .* got float64 of shape \(2, 3\)",
        ),
        (
            {"points_per_side": None, "point_grids": [np.array([[0.5, 20.0]])]},
            ValueError,
            "between 0 and 1, shares .* got 0.5 to 20",
        ),
    ],
)
def test_bad_options(changes: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        replace(EverythingOptions(), **changes)


def test_bad_arguments(small_predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="binary_mask, uncompressed_rle, coco_rle; got 'png'"):
        SamAutomaticMaskGenerator(small_predictor.model, output_mode="png")
    generator = SamAutomaticMaskGenerator(small_predictor.model)
    with pytest.raises(TypeError, match="must be uint8"):
        generator.generate(np.zeros((20, 20, 3)))
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\)"):
        generator.generate(np.zeros((20, 20), np.uint8))
    with pytest.raises(ValueError, match="empty"):
        generator.generate(np.zeros((0, 20, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match="absent"):
        generate(small_predictor, "absent.png", EverythingOptions())
    with pytest.raises(TypeError, match="options must be EverythingOptions; got dict"):
        generate(small_predictor, np.zeros((20, 20, 3), np.uint8), {"points_per_side": 4})


def test_grids_in_one_array() -> None:
    grid = np.array([[0.5, 0.5], [0.25, 0.75]])
    options = EverythingOptions(points_per_side=None, point_grids=grid[None])
    assert np.array_equal(options.grids()[0], grid)
    with pytest.raises(ValueError, match=r"Each of point_grids must be an \(N, 2\) array"):
        EverythingOptions(points_per_side=None, point_grids=grid)


def test_a_model_is_no_predictor_and_the_other_way_round(small_predictor: Predictor) -> None:
    with pytest.raises(TypeError, match="generate takes a predictor"):
        generate(small_predictor.model, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TypeError, match="Expected a model, as load_model"):
        EverythingOptions.for_model(small_predictor)


def test_crops_may_be_left_out_of_what_was_made_with_them(
    small_model: Sam, noise_photo: np.ndarray
) -> None:
    generator = SamAutomaticMaskGenerator(small_model, points_per_side=2, crop_n_layers=1)
    generator.crop_n_layers = 0
    generator.generate(noise_photo)
    assert len(EverythingOptions(None, point_grids=[point_grid(2)] * 3).grids()) == 1

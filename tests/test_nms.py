"""Non-maximum suppression, by hand and against the algorithm written out box by box."""

from __future__ import annotations

import numpy as np
import pytest

from mobilesam.nms import box_iou, nms


def one_by_one(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Do what torchvision's CPU code does: a stable sort, then pair by pair in float32.

    Two boxes without area are compared by their pixels instead.
    """
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    dropped: set[int] = set()
    flat = ((boxes[:, 2:] - boxes[:, :2]) == 0).any(axis=1)
    for position, i in enumerate(order):
        for j in order[position + 1 :]:
            one, other = (boxes[k] + [0, 0, *[flat[i] and flat[j]] * 2] for k in (i, j))
            one, other = one.astype(np.float32), other.astype(np.float32)
            width = max(np.float32(0), min(one[2], other[2]) - max(one[0], other[0]))
            height = max(np.float32(0), min(one[3], other[3]) - max(one[1], other[1]))
            areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
            shared, union = width * height, areas - width * height
            if i not in dropped and float(shared / union) > threshold:
                dropped.add(j)
    return [i for i in order if i not in dropped]


def test_iou_by_hand() -> None:
    box = np.array([0, 0, 10, 10])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 7]])
    np.testing.assert_allclose(box_iou(box, others), [1, 50 / 150, 0, 10 / 100])


def test_the_best_of_overlapping_boxes_stays() -> None:
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [2, 0, 12, 10], [31, 0, 41, 10]]
    scores = [0.5, 0.9, 0.3, 0.7, 0.4]
    # IoU of boxes 1 apart: 90 / 110, 2 apart: 80 / 120
    np.testing.assert_array_equal(nms(np.array(boxes), np.array(scores), 0.7), [1, 4])
    np.testing.assert_array_equal(nms(np.array(boxes), np.array(scores), 0.81), [1, 4])
    np.testing.assert_array_equal(nms(np.array(boxes), np.array(scores), 0.82), [1, 3, 0, 4, 2])


def test_what_a_dropped_box_overlaps_may_stay() -> None:
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # 60 / 140 and 20 / 180
    np.testing.assert_array_equal(nms(boxes, np.array([3, 2, 1]), 0.4), [0, 2])


def test_an_overlap_of_exactly_the_threshold_passes() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]])
    np.testing.assert_array_equal(nms(boxes, np.array([1, 1]), 0.5), [0, 1])
    np.testing.assert_array_equal(nms(boxes, np.array([1, 1]), 0.4999), [0])


def test_boxes_without_area_are_compared_by_their_pixels() -> None:
    same_points = np.array([[3, 3, 3, 3], [3, 3, 3, 3], [0, 0, 10, 10]])
    np.testing.assert_array_equal(nms(same_points, np.array([1, 2, 3]), 0.5), [2, 1])
    np.testing.assert_array_equal(nms(same_points, np.array([1, 2, 3]), 1.0), [2, 1, 0])
    row = np.array([5, 0, 14, 0])  # 10 pixels
    others = np.array([[5, 0, 14, 0], [5, 0, 12, 0], [5, 1, 14, 1], [5, 0, 5, 9], [5, 0, 14, 1]])
    np.testing.assert_allclose(box_iou(row, others), [1, 8 / 10, 0, 1 / 19, 0])


def test_no_boxes() -> None:
    assert len(nms(np.zeros((0, 4)), np.zeros(0), 0.5)) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_order_and_ties(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (90, 2, 2))  # whole numbers: many equal boxes and overlaps
    boxes = np.sort(corners, axis=1).reshape(-1, 4).astype(np.float32)
    scores = rng.integers(0, 6, 90).astype(np.float32) / 10
    assert nms(boxes, scores, threshold).tolist() == one_by_one(boxes, scores, threshold)


def test_the_threshold_is_not_rounded_to_float32() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 3]])  # IoU is float32's 0.3, above the true 0.3
    assert float(np.float32(0.3)) > 0.3
    assert nms(boxes, np.array([2, 1]), 0.3).tolist() == [0]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 4\) .*got \(3, 2\) and \(3,\)"):
        nms(np.zeros((3, 2)), np.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"got \(3, 4\) and \(2,\)"):
        nms(np.zeros((3, 4)), np.zeros(2), 0.5)

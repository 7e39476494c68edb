"""Boxes and overlaps of masks, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np

from mobilesam.masks import mask_iou, mask_to_box


def test_iou_by_hand() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True  # 8 pixels each, 4 in common
    assert mask_iou(a, b) == 4 / 12
    assert mask_iou(a, b, valid=a) == 4 / 8
    assert mask_iou(a, ~a) == 0
    assert mask_iou(a & ~a, b & ~b) == 1


def test_box_by_hand() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:5, 7:12] = True
    assert mask_to_box(mask) == (7, 3, 12, 5)
    assert mask_to_box(mask & False) == (0, 0, 0, 0)

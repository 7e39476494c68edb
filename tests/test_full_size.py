"""A mask at the photo's size, window by window, is what upsampling everything gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mobilesam import rle
from mobilesam.full_size import FullSize
from mobilesam.transforms import input_size_for, upscale_logits

FRAME = 256  # px, with 64 x 64 low-res logits


def blobs(seed: int, mean: float = -1.0) -> torch.Tensor:
    """Return smooth (64, 64) logits with a few islands."""
    coarse = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (64, 64), mode="bicubic")[0, 0] * 5 + mean


def island(top: int, left: int) -> torch.Tensor:
    """Return (64, 64) logits of a small cone, far below zero elsewhere."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return 4.0 - ((y - top) ** 2 + (x - left) ** 2).sqrt()


SIZES = [(107, 160), (256, 256), (600, 800), (5, 300), (300, 5), (1, 1), (40, 40), (256, 170)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("logits", [blobs(0), blobs(1, 3.0), island(9, 20), island(0, 0)])
def test_a_region_is_the_mask(size: tuple[int, int], logits: torch.Tensor) -> None:
    input_size = input_size_for(size, FRAME)
    whole = upscale_logits(logits[None], input_size, FRAME, size)[0].numpy()
    region = FullSize((64, 64), input_size, FRAME, size).region(logits, 0.0, 0.7)
    larger, smaller = (np.count_nonzero(whole > cut) for cut in (-0.7, 0.7))
    mask = rle.decode({"size": size, "counts": region.counts(size)})
    assert np.count_nonzero(mask != (whole > 0)) <= 1e-5 * mask.size  # float rounding
    assert region.area == np.count_nonzero(mask)
    if larger:
        assert region.stability_score == pytest.approx(smaller / larger, abs=1e-4)
    else:
        assert np.isnan(region.stability_score)
    y, x = np.nonzero(mask)
    if len(x):
        assert region.box == (x.min(), y.min(), x.max(), y.max())


def test_run_lengths_in_a_larger_picture() -> None:
    size, place = (40, 60), (7, 11)  # x, y
    region = FullSize((64, 64), input_size_for(size, FRAME), FRAME, size).region(blobs(3), 0.0, 1.0)
    alone = rle.decode({"size": size, "counts": region.counts(size)})
    larger = np.zeros((90, 80), bool)
    larger[11 : 11 + 40, 7 : 7 + 60] = alone
    assert region.counts((90, 80), *place).tolist() == rle.encode(larger)["counts"]


def test_a_region_costs_no_more_than_its_window() -> None:
    size = (1000, 1000)
    region = FullSize((64, 64), (FRAME, FRAME), FRAME, size).region(island(32, 32), 0.0, 1.0)
    radius = 4 * 1000 / 64
    assert region.area == pytest.approx(np.pi * radius**2, rel=0.05)
    assert region.columns.size < 4 * region.area


def test_an_empty_mask() -> None:
    for low in (-9.0, -0.5):  # below the lower cut, and between it and the middle one
        region = FullSize((64, 64), (FRAME, FRAME), FRAME, (30, 20)).region(
            torch.full((64, 64), low), 0.0, 1.0
        )
        assert (region.area, region.box) == (0, (0, 0, 0, 0))
        assert region.counts((30, 20)).tolist() == [600]
        np.testing.assert_equal(region.stability_score, np.nan if low == -9 else 0.0)


def test_a_mask_that_covers_everything() -> None:
    region = FullSize((64, 64), (FRAME, 170), FRAME, (30, 20)).region(
        torch.full((64, 64), 9.0), 0.0, 1.0
    )
    assert (region.area, region.box, region.stability_score) == (600, (0, 0, 19, 29), 1.0)
    assert region.counts((30, 20)).tolist() == [0, 600]

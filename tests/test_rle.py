"""Run lengths against pycocotools, which reads and writes the same two spellings."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pycocotools import mask as coco

from mobilesam import rle

# of pycocotools itself, whose arrays know an older NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _blobs(height: int, width: int, seed: int) -> np.ndarray:
    """Draw overlapping disks: long runs, as real masks have them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(6):
        centre_x, centre_y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(1, max(height, width) / 3)
        mask ^= (x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2
    return mask


def _masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    masks = [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.zeros((1, 1), bool)]
    masks += [np.ones((1, 1), bool), np.ones((1, 40), bool), np.zeros((40, 1), bool)]
    for place in ((0, 0), (4, 6), (2, 3), (0, 6), (4, 0)):
        one = np.zeros((5, 7), bool)
        one[place] = True
        masks.append(one)
    for number in range(60):
        height, width = (int(side) for side in rng.integers(1, 70, 2))
        masks.append(rng.random((height, width)) < rng.choice([0.02, 0.5, 0.98]))
        masks.append(_blobs(height + 200, width + 300, number))
    masks += [rng.random((1, 90)) < 0.5, rng.random((90, 1)) < 0.5]
    masks += [np.indices((31, 17)).sum(0) % 2 == first for first in (0, 1)]
    masks.append(_blobs(1500, 2250, 1))
    return masks


MASKS = _masks()


def test_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)  # down the columns: 0 0 1 1 1 0
    assert rle.encode(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert rle.encode(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    assert rle.compress(rle.encode(mask)) == {"size": [2, 3], "counts": "231"}
    assert rle.encode(np.zeros((2, 3), bool))["counts"] == [6]
    assert rle.encode(np.ones((2, 3), bool))["counts"] == [0, 6]
    assert rle.area({"size": [2, 3], "counts": [2, 3, 1]}) == 3


def test_encoding_equals_pycocotools() -> None:
    for mask in MASKS:
        ours, theirs = rle.encode(mask), coco.encode(np.asfortranarray(mask, np.uint8))
        assert rle.compress(ours)["counts"] == theirs["counts"].decode()
        assert coco.frPyObjects(ours, *mask.shape)["counts"] == theirs["counts"]
        assert all(type(count) is int for count in [*ours["size"], *ours["counts"]])


def test_decoding_equals_pycocotools() -> None:
    for mask in MASKS:
        theirs = coco.encode(np.asfortranarray(mask, np.uint8))
        as_text = {"size": theirs["size"], "counts": theirs["counts"].decode()}
        for spelled in (theirs, as_text, rle.encode(mask)):
            decoded = rle.decode(spelled)
            assert decoded.dtype == bool and decoded.flags.c_contiguous
            np.testing.assert_array_equal(decoded, coco.decode(theirs).astype(bool))
            assert rle.area(spelled) == int(coco.area(theirs)) == mask.sum()
        assert rle.compress(theirs) == as_text


def test_some_columns_equal_those_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    for mask in MASKS:
        x0 = int(rng.integers(mask.shape[1]))
        x1 = int(rng.integers(x0, mask.shape[1])) + 1
        part = rle.decode(rle.encode(mask), columns=(x0, x1))
        np.testing.assert_array_equal(part, mask[:, x0:x1])


def test_long_runs_need_many_characters() -> None:
    mask = np.zeros((6000, 6000), bool)
    mask[-1, -1] = True
    spelled = rle.compress(rle.encode(mask))
    assert spelled["counts"] == coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert rle.decode(spelled).sum() == 1


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ({"size": [2, 3], "counts": [2, 3]}, "add up to 6, .* got 5"),
        ({"size": [2, 3], "counts": [2, 3, 1, 4]}, "got 10"),
        ({"size": [2, 3], "counts": []}, "got 0"),
        ({"size": [2, 3], "counts": ""}, "got 0"),
        ({"size": [2, 3], "counts": [2, -3, 7]}, "must not be negative; got -3"),
        ({"size": [2, 3], "counts": [2.5, 3.5]}, "must be integers"),
        ({"size": [2, 3], "counts": [2, "3", 1]}, "must be integers"),
        ({"size": [2, 3], "counts": [2, [3], 1]}, "must be integers"),
        ({"size": [2, 3], "counts": [[6]]}, "must be integers"),
        ({"size": [2, 3], "counts": [2**70]}, "must be integers"),
        ({"size": [2, 3], "counts": None}, "must be integers, or COCO's text; got None"),
        ({"size": [2, 3], "counts": "23!"}, "characters 0 to o of ASCII; got '23!'"),
        ({"size": [2, 3], "counts": "23é"}, "characters 0 to o"),
        ({"size": [2, 3], "counts": b"23\xff"}, "characters 0 to o"),
        ({"size": [2, 3], "counts": "23Q"}, "cut off"),
        ({"size": [2, 3], "counts": "o" * 20 + "0"}, "at most 12 characters; got one of 21"),
        ({"size": [2, 0], "counts": [0]}, "two positive integers; got \\[2, 0\\]"),
        ({"size": [2], "counts": [2]}, "two positive integers"),
        ({"size": "23", "counts": [6]}, "two positive integers"),
        ({"size": [2, 3.0], "counts": [6]}, "two positive integers"),
        ({"counts": [6]}, "got keys \\['counts'\\]"),
        ([6], "got list"),
    ],
)
def test_damage_is_reported(spelled: object, expected: str) -> None:
    for function in (rle.decode, rle.area, rle.compress):
        with pytest.raises(ValueError, match=expected):
            function(spelled)


def test_counts_that_only_overflow_to_the_right_sum_are_refused() -> None:
    wrapping = [2**62, 2**62, 2**62, 2**62, 6]  # 6 modulo 2**64
    with pytest.raises(ValueError, match="add up to 6"):
        rle.decode({"size": [2, 3], "counts": wrapping})
    with pytest.raises(ValueError, match="add up to 6"):
        rle.decode({"size": [2, 3], "counts": wrapping + [0] * 2000})


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 3), np.uint8), np.zeros(6, bool), np.zeros((0, 3), bool), [[True]], None]
)
def test_only_bool_masks_are_encoded(mask: object) -> None:
    with pytest.raises(ValueError, match="must be an \\(H, W\\) bool array"):
        rle.encode(mask)


@pytest.mark.parametrize("columns", [(0, 4), (-1, 2), (2, 2), (2, 1)])
def test_columns_outside_are_refused(columns: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0 <= x0 < x1 <= 3"):
        rle.decode({"size": [2, 3], "counts": [6]}, columns)


def test_twelve_megapixels_are_quick() -> None:
    mask = np.kron(_blobs(300, 400, 3), np.ones((10, 10), bool))
    times = []
    for _ in range(3):
        start = time.process_time()
        decoded = rle.decode(rle.compress(rle.encode(mask)))
        times.append(time.process_time() - start)
    np.testing.assert_array_equal(decoded, mask)
    assert min(times) < 0.5  # measured: 0.03 s in all; a loop over pixels takes seconds

"""The official MobileSAM checkpoint itself, where this machine has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilesam import Predictor, load_model
from mobilesam.checkpoints import CHECKPOINTS, find_checkpoint

EXAMPLES = Path(__file__).parents[1] / "examples"
CLICKS = {"cat.jpg": (0.45, 0.4), "raccoon.jpg": (0.6, 0.45)}  # shares of width and height


@pytest.fixture(scope="module")
def mobile_sam() -> Predictor:
    path = find_checkpoint("mobile_sam")
    if path is None or path.stat().st_size != CHECKPOINTS["mobile_sam"].size_bytes:
        pytest.skip(
            "the official mobile_sam.pt is not on this machine; "
            "`python -m mobilesam download mobile_sam` fetches it"
        )
    return Predictor(load_model("mobile_sam", download=False))


@pytest.mark.real_weights
@pytest.mark.parametrize("photo", CLICKS)
def test_a_click_on_an_example_finds_its_subject(mobile_sam: Predictor, photo: str) -> None:
    embedding = mobile_sam.encode(EXAMPLES / photo)
    height, width = embedding.original_size
    x, y = (int(share * side) for share, side in zip(CLICKS[photo], (width, height), strict=True))
    result = mobile_sam.predict(embedding, points=[(x, y)])
    mask = result.mask(result.best)
    assert mask[y, x]
    assert 0.02 < mask.mean() < 0.9
    assert result.iou_predictions[result.best] > 0.8

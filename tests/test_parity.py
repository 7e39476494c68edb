"""Our networks compute what the original code computes, with checkpoints in the official layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from mobilesam import Predictor, load_model, registry
from mobilesam.predictor import ImageEmbedding
from tests.official_checkpoints import FIXTURES, write_official_checkpoint

POINT = {"points": [(170, 120)], "labels": [1]}
BOX = {"box": (80, 60, 260, 180)}
CASES = {
    "point": {**POINT, "multimask_output": True},
    "points": {
        "points": [(170, 120), (300, 60), (200, 150)],
        "labels": [1, 0, 1],
        "multimask_output": False,
    },
    "box": {**BOX, "multimask_output": False},
    "box_point": {"points": [(100, 90)], "labels": [0], **BOX, "multimask_output": True},
    "mask": {**POINT, "multimask_output": False},  # and the first mask of "point"
}


pytestmark = pytest.mark.parity


class Setup(NamedTuple):
    predictor: Predictor
    embedding: ImageEmbedding
    reference: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["t", "b"], ids=["mobile_sam", "sam_vit_b"])
def official(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_official_checkpoint(request.param, folder)
    name = {"t": "mobile_sam", "b": "sam_vit_b"}[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBILESAM_CHECKPOINT_DIR", str(folder))
        predictor = Predictor(load_model(name, download=False))
    image = np.asarray(Image.open(FIXTURES / "reference_image.png"))
    reference = dict(np.load(FIXTURES / f"reference_vit_{request.param}.npz"))
    yield Setup(predictor, predictor.encode(image), reference)
    registry._load.cache_clear()


def test_embedding(official: Setup) -> None:
    features = official.embedding.features.numpy()
    expected = official.reference["embedding_values"]
    assert features.shape == (1, 256, 64, 64)
    sampled = features.ravel()[official.reference["embedding_index"]]
    assert np.abs(sampled - expected).max() <= 1e-4
    assert abs(features.mean() - float(official.reference["embedding_mean"])) <= 1e-4
    assert official.embedding.input_size == tuple(official.reference["input_size"])
    assert official.embedding.original_size == tuple(official.reference["original_size"])


@pytest.mark.parametrize("case", CASES)
def test_masks(official: Setup, case: str) -> None:
    predictor, embedding, reference = official
    extra = {}
    if case == "mask":
        extra["mask_input"] = predictor.predict(embedding, **CASES["point"]).low_res_logits[:1]
    result = predictor.predict(embedding, **CASES[case], **extra)
    difference = result.low_res_logits[:, ::4, ::4] - reference[f"{case}.low_res_logits"]
    assert np.abs(difference).max() <= 1e-3
    assert np.abs(result.iou_predictions - reference[f"{case}.iou_predictions"]).max() <= 1e-4
    areas = result.masks.sum(axis=(1, 2))
    np.testing.assert_allclose(areas, reference[f"{case}.mask_area"], rtol=1e-3)

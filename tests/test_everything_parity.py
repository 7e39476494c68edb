"""Everything mode gives the original mask generator's records for the same weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from mobilesam import (
    EverythingOptions,
    Predictor,
    SamAutomaticMaskGenerator,
    generate,
    load_model,
    registry,
)
from mobilesam.predictor import ImageEmbedding
from tests.official_checkpoints import FIXTURES, write_official_checkpoint

GRID = {"points_per_side": 8, "points_per_batch": 16, "stability_score_offset": 0.3}
CASES = {  # parameters besides the defaults
    "grid8": {
        **GRID,
        "pred_iou_thresh": -0.1,
        "stability_score_thresh": 0.6,
        "box_nms_thresh": 1.0,
    },
    "grid8_nms": {
        **GRID,
        "pred_iou_thresh": -10,
        "stability_score_thresh": 0.5,
        "box_nms_thresh": 0.97,
    },
    "crops": {
        **GRID,
        "points_per_side": 4,
        "pred_iou_thresh": -10,
        "stability_score_thresh": 0.5,
        "box_nms_thresh": 1.0,
        "crop_nms_thresh": 1.0,
        "crop_n_layers": 1,
    },
}

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / "reference_everything_vit_t.npz"))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.asarray(Image.open(FIXTURES / "reference_image.png"))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_official_checkpoint("t", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBILESAM_CHECKPOINT_DIR", str(folder))
        yield Predictor(load_model("mobile_sam", download=False))
    registry._load.cache_clear()


@pytest.fixture(scope="module")
def embedding(predictor: Predictor, photo: np.ndarray) -> ImageEmbedding:
    return predictor.encode(photo)


@pytest.mark.parametrize("case", ["grid8", "grid8_nms"])
def test_records_of_a_grid(
    predictor: Predictor, embedding: ImageEmbedding, reference: dict[str, np.ndarray], case: str
) -> None:
    records = list(generate(predictor, embedding, EverythingOptions(**CASES[case])))
    compare([vars(record) for record in records], case, reference)


def test_records_of_crops(
    predictor: Predictor, photo: np.ndarray, reference: dict[str, np.ndarray]
) -> None:
    generator = SamAutomaticMaskGenerator(
        predictor.model, **CASES["crops"], output_mode="uncompressed_rle"
    )
    compare(generator.generate(photo), "crops", reference)


def compare(records: list[dict], case: str, reference: dict[str, np.ndarray]) -> None:
    """Compare in order: same number, boxes within 1 px, areas within 0.1 %, scores 1e-3."""
    expected = {
        key.removeprefix(f"{case}."): values
        for key, values in reference.items()
        if key.startswith(f"{case}.")
    }
    assert len(expected) == 6
    got = {
        key: np.array([record[key] for record in records], float).reshape(values.shape)
        for key, values in expected.items()
    }
    assert np.abs(got["bbox"] - expected["bbox"]).max() <= 1
    np.testing.assert_allclose(got["area"], expected["area"], rtol=1e-3)
    for score in ("predicted_iou", "stability_score"):
        np.testing.assert_allclose(got[score], expected[score], atol=1e-3, rtol=0)
    np.testing.assert_allclose(got["point_coords"], expected["point_coords"], atol=1e-6)
    np.testing.assert_array_equal(got["crop_box"], expected["crop_box"])

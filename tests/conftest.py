"""What several test modules need: small models, and the one that ships."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mobilesam import Predictor, load_model
from mobilesam.modeling import Sam, build_model, prepare_for_inference


@pytest.fixture(scope="session")
def small_model() -> Sam:
    """A real architecture at 128 px with random weights: quick, and right about shapes."""
    torch.manual_seed(0)
    return prepare_for_inference(build_model("deit_tiny", 128, pads_to_square=False))


@pytest.fixture(scope="session")
def small_predictor(small_model: Sam) -> Predictor:
    return Predictor(small_model)


@pytest.fixture(scope="session")
def embedded() -> Predictor:
    """The model that ships."""
    return Predictor(load_model("embedded"))


@pytest.fixture
def noise_photo() -> np.ndarray:
    """A 90 x 160 photo of noise."""
    return np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)


def disk_photo(
    height: int, width: int, centre: tuple[int, int], radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Paint a bright disk on a dark, slightly noisy ground; returns the photo and its mask."""
    y, x = np.mgrid[:height, :width]
    mask = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    photo = np.where(mask[..., None], (240, 200, 60), (30, 60, 70)).astype(np.int16)
    photo += np.random.default_rng(0).integers(-8, 8, photo.shape, np.int16)
    return photo.clip(0, 255).astype(np.uint8), mask

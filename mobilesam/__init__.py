"""MobileSAM: click on a photo, get the mask. See README.md.

The names below are imported when they are first used, so that a program which only wants the
version or a help text does not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilesam.automatic import SamAutomaticMaskGenerator
    from mobilesam.checkpoints import CheckpointError
    from mobilesam.comparison import Comparison, ComparisonCancelled, ComparisonError, compare
    from mobilesam.everything import (
        EverythingCancelled,
        EverythingOptions,
        MaskRecord,
        generate,
    )
    from mobilesam.predictor import ImageEmbedding, MaskPrediction, Predictor
    from mobilesam.refinement import Refinement
    from mobilesam.registry import MODELS, ModelSpec, available, default_model_name, load_model
    from mobilesam.sam_api import (
        ResizeLongestSide,
        SamPredictor,
        build_sam,
        build_sam_vit_b,
        build_sam_vit_h,
        build_sam_vit_l,
        build_sam_vit_t,
        sam_model_registry,
    )
    from mobilesam.simple_api import SAM
    from mobilesam.steps import predict_steps

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "SAM",
    "CheckpointError",
    "Comparison",
    "ComparisonCancelled",
    "ComparisonError",
    "EverythingCancelled",
    "EverythingOptions",
    "ImageEmbedding",
    "MaskPrediction",
    "MaskRecord",
    "ModelSpec",
    "Predictor",
    "Refinement",
    "ResizeLongestSide",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "available",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "compare",
    "default_model_name",
    "generate",
    "load_model",
    "predict_steps",
    "sam_model_registry",
]

_HOMES = {
    "automatic": ("SamAutomaticMaskGenerator",),
    "checkpoints": ("CheckpointError",),
    "comparison": ("Comparison", "ComparisonCancelled", "ComparisonError", "compare"),
    "everything": ("EverythingCancelled", "EverythingOptions", "MaskRecord", "generate"),
    "predictor": ("ImageEmbedding", "MaskPrediction", "Predictor"),
    "refinement": ("Refinement",),
    "registry": ("MODELS", "ModelSpec", "available", "default_model_name", "load_model"),
    "sam_api": (
        "ResizeLongestSide",
        "SamPredictor",
        "build_sam",
        "build_sam_vit_b",
        "build_sam_vit_h",
        "build_sam_vit_l",
        "build_sam_vit_t",
        "sam_model_registry",
    ),
    "simple_api": ("SAM",),
    "steps": ("predict_steps",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

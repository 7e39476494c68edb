"""The networks: image encoders from timm, SAM's prompt encoder and mask decoder."""

from mobilesam.modeling.prepare import prepare_for_inference, prepare_for_training
from mobilesam.modeling.sam import ImageProjections, Sam, build_model

__all__ = [
    "ImageProjections",
    "Sam",
    "build_model",
    "prepare_for_inference",
    "prepare_for_training",
]

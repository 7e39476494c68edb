"""Import timm also where torchvision's compiled operators cannot be loaded.

timm imports torchvision. Where a CPU-only torch meets a torchvision wheel built for CUDA, that
import fails because torchvision registers a meta kernel for an operator whose schema lives in the
extension that could not be loaded. None of those operators is used here, so their schemas are
declared by hand, and only there.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _torchvision_extension_loads() -> bool:
    """Tell whether torchvision's compiled operators can be loaded (or it is not installed)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    for library in sorted(Path(spec.origin).parent.glob("_C.*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
        return True
    return False


_declared: torch.library.Library | None = None
if not _torchvision_extension_loads():
    _declared = torch.library.Library("torchvision", "DEF")  # schemas live as long as this object
    for _operator in ("nms", "qnms"):
        _declared.define(f"{_operator}{_SCHEMA}")

import timm  # noqa: E402

__all__ = ["timm"]

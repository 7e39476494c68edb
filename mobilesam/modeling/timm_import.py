"""Import timm also where torchvision's compiled operators cannot be loaded.

timm imports torchvision. Where a CPU-only torch meets a torchvision wheel built for CUDA, that
import fails because torchvision registers a meta kernel for an operator whose schema lives in the
extension that could not be loaded. None of those operators is used here, so their schemas are
declared by hand, and only there.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch._compile import _disable_dynamo

_COMPILER = "torch._dynamo"
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


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Leave PyTorch's compiler out until somebody compiles.

    timm and torchvision import all of it for one function each, which nobody calls here; that takes
    a third of the time until a model can be loaded. What they keep instead asks the real ones.
    """
    if _COMPILER in sys.modules:
        yield
        return
    disable, lock = torch.compiler.disable, threading.Lock()
    utils = ModuleType(f"{_COMPILER}.utils")

    def disable_later(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        if fn is None:
            return lambda fn: disable_later(fn, recursive, **options)
        if _COMPILER in sys.modules or options or not isinstance(fn, FunctionType):
            return disable(fn, recursive, **options)
        return _disable_dynamo(fn, recursive)  # as PyTorch does within itself

    def put_back() -> None:
        with lock:
            if sys.modules.get(utils.__name__) is utils:
                del sys.modules[utils.__name__]

    def real_utils() -> ModuleType:
        put_back()
        return importlib.import_module(utils.__name__)

    def attribute(name: str) -> Any:
        if name.startswith("__"):  # inspect asks all modules for theirs
            raise AttributeError(name)
        return getattr(real_utils(), name)  # another thread wants it just now

    vars(utils)["__getattr__"] = attribute
    vars(utils)["is_compile_supported"] = lambda kind: real_utils().is_compile_supported(kind)
    torch.compiler.disable = disable_later
    sys.modules[utils.__name__] = utils
    try:
        yield
    finally:
        torch.compiler.disable = disable
        put_back()


_declared: torch.library.Library | None = None
if not _torchvision_extension_loads():
    _declared = torch.library.Library("torchvision", "DEF")  # schemas live as long as this object
    for _operator in ("nms", "qnms"):
        _declared.define(f"{_operator}{_SCHEMA}")

with _without_compiler():
    import timm

__all__ = ["timm"]

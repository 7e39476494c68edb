"""Two models, the same photo and prompts; each is run and measured in a process of its own."""

from __future__ import annotations

from mobilesam.comparison.comparing import (
    Comparison,
    ComparisonCancelled,
    ComparisonError,
    ModelRun,
    check_memory,
    compare,
)

__all__ = [
    "Comparison",
    "ComparisonCancelled",
    "ComparisonError",
    "ModelRun",
    "check_memory",
    "compare",
]

"""The compare tab: two models, the same prompts."""

from __future__ import annotations

from mobilesam.ui.compare.tab import build_compare

__all__ = ["build_compare"]

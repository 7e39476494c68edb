"""The browser demo: `build_demo` returns the page, `app.py` serves it."""

from __future__ import annotations

from mobilesam.ui.demo import LAUNCH_OPTIONS, build_demo

__all__ = ["LAUNCH_OPTIONS", "build_demo"]

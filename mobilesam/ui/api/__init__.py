"""The endpoints for programs: `/segment`, `/everything`, `/compare` and `/models`."""

from __future__ import annotations

from mobilesam.ui.api.endpoints import add_endpoints

__all__ = ["add_endpoints"]

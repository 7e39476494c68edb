"""Checkpoints in the official layout, filled with reproducible pseudo-random values.

The reference outputs in `fixtures/` were computed by the original code with these very values, so
the recipe must stay as it is: one PCG64 stream for each tensor, seeded with its name's CRC-32.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

FIXTURES = Path(__file__).parent / "fixtures"
FILE_NAMES = {"t": "mobile_sam.pt", "b": "sam_vit_b_01ec64.pth"}


def official_state_dict(variant: str) -> dict[str, torch.Tensor]:
    """Return the state dict of `vit_t` or `vit_b`: the official names, shapes and types."""
    entries = json.loads((FIXTURES / f"keys_vit_{variant}.json").read_text())
    return {name: _tensor(name, tuple(shape), dtype) for name, shape, dtype in entries}


def write_official_checkpoint(variant: str, folder: Path) -> Path:
    """Write the checkpoint under its official file name, as `torch.save` does."""
    path = folder / FILE_NAMES[variant]
    torch.save(official_state_dict(variant), path)
    return path


def _tensor(name: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    if dtype == "int64":
        return torch.zeros(shape, dtype=torch.int64)
    stream = np.random.default_rng([zlib.crc32(name.encode()), 0])
    values = stream.standard_normal(shape, dtype=np.float32)
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_var":
        values = 0.5 + np.abs(values)
    elif kind == "weight" and len(shape) == 1:
        values = 1.0 + 0.2 * values
    elif kind == "weight":
        values *= math.prod(shape[1:]) ** -0.5
    elif "positional_encoding_gaussian_matrix" not in kind:
        scales = (("rel_pos", 0.02), ("attention_biases", 0.3))
        values *= next((scale for part, scale in scales if part in kind), 0.1)
    return torch.from_numpy(np.ascontiguousarray(values))

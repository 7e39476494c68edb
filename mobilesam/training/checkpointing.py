"""Checkpoints of a training run, and the file that ships."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from mobilesam.errors import is_out_of_memory
from mobilesam.modeling import Sam

COUNTED = ("step", "seconds", "waited")  # attributes of a run that its state keeps
KEPT = {"model", "ema", "optimizer", "skipped", "config", *COUNTED}


def save_model(model: Sam, path: Path, metadata: dict[str, str]) -> None:
    """Write a model's tensors as half-precision safetensors, whole or not at all.

    The metadata of the model itself (encoder, image size, padding) is added.
    """
    tensors = {
        key: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {**model.description, **metadata})


def write_tensors(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors, whole or not at all; whom the folder lets read may read them."""
    with whole(path) as part:
        part.write_bytes(save(tensors, metadata))  # save_file would keep them from everybody else


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state, whole or not at all: a kill in the middle leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        try:
            torch.save(state, part)
        except RuntimeError as error:  # PyTorch's own where a disk is full
            raise OSError(errno.ENOSPC, "is the disk full?") from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, and move what is there to ``path`` if all went well."""
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            yield part
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what to do where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}); make room there, then give "
            "the same command again."
        ) from error


def load_state(path: Path) -> dict[str, Any]:
    """Read a run's state.

    Raises:
        ValueError: If the file is damaged, or not a run's state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not state.keys() >= KEPT:
            raise EOFError("It lacks parts of a run's state.")
    except Exception as error:  # a damaged file can make the reader fail in any way
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.filename):
            raise  # it says itself what is wrong
        raise ValueError(
            f"{path} is damaged or no run's state, and the run cannot go on from it; name another "
            "--out, or remove that file to begin again."
        ) from error
    return state


def refuse_other_settings(path: Path, wanted: Mapping[str, str], had: Mapping[str, str]) -> None:
    """Raise unless a run's state was made with the settings that are wanted now.

    Raises:
        ValueError: If they differ; it names those that do.
    """
    changed = sorted(key for key in {*wanted, *had} if wanted.get(key) != had.get(key))
    if changed:
        raise ValueError(
            f"{path} is the state of a run with other settings of {', '.join(changed)}; name "
            "another --out, or use the settings, and the version of mobilesam, that it began with."
        )


def all_finite(model: nn.Module) -> bool:
    """Tell whether no parameter holds an infinity or what is no number; a GPU is waited for."""
    return bool(torch.stack([p.isfinite().all() for p in model.parameters()]).all())

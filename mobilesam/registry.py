"""The models by name, and how a file becomes a model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from mobilesam import official_layout
from mobilesam.backends import Backend, replace_encoder
from mobilesam.backends import check as check_backend
from mobilesam.backends import fastest as fastest_backend
from mobilesam.checkpoints import (
    CHECKPOINTS,
    CheckpointError,
    find_checkpoint,
    read_checkpoint,
    resolve_checkpoint,
)
from mobilesam.modeling import Sam, build_model, prepare_for_inference

WEIGHTS_FOLDER = Path(__file__).parent / "weights"  # of the models that ship with this package
_LOADING = threading.Lock()  # two who ask for one model at once shall get the same


@dataclass(frozen=True)
class ModelSpec:
    """A model that can be asked for by name.

    Attributes:
        name: What ``load_model`` takes.
        title: What people read.
        encoder: The image encoder's name.
        image_size: Side of the square input frame, pixels.
        checkpoint: Key into ``checkpoints.CHECKPOINTS``; None for those that ship with us.
        parameters: How many values the network computes with.
    """

    name: str
    title: str
    encoder: str
    image_size: int
    checkpoint: str | None
    parameters: int

    @property
    def shipped_file(self) -> Path:
        """Where the weights of a model lie that ships with us."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"


MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec("mobile_sam", "MobileSAM", "tiny_vit", 1024, "mobile_sam", 9_808_452),
        ModelSpec("sam_vit_b", "SAM ViT-B", "sam_vit_b", 1024, "sam_vit_b", 93_735_472),
        ModelSpec("sam_vit_l", "SAM ViT-L", "sam_vit_l", 1024, "sam_vit_l", 312_342_832),
        ModelSpec("sam_vit_h", "SAM ViT-H", "sam_vit_h", 1024, "sam_vit_h", 641_090_608),
        ModelSpec("embedded", "Embedded (ours, small)", "deit_tiny", 640, None, 10_647_152),
        ModelSpec(
            "embedded_student", "Embedded student (ours, TinyViT)", "tiny_vit", 640, None, 9_808_452
        ),
    )
}


def available(name: str) -> bool:
    """Tell whether a named model's checkpoint is on this machine; never asks the network.

    Raises:
        ValueError: If no model has that name.
    """
    spec = _spec(name)
    if spec.checkpoint is None:
        return spec.shipped_file.is_file()
    return find_checkpoint(spec.checkpoint) is not None


def default_model_name() -> str:
    """Return ``mobile_sam`` where its checkpoint is on this machine, else ``embedded``."""
    return "mobile_sam" if available("mobile_sam") else "embedded"


def load_model(
    name_or_path: str | Path = "mobile_sam",
    device: str | torch.device | None = "cpu",
    *,
    backend: Backend | None = "torch",
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Sam:
    """Load a model, ready for inference.

    The same file, device and backend give the same object, if it is one of the last four. It is
    shared by all who load it, so neither it nor its image encoder, prompt encoder or mask decoder
    can be moved, cast, trained or given other weights: name its device here, or take a copy with
    ``copy.deepcopy``.

    Args:
        name_or_path: A key of ``MODELS``, or a checkpoint's path: SAM's and MobileSAM's ``.pt``
            and ``.pth``, or safetensors written by this project.
        device: Where it shall compute; None for the CPU, too.
        backend: What computes the image embeddings: ``torch``, ``onnxruntime`` or ``openvino``
            (optional extras, on the CPU only). The encoder is exported for them once, which takes
            some seconds. None for the fastest that is installed and has its export here already.
            Embeddings of all backends are interchangeable.
        download: Whether an official checkpoint that is not here may be downloaded.
        progress: Called with bytes done and bytes in all while downloading.

    Raises:
        ValueError: If there is neither a model nor a file of that name, no such device or
            backend, or the backend's package is missing.
        CheckpointError: If the checkpoint cannot be had or is not what it should be.
        OSError: If the exported encoder cannot be stored.
    """
    device = _usable(device)
    if backend not in (None, "torch"):
        check_backend(backend, device)  # before a download
    path, name = locate(name_or_path, download=download, progress=progress)
    if backend is None:
        backend = fastest_backend(path, device)
    with _LOADING:
        return _load(path, name, str(device), path.stat().st_mtime_ns, backend)


def locate(
    name_or_path: str | Path,
    *,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, str]:
    """Return the checkpoint file of what ``load_model`` takes, and what to call the model.

    Raises:
        TypeError: If it is neither a string nor a path.
        ValueError: If there is neither a model nor a file of that name.
        CheckpointError: If the checkpoint cannot be had.
    """
    if not isinstance(name_or_path, str | Path):
        raise TypeError(
            f"A model's name or a checkpoint's path was expected; got {type(name_or_path).__name__}"
            f"; the models are {', '.join(MODELS)}."
        )
    name = str(name_or_path)
    if name not in MODELS:
        return checkpoint_path(name_or_path).resolve(), Path(name_or_path).stem
    spec = MODELS[name]
    if spec.checkpoint is not None:
        path = resolve_checkpoint(spec.checkpoint, download=download, progress=progress)
    elif not (path := spec.shipped_file).is_file():
        raise CheckpointError(
            f"{path}, which comes with this package, is missing; install or check out the package "
            "again, or name another model."
        )
    return path.resolve(), name


@lru_cache(maxsize=4)
def _load(path: Path, name: str, device: str, _modified_ns: int, backend: Backend) -> Sam:
    model = read_model(path, name).to(device)
    model.identity = model.fingerprint()  # of the weights, whatever computes with them
    if backend != "torch":
        replace_encoder(model, path, backend)
    model.share(name)
    return model


def read_model(path: Path, name: str) -> Sam:
    """Read a checkpoint into a new model, ready for inference on the CPU, that nobody else holds.

    Raises:
        CheckpointError: If the file cannot be read or is not what it should be.
    """
    return prepare_for_inference(model_from_state_dict(*read_checkpoint(path), name))


def checkpoint_path(path: str | Path) -> Path:
    """Return a checkpoint file's path, ``~`` expanded.

    Raises:
        ValueError: If there is no such file.
    """
    expanded = os.path.expanduser(path)  # never raises, unlike Path.expanduser
    if not os.path.isfile(expanded):
        raise ValueError(
            f"{str(path)!r} is neither a model nor a checkpoint file; the models are "
            f"{', '.join(MODELS)}."
        )
    return Path(expanded)


def _usable(device: str | torch.device | None) -> torch.device:
    device = "cpu" if device is None else device
    try:
        tried = torch.zeros(1, device=device)
        tried.cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:  # many forms
        raise ValueError(
            f"The device {str(device)!r} cannot be used on this machine; use 'cpu', or 'cuda' "
            "where PyTorch sees an NVIDIA GPU."
        ) from error
    return tried.device  # with its number: "cuda" and "cuda:0" are one


def model_from_state_dict(
    state_dict: dict[str, torch.Tensor], metadata: dict[str, str], name: str
) -> Sam:
    """Build the model that a state dict belongs to and load it strictly.

    Args:
        state_dict: Tensors, in the official layout or ours; ours also as saved after
            ``prepare_for_inference``.
        metadata: ``Sam.description`` from a safetensors header or beside a saved state dict;
            empty for official files, whose architecture shows in their tensors.
        name: What to call the model.

    Raises:
        CheckpointError: If the tensors fit no known architecture.
    """
    encoder = official_layout.encoder_of(state_dict)
    if "encoder" in metadata:
        described, image_size = metadata["encoder"], metadata.get("image_size", "")
        try:
            model = build_model(
                described,
                int(image_size),
                name=name,
                pads_to_square=metadata.get("pads_to_square") != "false",
                draws_prompts=metadata.get("draws_prompts") == "true",
                metadata=metadata,
            )
        except ValueError as error:
            raise CheckpointError(
                f"{name} calls itself a model with encoder={described!r} and "
                f"image_size={image_size!r}, which cannot be built here; expected what this "
                "project's training writes."
            ) from error
    else:
        if official_layout.is_this_projects(state_dict):
            raise CheckpointError(
                f"{name} holds the tensors of a model of this project, but not its image size; "
                "save what state_dict() returned as it is, not a copy made of it, or write "
                "safetensors with sam.description as their metadata."
            )
        if encoder is None:
            raise CheckpointError(
                f"{name} holds {len(state_dict)} tensors that are neither MobileSAM's nor SAM's; "
                "expected a checkpoint in the official layout, or one trained by this project."
            )
        model = build_model(encoder, name=name)
    converted = state_dict if encoder is None else official_layout.convert(state_dict, encoder)
    _load_strictly(model, converted, name)
    return model


def misfits(expected: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor]) -> str:
    """Tell which tensors are missing, unexpected or of another shape; empty if all fit.

    Args:
        expected: What a module's ``state_dict()`` holds.
        state_dict: What is to be loaded into it.
    """
    wrong = [f"missing {key}" for key in expected if key not in state_dict]
    wrong += [f"unexpected {key}" for key in state_dict if key not in expected]
    wrong += [
        f"{key} of shape {tuple(tensor.shape)} instead of {tuple(expected[key].shape)}"
        for key, tensor in state_dict.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    return "; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")


def _load_strictly(model: Sam, state_dict: dict[str, torch.Tensor], name: str) -> None:
    wrong = misfits(model.state_dict(), state_dict)
    if wrong:
        raise CheckpointError(
            f"The checkpoint does not fit {model.encoder_name} ({name}): {wrong}. "
            "Use the file that belongs to this model."
        )
    damaged = [
        key
        for key, tensor in state_dict.items()
        if not (tensor.sum().isfinite() or tensor.isfinite().all())  # the sum is far quicker
    ]
    if damaged:
        raise CheckpointError(
            f"{name} holds NaN or infinity in {len(damaged)} of its {len(state_dict)} tensors "
            f"({damaged[0]} first), as after a training that failed; use an earlier checkpoint."
        )
    model.load_state_dict(state_dict)


def _spec(name: str) -> ModelSpec:
    if name not in MODELS:
        raise ValueError(f"There is no model {name!r}; the models are {', '.join(MODELS)}.")
    return MODELS[name]


__all__ = ["CHECKPOINTS", "MODELS", "ModelSpec", "available", "default_model_name", "load_model"]

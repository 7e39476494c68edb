"""What runs the image encoder: PyTorch, or its export in ONNX Runtime or OpenVINO.

Only the image encoder is replaced, by a module of the same shape; prompts are decoded by PyTorch
as ever. The export has the same weights in 32-bit floats, so its embeddings agree with PyTorch's
to float rounding and an embedding of one backend may be decoded with the model of another: they
have the same ``Sam.identity``.

The export is made once for each checkpoint, see ``export_cache``.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from mobilesam import export_cache
from mobilesam.modeling import Sam
from mobilesam.onnx_export import EXTRAS, encoder_to_onnx, require
from mobilesam.onnx_files import write

LOGGER = logging.getLogger(__name__)

Backend = Literal["torch", "onnxruntime", "openvino"]
Run = Callable[[np.ndarray], np.ndarray]

TITLES: dict[Backend, str] = {  # fastest first, as benchmarks/backends.py measures them
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "torch": "PyTorch",
}
LOW_PRIORITY = 10  # niceness of the process that exports while others wait for answers


def installed() -> list[Backend]:
    """Return the backends whose packages are on this machine, fastest first."""
    return [backend for backend in TITLES if find_spec(backend) is not None]


def fastest(checkpoint: Path, device: str | torch.device = "cpu") -> Backend:
    """Return the fastest backend that can answer at once: whose export of a checkpoint is here."""
    backend = installed()[0]
    is_cpu = torch.device(device).type == "cpu"
    if backend == "torch" or not is_cpu or export_cache.find(checkpoint) is None:
        return "torch"
    return backend


def check(backend: str, device: str | torch.device = "cpu") -> Backend:
    """Return a backend that can be used.

    Raises:
        ValueError: If there is none of that name, its package is missing, or it cannot compute on
            that device.
    """
    known: Backend | None = next((name for name in TITLES if name == backend), None)
    if known is None:
        raise ValueError(
            f"There is no backend {backend!r}; the backends are {', '.join(sorted(TITLES))}."
        )
    if known != "torch":
        require({known: known}, f"The backend {known!r}")
        if torch.device(device).type != "cpu":
            raise ValueError(
                f"The backend {known!r} computes on the CPU only; got the device {str(device)!r}. "
                "Use the device 'cpu' or the backend 'torch'."
            )
    return known


def replace_encoder(model: Sam, checkpoint: Path, backend: Backend) -> None:
    """Let a backend compute a model's image embeddings; exports the encoder if need be.

    Args:
        model: On the CPU, read from ``checkpoint``, and held by nobody else.
        checkpoint: The file.
        backend: Other than ``torch``.

    Raises:
        ValueError: If a package is missing, or the backend cannot open the export.
        OSError: If the export cannot be stored.
    """
    path = export_cache.find_or_build(checkpoint, lambda path: _export(model, path))
    model.image_encoder = ExportedEncoder(path, backend, model.image_size)


def _export(model: Sam, path: Path) -> None:
    require(EXTRAS, "Exporting the image encoder, which another backend needs once,")
    LOGGER.info("exporting the image encoder of %s, once: this takes some seconds", model.name)
    write(encoder_to_onnx(model, export_cache.OPSET, raw_pixels=False), path)


class ExportedEncoder(nn.Module):
    """An image encoder that another runtime computes, on the CPU and in 32-bit floats.

    It uses as many threads as PyTorch did when it was made. A copy, pickled or not, opens the same
    file again. It has no parameters: it can be neither trained nor moved nor loaded anew.

    Args:
        path: The exported encoder; ``pixels`` as ``Sam.preprocess`` makes them go in.
        backend: What shall compute it.
        image_size: Side of the model's input frame, pixels.
    """

    def __init__(self, path: Path, backend: Backend, image_size: int) -> None:
        super().__init__()
        self.path, self.backend = path, backend
        self.img_size = image_size  # code written for SAM asks for it
        self._run = _open(path, backend)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) normalised pixels to (B, 256, H/16, W/16), one by one."""
        pictures = pixels.detach().float().contiguous().numpy()
        features = [self._run(pictures[i : i + 1]) for i in range(len(pictures))]
        return torch.from_numpy(np.concatenate(features))

    def _save_to_state_dict(self, *_: Any) -> None:
        """Refuse: a state dict without it would be saved without a word."""
        raise RuntimeError(
            f"This image encoder is an export for {TITLES[self.backend]}, and its weights are not "
            "here; load the model with backend='torch' to save it."
        )

    def extra_repr(self) -> str:
        """Return what ``print`` shows in brackets."""
        return f"{TITLES[self.backend]}, {self.path}"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._run = _open(self.path, self.backend)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        """Refuse what ``to``, ``cuda``, ``half`` and the like come down to."""
        after = fn(torch.zeros(1, device="cpu"))
        if (after.device.type, after.dtype) != ("cpu", torch.float32):
            raise RuntimeError(
                f"{TITLES[self.backend]} computes this image encoder on the CPU in float32; it "
                f"cannot be moved or cast to {after.device}, {after.dtype}. Load the model with "
                "backend='torch'."
            )
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *_: Any) -> None:
        raise RuntimeError(
            f"This image encoder is an export for {TITLES[self.backend]} and takes no other "
            "weights. Load the model with backend='torch'."
        )


def _open(path: Path, backend: Backend) -> Run:
    """Open an exported encoder; the function returned may be called from any thread."""
    if not path.is_file():
        raise FileNotFoundError(
            f"The exported image encoder {path} is not on this machine; load the model here: "
            f"load_model(..., backend={backend!r})."
        )
    openers = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino}
    try:
        return openers[backend](path, torch.get_num_threads())
    except Exception as error:  # a broken installation can fail in any way
        raise ValueError(
            f"{TITLES[backend]} cannot be used here ({error}); install it again, or use "
            "backend='torch'."
        ) from error


def _open_onnxruntime(path: Path, threads: int) -> Run:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it reports to its makers
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Threads that go on spinning when a picture is done would take the decoder's time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def _open_openvino(path: Path, threads: int) -> Run:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # likewise
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else 16 bits, where the processor has them
    }
    with _signal_stack_kept():
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    turn = threading.Lock()  # a request serves one caller at a time

    def run(pixels: np.ndarray) -> np.ndarray:
        with turn:
            request.infer({0: pixels})
            return request.get_output_tensor(0).data.copy()

    return run


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux: memory on which this thread's signal handlers run."""

    _fields_: ClassVar = [
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    ]


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Take back the stack for signal handlers that OpenVINO gives to the calling thread.

    It has 20 KB. Where the processor has AMX and PyTorch has computed in bfloat16 (training), a
    signal's frame and the look-up of a function's address take more, and the kernel ends the
    process: at Ctrl+C, or when a reader of training data ends.
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack = ctypes.CDLL(None).sigaltstack
    before = _SignalStack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)


def build_elsewhere(checkpoint: Path) -> None:
    """Make the export of a checkpoint file in a process of its own, unless it is here already.

    For a server: this process goes on answering meanwhile, and the memory that exporting takes is
    given back. The other process stands back for everything else on the machine.

    Raises:
        RuntimeError: If that failed; the message is what the other process said last.
    """
    if export_cache.find(checkpoint) is not None:
        return
    code = "import sys; from mobilesam import backends; backends._build_politely(sys.argv[1])"
    paths = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(checkpoint)],  # not from the current folder
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"The image encoder of {checkpoint.name} was not exported: {last}")


def _build_politely(checkpoint: str) -> None:
    from mobilesam.registry import read_model

    if hasattr(os, "nice"):  # not on Windows
        os.nice(LOW_PRIORITY)
    torch.set_num_threads(1)
    path = Path(checkpoint)
    export_cache.find_or_build(path, lambda out: _export(read_model(path, path.stem), out))

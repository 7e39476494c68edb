"""The process in which one model of a comparison runs: `python -m mobilesam.comparison.worker`.

A model gets a process of its own so that its peak memory is its own, so that it can be ended at any
moment, and so that whatever else the machine does comes first. The request arrives on standard
input: a line of JSON, then the photo's pixels, and later a byte: what is measured begins then, so
that another process may start meanwhile. Standard input stays open as long as the one who asked is
interested; when it closes, also because he has died, this process ends at once. Answers go to
standard output: lines of JSON, the last of them followed by the mask's bits.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mobilesam.predictor import ImageEmbedding, MaskPrediction, Predictor

NICENESS = 19  # what answers a visitor goes first
ENCODES = (
    3  # the photo is encoded so often, at most, and the quickest counts: the first one warms up
)
ENCODES_SECONDS = 2.0  # once so long was spent on it, it is not encoded again
DECODES = 5  # the prompts are decoded so often, and the median counts
LINUX_STATUS = Path("/proc/self/status")


def main() -> int:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library might print is no answer
    request = json.loads(sys.stdin.buffer.readline())
    height, width = request["size"]
    pixels = sys.stdin.buffer.read(height * width * 3)
    if len(pixels) < height * width * 3:
        return 1  # the one who asked has died
    may_begin = threading.Event()
    threading.Thread(target=_heed_asker, args=(may_begin,), daemon=True).start()
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)
    photo = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    try:
        report, mask = measure(request, photo, lambda stage: tell({"stage": stage}), may_begin)
    except Exception as error:
        tell({"error": _kind(error), "text": str(error)})
        return 1
    bits = np.packbits(mask).tobytes()
    tell({"report": report, "mask_bytes": len(bits)})
    answers.write(bits)
    answers.close()
    return 0


def measure(
    request: dict[str, Any],
    photo: np.ndarray,
    tell: Callable[[str], None],
    may_begin: threading.Event,
) -> tuple[dict[str, Any], np.ndarray]:
    """Load a model, encode a photo and decode prompts, and measure all of it.

    Args:
        request: `path` and `name` of the model, `prompts` for ``predict_steps``.
        photo: (H, W, 3) uint8 RGB.
        tell: Called with "ready" when PyTorch is here, and with "loading", "encoding" and
            "decoding" when each begins.
        may_begin: Waited for before the loading.

    Returns:
        The numbers of a ``ModelRun``, `threads` beside them, and the (H, W) bool mask.
    """
    import torch

    from mobilesam.checkpoints import read_checkpoint
    from mobilesam.modeling import prepare_for_inference
    from mobilesam.predictor import Predictor
    from mobilesam.registry import model_from_state_dict

    tell("ready")
    may_begin.wait()
    tell("loading")
    start = time.perf_counter()
    model = model_from_state_dict(*read_checkpoint(Path(request["path"])), request["name"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    predictor = Predictor(prepare_for_inference(model))
    load_ms = (time.perf_counter() - start) * 1000
    tell("encoding")
    embedding, encode_ms = _encode(predictor, photo)
    tell("decoding")
    prediction, decode_ms = _decode(predictor, embedding, request["prompts"])
    choice = (request["prompts"]["choices"] or [None])[-1]
    index = prediction.best if choice is None else choice
    report = {
        "parameters": parameters,
        "load_ms": load_ms,
        "encode_ms": encode_ms,
        "decode_ms": decode_ms,
        "predicted_iou": float(prediction.iou_predictions[index]),
        "threads": torch.get_num_threads(),
    }
    mask = prediction.mask(index)
    return {**report, "peak_bytes": peak_bytes()}, mask


def _encode(predictor: Predictor, photo: np.ndarray) -> tuple[ImageEmbedding, float]:
    times: list[float] = []
    while not times or (len(times) < ENCODES and sum(times) < ENCODES_SECONDS * 1000):
        embedding = predictor.encode(photo)
        times.append(embedding.encode_ms)
    return embedding, min(times)


def _decode(
    predictor: Predictor, embedding: ImageEmbedding, prompts: dict[str, Any]
) -> tuple[MaskPrediction, float]:
    from mobilesam.steps import predict_steps

    known: dict[Any, np.ndarray] = {}  # so that only the last step is decoded several times
    predictions = [
        predict_steps(predictor, embedding, **prompts, known=known) for _ in range(DECODES)
    ]
    return predictions[-1], statistics.median(one.decode_ms for one in predictions)


def peak_bytes() -> int | None:
    """Return the most memory this process has had; None where the system does not tell.

    Linux gives a new process the resource usage of the one that started it, so that `ru_maxrss`
    may be a large server's; `VmHWM` counts from this program's own start.
    """
    try:
        lines = LINUX_STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _heed_asker(may_begin: threading.Event) -> None:
    """Begin at a byte on standard input; end this process when it closes."""
    while os.read(0, 1):
        may_begin.set()
    os._exit(1)


def _kind(error: Exception) -> str:
    """Name what the one who asked shall raise."""
    from mobilesam.checkpoints import CheckpointError
    from mobilesam.errors import is_out_of_memory

    if isinstance(error, CheckpointError):
        return "checkpoint"
    if is_out_of_memory(error):
        return "memory"
    if isinstance(error, ValueError | TypeError):
        return "value"
    import traceback

    traceback.print_exception(error)
    return "unknown"


if __name__ == "__main__":
    sys.exit(main())

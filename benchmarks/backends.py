"""What runs the image encoder: PyTorch, ONNX Runtime or OpenVINO; its speed, and what it costs.

Each start-up is that of a process of its own: imports, loading the model, and a first picture;
once with the export to be made and once with it made.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.common import (
    PHOTO,
    ROOT,
    THREADS,
    paired_ms,
    print_table,
    spread,
    untrained_checkpoint,
)
from mobilesam import load_model
from mobilesam.backends import TITLES, Backend, installed
from mobilesam.registry import MODELS

ROUNDS = 10
STARTS = 3
START_HEADER = ("model loaded s", "first picture s", "the same with the export made first s")
START = """
import sys, time
start = time.perf_counter()
import torch
torch.set_num_threads(int(sys.argv[4]))
from mobilesam import Predictor, load_model
predictor = Predictor(load_model(sys.argv[1], backend=sys.argv[2]))
loaded = time.perf_counter()
predictor.encode(sys.argv[3])
print(loaded - start, time.perf_counter() - start)
"""


def start_s(checkpoint: Path, backend: Backend, cache: Path) -> tuple[float, float]:
    """Return the seconds after which a new process has the model, and its first embedding."""
    words = [sys.executable, "-c", START, str(checkpoint), backend, str(PHOTO), str(THREADS)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    printed = subprocess.check_output(words, cwd=ROOT, env=environment, text=True)
    loaded, encoded = map(float, printed.split())
    return loaded, encoded


def start_rows(checkpoint: Path, cache: Path, backends: list[Backend]) -> list[list[str]]:
    """Start each backend with its export missing, then several times, in turns, with it there."""
    firsts = {
        backend: None if backend == "torch" else start_s(checkpoint, backend, cache / backend)
        for backend in backends
    }
    starts: dict[Backend, list[tuple[float, float]]] = {backend: [] for backend in backends}
    for _ in range(STARTS):
        for backend in backends:
            starts[backend].append(start_s(checkpoint, backend, cache / backend))
    rows = []
    for backend in backends:
        loaded, encoded = map(statistics.median, zip(*starts[backend], strict=True))
        first = firsts[backend]
        exporting = "-" if first is None else f"{first[1]:.1f}"
        rows.append([TITLES[backend], f"{loaded:.1f}", f"{encoded:.1f}", exporting])
    return rows


def encode_ms(
    checkpoint: Path, side: int, backends: list[Backend], rounds: int
) -> dict[str, list[float]]:
    """Time one square picture, normalising included, with one backend after the other in turns."""
    pixels = torch.rand(1, 3, side, side) * 255
    models = [load_model(checkpoint, backend=backend) for backend in backends]
    with torch.inference_mode():
        return paired_ms(
            {
                TITLES[backend]: partial(model.encode_image, pixels)
                for backend, model in zip(backends, models, strict=True)
            },
            rounds,
        )


def main() -> None:
    """Time each backend for MobileSAM's shape and for the embedded model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pictures for each backend")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(THREADS)
    backends = installed()[::-1]  # slowest first
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name, "cache")
        os.environ["XDG_CACHE_HOME"] = str(cache / backends[-1])
        for title, checkpoint, side in (
            ("MobileSAM's shape", untrained_checkpoint(Path(name)), 1024),
            ("the embedded model", MODELS["embedded"].shipped_file, MODELS["embedded"].image_size),
        ):
            starts = start_rows(checkpoint, cache, backends)
            times = encode_ms(checkpoint, side, backends, rounds)
            print_table(
                f"Image encoder of {title}, {side} x {side} px, {rounds} rounds in turns; and "
                f"starting a process with it, median of {STARTS}",
                ["", *(f"{value} ms" for value in ("median", "p95", "best")), *START_HEADER],
                [[row[0], *spread(times[row[0]]), *row[1:]] for row in starts],
            )


if __name__ == "__main__":
    main()

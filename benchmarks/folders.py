"""A folder of 12 MP photos with the embedded model: nothing overlapping, against two threads."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch
from PIL import Image

from benchmarks.common import THREADS, paired_ms, print_table, spread
from mobilesam.folders.inputs import Picture
from mobilesam.folders.jobs import Task, Worker, outcomes
from mobilesam.folders.outputs import Format, Job, Output
from mobilesam.folders.tables import ObjectPrompt

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIZE = (4000, 3000)  # width, height, px
BOX = (800.0, 600.0, 2600.0, 2400.0)
FORMATS: tuple[Format, ...] = ("coco", "cutout")
ROUNDS = 3


def main() -> None:
    """Segment the examples, scaled up, with each number of threads in turns."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = []
        for path in sorted(EXAMPLES.glob("*.jpg")):
            with Image.open(path) as photo:
                photo.convert("RGB").resize(SIZE).save(folder / path.name, quality=90)
            picture = Picture(folder / path.name, folder, (ObjectPrompt(box=BOX, name="object"),))
            jobs.append(Job(picture, path.stem, path.name))
        rows = [row for form in FORMATS for row in _measure(form, jobs, folder / form)]
    title = (
        f"{len(jobs)} photos of {SIZE[0]} x {SIZE[1]} px, one box each, {ROUNDS} rounds in turns"
    )
    print_table(title, ["a photo", "median ms", "p95 ms", "best ms"], rows)


def _measure(form: Format, jobs: list[Job], folder: Path) -> list[list[str]]:
    output = Output(folder, form, False, 1.0, several=False, classes=("object",))
    output.state_folder.mkdir(parents=True)
    worker = Worker(Task(output, "embedded", "object", THREADS))

    def run(threads: int) -> None:
        errors = [outcome.error for outcome in outcomes(worker, jobs, threads) if outcome.error]
        if errors:
            raise RuntimeError(errors[0])

    times = paired_ms({f"{form}, --jobs {n}": lambda n=n: run(n) for n in (1, 2)}, ROUNDS, 1)
    each = {name: [value / len(jobs) for value in values] for name, values in times.items()}
    slow, fast = (statistics.median(values) for values in each.values())
    rows = [[name, *spread(values)] for name, values in each.items()]
    return [*rows, [f"{form}: ratio of the medians", f"{slow / fast:.2f}x", "", ""]]


if __name__ == "__main__":
    main()

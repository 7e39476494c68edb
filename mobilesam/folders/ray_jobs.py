"""The same work on a cluster, or on this machine's cores, under Ray Data."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import pickle
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobilesam.folders.jobs import Outcome, Task, Worker, failed
from mobilesam.folders.outputs import Job
from mobilesam.folders.state import ATTEMPTS_FOLDER

LOCAL = "local"
PICTURES_PER_BLOCK = 4  # at most: what is done anew if a worker dies
MAX_DEATHS = 3  # of workers at the same picture, before it is given up
OBJECT_STORE_BYTES = 100 * 2**20  # of a local Ray: pictures do not pass through it


def check_ray() -> None:
    """Make sure that Ray Data is installed.

    Raises:
        ValueError: It is not.
    """
    for name in ("ray", "pyarrow"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                "--ray needs Ray Data, which is not installed; install it with "
                '`pip install "ray[data]"`, or leave out --ray.'
            )


def ray_outcomes(
    task: Task, jobs: Sequence[Job], address: str, workers: int | None = None
) -> Generator[Outcome]:
    """Find or start a cluster; what is returned works there and tells what became of each picture.

    Every worker is an actor with a model of its own. One that dies is started again, and the
    pictures it had are done anew. The folders of pictures and of results must be the same on all
    machines, and this package installed there.

    Args:
        task: What to do.
        jobs: The pictures.
        address: Of a cluster, as ``ray.init`` takes it; ``local`` starts one on this machine.
        workers: How many; if left out, as many as there are GPUs if those are asked for, else as
            there are CPUs for the task's threads.

    Raises:
        ValueError: There is no such cluster, or the workers cannot be started.
    """
    import ray

    mine = not ray.is_initialized()
    if mine:
        _start(address, workers)
    return _outcomes(task, jobs, workers, mine)


def _outcomes(
    task: Task, jobs: Sequence[Job], workers: int | None, mine: bool
) -> Generator[Outcome]:
    import ray

    try:
        gpus = 1 if str(task.load.get("device", "")).startswith("cuda") else 0
        resources = ray.cluster_resources()
        most = resources.get("GPU", 1) if gpus else resources.get("CPU", 1) // task.threads
        count = max(1, min(workers or int(most), len(jobs)))
        left = dict(enumerate(jobs))
        for row in _rows(_task_anywhere(task), jobs, count, gpus):
            told = {"error": row["error"], "fatal": bool(row["fatal"])}
            yield Outcome(left.pop(int(row["index"])), int(row["objects"]), **told)
    except ray.exceptions.RayError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        raise ValueError(f"Ray's workers could not do their work: {reason.strip()}") from error
    finally:
        if mine:
            ray.shutdown()


def _rows(task: Task, jobs: Sequence[Job], workers: int, gpus: int) -> Iterator[dict[str, Any]]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # outcomes tell what matters
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    blocks = max(-(-len(jobs) // PICTURES_PER_BLOCK), min(len(jobs), 4 * workers))
    items = [
        {"index": index, "work": pickle.dumps((task, _anywhere(job)))}
        for index, job in enumerate(jobs)
    ]
    yield from (
        ray.data.from_items(items, override_num_blocks=blocks)
        .map_batches(
            _RayWorker,
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus,
        )
        .iter_rows()
    )


class _RayWorker:
    """A worker within an actor. What it needs comes with the work, so that it can be restarted."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = [self._work(*pickle.loads(work)) for work in batch["work"]]
        return {
            "index": batch["index"],
            "objects": [outcome.objects for outcome in found],
            "error": [outcome.error for outcome in found],
            "fatal": [outcome.fatal for outcome in found],
        }

    def _work(self, task: Task, job: Job) -> Outcome:
        """Do a picture, unless it has been the end of several workers."""
        if self._worker is None:
            self._worker = Worker(task)
        folder = task.output.state_folder / ATTEMPTS_FOLDER
        note = folder / hashlib.sha256(os.fsencode(job.picture.path)).hexdigest()
        try:
            folder.mkdir(exist_ok=True)
            with note.open("ab") as file:
                file.write(b".")
                attempts = file.tell()
        except OSError as error:
            return failed(job, error)
        if attempts > MAX_DEATHS:
            return Outcome(job, error=f"{MAX_DEATHS} workers died at it; is there enough memory?")
        outcome = self._worker(job)
        note.unlink(missing_ok=True)
        return outcome


def _start(address: str, workers: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    import ray

    options: dict[str, Any] = {"address": address}
    if address == LOCAL:
        options |= {
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    try:
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"No Ray cluster could be reached at {address}; check it, or leave out --ray: {error}"
        ) from error


def _task_anywhere(task: Task) -> Task:
    """Return the task with paths that mean the same in any folder."""
    output = replace(task.output, folder=Path(os.path.abspath(task.output.folder)))
    model = os.path.expanduser(task.model)
    return replace(
        task, output=output, model=os.path.abspath(model) if os.path.isfile(model) else task.model
    )


def _anywhere(job: Job) -> Job:
    picture = replace(job.picture, path=Path(os.path.abspath(job.picture.path)))
    return replace(job, picture=picture)

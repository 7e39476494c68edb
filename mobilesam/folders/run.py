"""A run over many pictures, from what was asked for to the summary."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mobilesam.errors import INTERRUPTED, sentence
from mobilesam.exporting import OBJECT
from mobilesam.files import sha256_of
from mobilesam.folders.inputs import Inputs, Picture, collect
from mobilesam.folders.jobs import Outcome, Task, Worker, outcomes
from mobilesam.folders.outputs import Format, Job, Output
from mobilesam.folders.progress import Progress
from mobilesam.folders.ray_jobs import check_ray, ray_outcomes
from mobilesam.folders.state import opened_folder, plan
from mobilesam.folders.tables import ObjectPrompt
from mobilesam.photo_exports import one_line
from mobilesam.polygons import TOLERANCE

OK, SOME_FAILED = 0, 1  # exit statuses
DEFAULT_THREADS = 2
DIGITS = 12  # of a checkpoint's SHA-256: enough to tell two apart
WRITES_PICTURES = ("png", "cutout")


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Attributes:
        inputs: Files, folders, patterns, tables.
        out: Folder of results.
        model: Name or checkpoint path.
        format: What is written.
        everything: Options of the everything mode that are not the model's defaults; None to
            segment what prompts tell.
        prompt: What to look for where no table says it.
        name: What objects are called where no table says it.
        recursive: Whether folders within folders are searched.
        overwrite: Whether finished results are made anew.
        polygons: Whether COCO gets outlines.
        tolerance: Of outlines, pixels; None for the default.
        jobs: Threads that read, and as many that write, or Ray workers; None for the default.
        threads: Of the model's arithmetic; None for PyTorch's choice.
        ray: A cluster's address, or ``local``; None to work in this process.
        load: Further keyword arguments of ``load_model``.
    """

    inputs: Sequence[str]
    out: Path
    model: str
    format: Format
    everything: dict[str, Any] | None = None
    prompt: ObjectPrompt | None = None
    name: str = OBJECT
    recursive: bool = False
    overwrite: bool = False
    polygons: bool = False
    tolerance: float | None = None
    jobs: int | None = None
    threads: int | None = None
    ray: str | None = None
    load: dict[str, Any] | None = None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that results depend on beside pictures and prompts.

        Raises:
            ValueError, CheckpointError: There is no such model.
        """
        return {
            "command": "segment" if self.everything is None else "everything",
            "format": self.format,
            "model": self.model,
            "weights": _weights(self.model),
            "backend": (self.load or {}).get("backend", "torch"),
            "name": self.name,
            "polygons": self.polygons,
            "tolerance": self.output.tolerance if self.has_outlines else None,
            "options": self.everything,
        }

    @property
    def has_outlines(self) -> bool:
        """Whether results hold outlines rather than pixels."""
        return self.format in ("labelme", "yolo") or self.polygons

    @property
    def output(self) -> Output:
        """Where results go and how they are written; without the names in tables."""
        return Output(
            folder=self.out,
            format=self.format,
            polygons=self.polygons,
            tolerance=TOLERANCE if self.tolerance is None else self.tolerance,
            several=self.everything is not None,
            classes=(self.name,),
        )


def run(request: Request) -> int:
    """Make what is asked for, and tell how it went.

    Returns:
        The exit status: 0, 1 if pictures failed, 130 after Ctrl+C.

    Raises:
        ValueError, OSError: It cannot be begun.
    """
    _check(request)
    inputs = _inputs(request)
    settings = request.settings
    with opened_folder(request.out):
        planned = plan(inputs.pictures, request.output, settings, overwrite=request.overwrite)
        jobs, output = planned.jobs, planned.output
        pending = [job for job in jobs if request.overwrite or not output.is_finished(job)]
        progress = Progress(len(jobs), skipped=len(jobs) - len(pending))
        task = _task(request, output)
        status, whole = SOME_FAILED, None
        try:
            stopped = False
            with closing(_outcomes(request, task, pending, progress)) as results:
                planned.begin()  # nothing is removed before the model has been found
                for outcome in results:
                    progress.add(outcome)
                    if stopped := outcome.fatal:
                        hint = f"free some and run {_again(request)} again: it goes on from here"
                        progress.say(f"there is no space left in {request.out}; {hint}.")
                        break
            if not stopped:
                whole, status = _write_whole(output, [*planned.others, *jobs], progress)
        except KeyboardInterrupt:
            status = INTERRUPTED
            if planned.begun:  # also those that nobody has told of yet
                progress.recount(sum(output.is_finished(job) for job in pending))
        except OSError as error:
            if not planned.begun:
                raise
            progress.say(sentence(error))
        finally:
            progress.close()
    if whole is not None and request.format == "coco":
        _tell_of_gone(planned.others, output, progress)
    _report(request, status, progress, inputs.ignored, whole)
    return status


def _write_whole(
    output: Output, jobs: Sequence[Job], progress: Progress
) -> tuple[Path | None, int]:
    """Write what a format has one of for all pictures; returns what it holds, and the status."""
    try:
        whole = output.write_whole(jobs)
    except (OSError, ValueError) as error:
        progress.say(sentence(error))
        return None, SOME_FAILED
    return whole, SOME_FAILED if progress.failures else OK


def _tell_of_gone(others: Sequence[Job], output: Output, progress: Progress) -> None:
    """Say which photos of earlier runs the data set still has although they are not there."""
    gone = [job for job in others if not job.picture.path.exists() and output.is_finished(job)]
    if gone:
        count = "1 photo" if len(gone) == 1 else f"{len(gone)} photos"
        hint = f"to leave them out, delete their parts (as {output.path(gone[0])})"
        progress.say(
            f"{output.whole_path} still has {count} of earlier runs that cannot be found any more "
            f"(as {gone[0].shown}); {hint}"
        )


def _weights(model: str) -> str:
    """Return what tells a model's weights from others: a checkpoint may change behind its path."""
    from mobilesam.checkpoints import CHECKPOINTS, find_checkpoint
    from mobilesam.registry import MODELS, locate

    spec = MODELS.get(model)
    if spec is not None and spec.checkpoint is not None:
        found = find_checkpoint(spec.checkpoint)  # may be a file of one's own
        digest = sha256_of(found) if found else CHECKPOINTS[spec.checkpoint].sha256
    else:
        digest = sha256_of(locate(model)[0])
    return digest[:DIGITS]


def _task(request: Request, output: Output) -> Task:
    threads = request.threads
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    load = request.load or {}
    return Task(output, request.model, request.name, threads, load, request.everything)


def _check(request: Request) -> None:
    if request.out.exists() and not request.out.is_dir():
        raise ValueError(f"--out must be a folder here; {request.out} is a file, so name another.")
    if request.polygons and request.format != "coco":
        raise ValueError(f"--polygons is for --format coco; got {request.format}: leave it out.")
    if request.tolerance is not None and not request.has_outlines:
        raise ValueError(
            "--tolerance is for outlines: --format labelme or yolo, or coco with --polygons; got "
            f"{request.format}: leave it out."
        )
    if request.format in WRITES_PICTURES and request.out.is_dir():
        for text in request.inputs:
            folder = os.path.expanduser(text)
            if os.path.isdir(folder) and os.path.samefile(folder, request.out):
                raise ValueError(
                    f"--out is the folder of pictures {text} itself, where the results would be "
                    "taken for pictures the next time; name another."
                )
    if request.ray:
        check_ray()


def _inputs(request: Request) -> Inputs:
    inputs = collect(
        request.inputs,
        needs_prompts=request.everything is None,
        prompt=request.prompt,
        recursive=request.recursive,
        skip=request.out,
    )
    pictures = tuple(_named(picture, request.name) for picture in inputs.pictures)
    return replace(inputs, pictures=pictures)


def _named(picture: Picture, name: str) -> Picture:
    prompts = [
        replace(prompt, name=one_line(prompt.name or "") or name) for prompt in picture.prompts
    ]
    return replace(picture, prompts=tuple(prompts))


def _outcomes(
    request: Request, task: Task, pending: Sequence[Job], progress: Progress
) -> Generator[Outcome]:
    """Get ready to work, and return what will do it."""
    if not pending:
        nothing: tuple[Outcome, ...] = ()
        return (outcome for outcome in nothing)
    if request.ray:
        return ray_outcomes(task, pending, request.ray, request.jobs)
    worker = Worker(task, progress.show_share)
    return outcomes(worker, pending, request.jobs or DEFAULT_THREADS)


def _again(request: Request) -> str:
    """Return what goes on with a run; what it has made anew is not to be made once more."""
    return f"the same command{' without --overwrite' if request.overwrite else ''}"


def _report(
    request: Request, status: int, progress: Progress, ignored: int, whole: Path | None
) -> None:
    """Tell people on standard error, and programs on standard output, how it went."""
    done, failed = progress.done, len(progress.failures)
    counts = f"{done} done, {progress.skipped} skipped, {failed} failed in {progress.seconds:.1f} s"
    if done and progress.objects is not None:
        counts += f", {progress.objects} object{'' if progress.objects == 1 else 's'} found"
    ending = f"results in {whole if whole and request.format == 'coco' else request.out}"
    if status == INTERRUPTED:
        ending = f"interrupted: {_again(request)} goes on from here; {ending}"
    progress.say(f"{counts}; {ending}")
    if request.everything is not None and done and progress.objects == 0:
        hint = "lower --pred-iou-thresh and --stability-score-thresh"
        progress.say(f"no mask was good enough by the model's own judgement; {hint}")
    if ignored:
        progress.say(f"{ignored} other files in the folders were left out: no pictures by name")
    report = {
        **request.settings,
        "out": str(request.out),
        "file": str(whole) if whole else None,
        "status": status,
        "done": done,
        "skipped": progress.skipped,
        "failed": failed,
        "objects": progress.objects,
        "unfinished": progress.total - progress.skipped - done - failed,
        "ignored": ignored,
        "seconds": round(progress.seconds, 1),
        "failures": [
            {"path": str(outcome.job.picture.path), "error": outcome.error}
            for outcome in progress.failures
        ],
    }
    sys.stdout.write(json.dumps(report) + "\n")

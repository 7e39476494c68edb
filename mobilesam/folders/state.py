"""The bookkeeping in a folder of results: which name is whose, and made with what."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mobilesam.files import write_atomically
from mobilesam.folders.inputs import Picture
from mobilesam.folders.outputs import STATE_FOLDER, Job, Output, relative_path
from mobilesam.folders.tables import ObjectPrompt

STATE_FILE = "run.json"
LOCK_FILE = "lock"
ATTEMPTS_FOLDER = "attempts"  # of Ray's workers
REMEDY = "choose another --out, or add --overwrite to make them anew"


@contextmanager
def opened_folder(folder: Path) -> Iterator[None]:
    """Make a folder of results ready, and keep other runs out of it meanwhile.

    Raises:
        ValueError: Another run is writing there.
        OSError: It cannot be written.
    """
    state_folder = folder / STATE_FOLDER
    try:
        state_folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(state_folder / LOCK_FILE, timeout=0)
        with lock:
            _clear(state_folder)
            yield
    except Timeout as error:
        raise ValueError(
            f"Another run is writing to {folder}; wait for it, or choose another --out."
        ) from error


def _clear(state_folder: Path) -> None:
    """Remove what a run that was killed has left."""
    for pattern in ("*.part", "*.old", ATTEMPTS_FOLDER):
        for left in state_folder.glob(pattern):
            _remove(left)


def plan(
    pictures: Sequence[Picture],
    output: Output,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> tuple[list[Job], Output]:
    """Give every picture a name for its results, the one it had in earlier runs if there was one.

    The name is that of the picture, below the folder it was found through, without suffix. Where
    another picture has that name, be it of an earlier run, or the result would replace a picture,
    the suffix is added, and then a number.

    Args:
        pictures: What is asked for.
        output: Where it goes; what prompts and earlier runs call objects is added to its classes.
        settings: All that results depend on beside the picture and its prompts, fit for JSON.
        overwrite: Whether results made with other settings or prompts are removed; else they are
            an error.

    Returns:
        A job for each picture, and the output with the names of all objects.

    Raises:
        ValueError: Results that are there were made with other settings or prompts, or not here.
        OSError: The bookkeeping could not be read or written.
    """
    path = output.state_folder / STATE_FILE
    known = _read(path)
    settings = json.loads(json.dumps(settings))  # as they will be read again
    if known["settings"] != settings:
        stale = list(known["pictures"].values())
        what = _difference(known["settings"] or {}, settings)
        known["pictures"], known["classes"] = {}, []
    else:
        entries = [known["pictures"].get(_key(picture, output)) for picture in pictures]
        stale = [
            entry
            for entry, picture in zip(entries, pictures, strict=True)
            if entry and entry["prompts"] != _digest(picture.prompts)
        ]
        what = "other prompts"
    stale = [entry for entry in stale if (output.folder / entry["result"]).exists()]
    if stale and not overwrite:
        first = stale[0]["result"]
        message = f"{output.folder} holds {len(stale)} results made with {what} (as {first});"
        raise ValueError(f"{message} {REMEDY}.")
    for entry in stale:
        _remove(output.folder / entry["result"])
    ours = set(known["pictures"])
    names = [prompt.name for picture in pictures for prompt in picture.prompts]
    known["classes"] = list(dict.fromkeys([*known["classes"], *output.classes, *names]))
    jobs = _name(pictures, output, known["pictures"])
    if not overwrite:
        _refuse_foreign(jobs, output, ours, first_run=known["settings"] is None)
    known["settings"] = settings
    write_atomically(path, json.dumps(known, indent=1).encode(), output.state_folder)
    return jobs, replace(output, classes=tuple(known["classes"]))


def _refuse_foreign(jobs: Sequence[Job], output: Output, ours: set[str], first_run: bool) -> None:
    """Refuse to take, or to replace, a file that no run has written here."""
    paths = [output.path(job) for job in jobs if _key(job.picture, output) not in ours]
    if first_run and output.whole_path is not None:
        paths.append(output.whole_path)
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already, and not from an earlier run; {REMEDY}.")


def _name(pictures: Sequence[Picture], output: Output, known: dict[str, Any]) -> list[Job]:
    """Name all results, and note the names in ``known``."""
    taken = {_fold(entry["name"]) for entry in known.values()}
    not_replaced = {_fold(os.path.abspath(picture.path)) for picture in pictures}
    if output.whole_path is not None:
        not_replaced.add(_fold(os.path.abspath(output.whole_path)))
    common = Path(os.path.commonpath([os.path.abspath(picture.root) for picture in pictures]))
    jobs = []
    for picture in pictures:
        shown, key = relative_path(picture.path, common), _key(picture, output)
        if key in known:
            job = Job(picture, known[key]["name"], shown)
        else:
            for name in _candidates(picture):
                job = Job(picture, name, shown)
                result = os.path.abspath(output.path(job))
                if _fold(name) not in taken and _fold(result) not in not_replaced:
                    break
            taken.add(_fold(job.name))
        known[key] = {
            "name": job.name,
            "result": relative_path(output.path(job), output.folder),
            "prompts": _digest(picture.prompts),
        }
        jobs.append(job)
    return jobs


def _candidates(picture: Picture) -> Iterator[str]:
    plain = Path(relative_path(picture.path, picture.root))
    yield plain.with_suffix("").as_posix()
    ending = plain.suffix.removeprefix(".")
    longer = plain.with_name(f"{plain.stem}_{ending}").as_posix()
    yield longer
    yield from (f"{longer}_{number}" for number in count(2))


def _read(path: Path) -> dict[str, Any]:
    known: dict[str, Any] = {"settings": None, "pictures": {}, "classes": []}
    if path.exists():
        try:
            known |= json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged; remove it, and the results that are to be made anew."
            ) from error
    return known


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key)}, not {now.get(key)}" for key in changed)


def _remove(result: Path) -> None:
    if result.is_dir():
        shutil.rmtree(result)
    else:
        result.unlink(missing_ok=True)


def _key(picture: Picture, output: Output) -> str:
    return relative_path(picture.path, output.folder)


def _digest(prompts: Sequence[ObjectPrompt]) -> str:
    wanted = [{**asdict(prompt), "origin": ""} for prompt in prompts]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]


def _fold(name: str) -> str:
    """Return a name such that those one file system or other takes for the same are the same."""
    return unicodedata.normalize("NFC", name).casefold()

"""The bookkeeping in a folder of results: which name is whose, and made with what."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
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


@dataclass(eq=False)
class Plan:
    """What a run is to make; nothing is changed before it ``begin``s.

    Attributes:
        jobs: One for each picture asked for.
        others: Those of earlier runs into this folder that are not asked for now.
        output: Where it goes, with the names of all objects.
        outdated: Results that are to be made anew.
        known: The bookkeeping as it will be.
        begun: Whether what is outdated is gone.
    """

    jobs: list[Job]
    others: list[Job]
    output: Output
    outdated: Sequence[Path]
    known: dict[str, Any]
    begun: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Remove what is to be made anew, and note what with; call it when all else is ready.

        A run that is cut off afterwards can be gone on with: what is there was made by it.

        Raises:
            OSError: Something of it could not be done.
        """
        for path in self.outdated:
            _remove(path)
        content = json.dumps(self.known, indent=1).encode()
        write_atomically(self.output.state_folder / STATE_FILE, content, self.output.state_folder)
        self.begun = True


def plan(
    pictures: Sequence[Picture],
    output: Output,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> Plan:
    """Give every picture a name for its results, the one it had in earlier runs if there was one.

    The name is that of the picture, below the folder it was found through, without suffix. Where
    another picture has that name, be it of an earlier run, or the result would replace a picture,
    the suffix is added, and then a number. What an earlier run has made is no picture.

    Args:
        pictures: What is asked for.
        output: Where it goes; what prompts and earlier runs call objects is added to its classes.
        settings: All that results depend on beside the picture and its prompts, fit for JSON.
        overwrite: Whether these pictures' results are made anew; else those made with other
            settings or prompts are an error.

    Raises:
        ValueError: Results that are there were made with other settings or prompts, or not here;
            or nothing is left to do.
        OSError: The bookkeeping could not be read.
    """
    known = _read(output.state_folder / STATE_FILE)
    pictures = _without_results(pictures, output, known["pictures"])
    settings = json.loads(json.dumps(settings))  # as they will be read again
    before, first_run = dict(known["pictures"]), known["settings"] is None
    asked = {_key(picture, output): _digest(picture.prompts) for picture in pictures}
    if known["settings"] != settings:
        what = _difference(known["settings"] or {}, settings)
        stale = before
        known["pictures"], known["classes"] = {}, []
    else:
        what = "other prompts"
        stale = {
            key: entry
            for key, entry in before.items()
            if key in asked and entry["prompts"] != asked[key]
        }
    stale = {key: one for key, one in stale.items() if (output.folder / one["result"]).exists()}
    _refuse_stale(stale, asked, output.folder, what, overwrite)
    ours = set(known["pictures"])
    names = [prompt.name for picture in pictures for prompt in picture.prompts]
    known["classes"] = list(dict.fromkeys([*known["classes"], *output.classes, *names]))
    jobs, others = _name(pictures, output, known["pictures"], asked)
    if not overwrite:
        _refuse_foreign(jobs, output, ours, first_run)
    known["settings"] = settings
    outdated = [output.folder / entry["result"] for entry in stale.values()]
    if overwrite:
        outdated += [output.path(job) for job in jobs]
    complete = replace(output, classes=tuple(known["classes"]))
    return Plan(jobs, others, complete, outdated=outdated, known=known)


def _without_results(
    pictures: Sequence[Picture], output: Output, known: Mapping[str, Any]
) -> list[Picture]:
    """Leave out what an earlier run wrote here: a pattern may match that, too."""
    made = {_fold(os.path.abspath(output.folder / one["result"])) for one in known.values()}
    left = []
    for picture in pictures:
        path = os.path.abspath(picture.path)
        if _fold(path) not in made and _fold(os.path.dirname(path)) not in made:
            left.append(picture)
    if not left:
        raise ValueError(
            f"All pictures that were given are results of an earlier run, in {output.folder}; "
            "name others."
        )
    return left


def _refuse_stale(
    stale: Mapping[str, Any], asked: Mapping[str, Any], folder: Path, what: str, overwrite: bool
) -> None:
    """Refuse to mix results; ``overwrite`` is for those of the pictures that are asked for."""
    left = [entry["result"] for key, entry in stale.items() if key not in asked]
    if overwrite and left:
        count = f"{len(left)} result{'' if len(left) == 1 else 's'}"
        raise ValueError(
            f"{folder} also holds {count} of other pictures, made with {what} (as {left[0]}); "
            f"choose another --out, or delete them with {STATE_FOLDER} in it."
        )
    if stale and not overwrite:
        first = next(iter(stale.values()))["result"]
        message = f"{folder} holds {len(stale)} results made with {what} (as {first});"
        raise ValueError(f"{message} {REMEDY}.")


def _refuse_foreign(jobs: Sequence[Job], output: Output, ours: set[str], first_run: bool) -> None:
    """Refuse to take, or to replace, a file that no run has written here."""
    paths = [output.path(job) for job in jobs if _key(job.picture, output) not in ours]
    if first_run and output.whole_path is not None:
        paths.append(output.whole_path)
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already, and not from an earlier run; {REMEDY}.")


def _name(
    pictures: Sequence[Picture], output: Output, known: dict[str, Any], asked: Mapping[str, str]
) -> tuple[list[Job], list[Job]]:
    """Name all results, and note the names in ``known``; the second list is of its others.

    ``asked`` has the digest of each picture's prompts by its key.
    """
    taken = {_fold(entry["name"]) for entry in known.values()}
    not_replaced = {_fold(os.path.abspath(picture.path)) for picture in pictures}
    if output.whole_path is not None:
        not_replaced.add(_fold(os.path.abspath(output.whole_path)))
    earlier = {
        key: _earlier(key, entry, output) for key, entry in known.items() if key not in asked
    }
    common = _common_root([*pictures, *earlier.values()])
    others = [
        Job(picture, known[key]["name"], relative_path(picture.path, common or picture.root))
        for key, picture in earlier.items()
    ]
    jobs = []
    for picture in pictures:
        shown, key = relative_path(picture.path, common or picture.root), _key(picture, output)
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
            "prompts": asked[key],
            "root": relative_path(picture.root, output.folder),
        }
        jobs.append(job)
    return jobs, others


def _earlier(key: str, entry: Mapping[str, Any], output: Output) -> Picture:
    """Return a picture of an earlier run, as far as it is known."""
    path = output.folder / key
    return Picture(path, output.folder / entry["root"] if "root" in entry else path.parent)


def _common_root(pictures: Sequence[Picture]) -> Path | None:
    """Return the folder that all roots are in; None if there is none, on several drives."""
    try:
        return Path(os.path.commonpath([os.path.abspath(picture.root) for picture in pictures]))
    except ValueError:
        return None


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

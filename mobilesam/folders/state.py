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
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from mobilesam.files import make_folder, write_atomically
from mobilesam.folders.inputs import STATE_FILE, STATE_FOLDER, Picture
from mobilesam.folders.outputs import Job, Output, relative_path
from mobilesam.folders.tables import ObjectPrompt

LOCK_FILE = "lock"
ATTEMPTS_FOLDER = "attempts"  # of Ray's workers
REMEDY = "choose another --out, or add --overwrite to make them anew"


@contextmanager
def opened_folder(folder: Path) -> Iterator[None]:
    """Make a folder of results ready, and keep other runs out of it meanwhile.

    Raises:
        ValueError: Another run is writing there, or it cannot be made or written to.
    """
    make_folder(folder)
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
    another picture has that name, be it of an earlier run, or the result would replace a picture
    or be in the way of a folder, the suffix is added, and then a number. What an earlier run has
    made is no picture.

    Args:
        pictures: What is asked for.
        output: Where it goes; what prompts and earlier runs call objects is added to its classes.
        settings: All that results depend on beside the picture and its prompts, fit for JSON.
        overwrite: Whether these pictures' results are made anew; else those made with other
            settings or prompts, or of other photos, are an error.

    Raises:
        ValueError: Results that are there were made with other settings or prompts, of photos that
            were replaced since, or not here; or nothing is left to do.
        OSError: The bookkeeping could not be read.
    """
    known = _read(output.state_folder / STATE_FILE)
    pictures = _without_results(pictures, output, known["pictures"])
    settings = json.loads(json.dumps(settings))  # as they will be read again
    before, first_run = dict(known["pictures"]), known["settings"] is None
    asked = {
        key: {
            "prompts": _digest(picture.prompts),
            "bytes": _bytes_of(picture.path),
        }
        for key, picture in ((_key(picture, output), picture) for picture in pictures)
    }
    old_whole = None
    if not _same_settings(known["settings"] or {}, settings):
        what = _difference(known["settings"] or {}, settings)
        stale = before
        known["pictures"], known["classes"] = {}, []
        if not first_run:
            old_whole = replace(output, format=known["settings"]["format"]).whole_path
    else:
        changes = {key: _change(entry, asked[key]) for key, entry in before.items() if key in asked}
        stale = {key: before[key] for key, change in changes.items() if change}
        what = next((changes[key] for key in stale), "")
    stale = {key: one for key, one in stale.items() if (output.folder / one["result"]).exists()}
    _refuse_stale(stale, asked, output.folder, what, overwrite)
    ours = set(known["pictures"])
    names = [prompt.name for picture in pictures for prompt in picture.prompts]
    found_unnamed = output.classes if output.several else ()
    known["classes"] = list(dict.fromkeys([*known["classes"], *found_unnamed, *names]))
    jobs, others = _name(pictures, output, known["pictures"], asked)
    if not overwrite:
        _refuse_foreign(jobs, output, ours, first_run)
    known["settings"] = settings
    outdated = [output.folder / entry["result"] for entry in stale.values()]
    if overwrite:
        outdated += [output.path(job) for job in jobs]
        outdated += [] if old_whole in (None, output.whole_path) else [old_whole]
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
    pictures: Sequence[Picture],
    output: Output,
    known: dict[str, Any],
    asked: Mapping[str, Mapping[str, Any]],
) -> tuple[list[Job], list[Job]]:
    """Name all results, and note the names in ``known``; the second list is of its others.

    ``asked`` has what is noted of each picture beside the names, by its key.
    """
    taken = {_fold(entry["name"]) for entry in known.values()}
    first = (Job(picture, next(_candidates(picture)), "") for picture in pictures)
    wanted = [output.result(job) for job in first]
    there = [entry["result"] for entry in known.values()]
    folders = {folder for result in (*wanted, *there) for folder in _folders_of(result)}
    results = {_fold(result) for result in there}
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
                result = _fold(output.result(job))
                if _folders_of(result) & results:
                    raise ValueError(
                        f"The result of {picture.path} needs a folder in {output.folder} where "
                        "that of another picture lies; choose another --out."
                    )
                replaces = _fold(os.path.abspath(output.path(job))) in not_replaced
                if _fold(name) not in taken and result not in folders and not replaces:
                    break
            taken.add(_fold(job.name))
            results.add(result)
        known[key] = {
            "name": job.name,
            "result": output.result(job),
            "root": relative_path(picture.root, output.folder),
            **asked[key],
        }
        jobs.append(job)
    return jobs, others


def _folders_of(result: str) -> set[str]:
    """Return the folders, below that of all results, in which one lies."""
    return {_fold(folder.as_posix()) for folder in PurePosixPath(result).parents} - {"."}


def _earlier(key: str, entry: Mapping[str, Any], output: Output) -> Picture:
    """Return a picture of an earlier run, as far as it is known."""

    def named(relative: str) -> Path:
        """As it was named: seen from the folder, which may be a link."""
        return Path(os.path.normpath(os.path.join(os.path.abspath(output.folder), relative)))

    path = named(key)
    return Picture(path, named(entry["root"]) if "root" in entry else path.parent)


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
            if not isinstance(known["settings"], dict) or not isinstance(known["classes"], list):
                raise TypeError("not as it was written")
            for entry in known["pictures"].values():
                _ = entry["name"], entry["result"], entry["prompts"]
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged; remove it, and the results that are to be made anew."
            ) from error
    return known


def _same_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether results would be the same; a model goes by its weights, not by its path."""
    one, other = (
        {**settings, "model": None, "options": _lasting(settings.get("options"))}
        for settings in (before, now)
    )
    return one == other


def _lasting(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Leave out the options that change nothing: at their default, or only how masks are found."""
    if options is None:
        return None
    from mobilesam.everything import OWN_THRESHOLDS, EverythingOptions

    return {
        name: value
        for name, value in options.items()
        if name != "points_per_batch"
        and (name in OWN_THRESHOLDS or value != getattr(EverythingOptions, name, None))
    }


def _change(entry: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what is other than when a result was made; empty if nothing is."""
    if entry["prompts"] != now["prompts"]:
        return "other prompts"
    sizes = entry.get("bytes"), now["bytes"]
    return "other photos of that name" if None not in sizes and sizes[0] != sizes[1] else ""


def _bytes_of(path: Path) -> int | None:
    """Return a photo's size; None if there is none, which is said when it is its turn."""
    try:
        return path.stat().st_size
    except OSError:
        return None


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

"""What is to be segmented: files, folders, patterns, and tables of prompts."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobilesam.folders.tables import ObjectPrompt, read_table

PICTURE_SUFFIXES = frozenset(
    {
        *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    }
)
TABLE_SUFFIX = ".csv"
STATE_FOLDER = ".mobilesam"  # in a folder of results: the bookkeeping
STATE_FILE = "run.json"


@dataclass(frozen=True)
class Picture:
    """A picture to be segmented.

    Attributes:
        path: Of its file.
        root: The folder it was found through; its folders below this one are kept in the output.
        prompts: One for each object wanted.
    """

    path: Path
    root: Path
    prompts: tuple[ObjectPrompt, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Everything that was asked for.

    Attributes:
        pictures: Each file once, in the order given; folders in the order of names.
        ignored: Number of files in folders that are no pictures by their names.
    """

    pictures: tuple[Picture, ...]
    ignored: int


def is_several(text: str) -> bool:
    """Tell whether an INPUT may stand for more than one picture."""
    path = os.path.expanduser(text)
    if os.path.isdir(path) or path.lower().endswith(TABLE_SUFFIX):
        return True
    return glob.has_magic(path) and not os.path.exists(path)


def collect(
    texts: Sequence[str],
    *,
    needs_prompts: bool,
    prompt: ObjectPrompt | None = None,
    recursive: bool = False,
    skip: Path | None = None,
) -> Inputs:
    """Find the pictures that are meant.

    A file is taken whatever it is called. Of a folder, and of what a pattern matches, those files
    are taken that are pictures by their names and not hidden; other files are counted only. What
    an earlier run has written into a folder in there is left out.

    Args:
        texts: Files, folders, patterns such as ``photos/*.jpg`` (``**`` goes through folders), and
            tables of prompts (``.csv``).
        needs_prompts: Whether every picture must have a prompt; else none may have one.
        prompt: What to look for in every picture for which no table says so.
        recursive: Whether folders within folders are searched, too. Links to folders are not
            followed.
        skip: A folder that is not searched: where the results go.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: A pattern or folder has no picture, a table is wrong, or a picture has no
            prompt.
    """
    gathering = _Gathering(needs_prompts, recursive)
    for text in texts:
        path = Path(os.path.expanduser(text))
        if path.suffix.lower() == TABLE_SUFFIX and path.is_file():
            gathering.add_table(path, prompt)
        elif path.is_dir():
            gathering.add_folder(
                text, path, _files(path, recursive, skip, _EarlierResults(path)), prompt
            )
        elif os.path.lexists(path):
            gathering.add(path, path.parent, gathering.check(text, prompt))
        elif glob.has_magic(str(path)):
            matches = _matches(path, recursive, skip)
            gathering.add_folder(text, _plain_part(path), matches, prompt)
        else:
            raise FileNotFoundError(f"There is no file or folder {text}; check the path.")
    return Inputs(tuple(gathering.found.values()), len(gathering.ignored))


class _Gathering:
    """The pictures found so far, by their absolute paths."""

    def __init__(self, needs_prompts: bool, recursive: bool) -> None:
        self.needs_prompts = needs_prompts
        self.recursive = recursive
        self.found: dict[str, Picture] = {}
        self.ignored: set[str] = set()

    def check(self, origin: str, prompt: ObjectPrompt | None) -> ObjectPrompt | None:
        """Return the prompt if it is there, and wanted."""
        if self.needs_prompts and not prompt:
            hint = "give a --point X,Y, a --box X0,Y0,X1,Y1, or a CSV of pictures and prompts"
            raise ValueError(f"{origin}: no prompt was given; {hint}.")
        if prompt and not self.needs_prompts:
            hint = "empty its cells of points and boxes, or use `segment`"
            raise ValueError(f"{origin}: everything mode takes no prompts; {hint}.")
        return prompt

    def add(self, path: Path, root: Path, prompt: ObjectPrompt | None) -> None:
        """Take a picture; its result's name begins at ``root``, or it has none above the file."""
        key = os.path.abspath(path)
        if not Path(key).is_relative_to(os.path.abspath(root)):
            root = path.parent
        prompts = (prompt,) if prompt else ()
        known = self.found.get(key)
        if known is None:
            self.found[key] = Picture(path, root, prompts)
        elif not set(prompts) <= set(known.prompts):
            self.found[key] = replace(known, prompts=known.prompts + prompts)

    def add_table(self, table: Path, prompt: ObjectPrompt | None) -> None:
        """Take a table's rows; one that has no prompt of its own gets the given one."""
        rows = list(read_table(table))
        for photo, wanted in rows:
            if not wanted and prompt:
                name = wanted.name or prompt.name
                wanted = replace(prompt, name=name, origin=wanted.origin)
            self.check(wanted.origin, wanted)
            if wanted.name and not self.needs_prompts:
                hint = "empty its cells of names, or use --name for all of them"
                raise ValueError(f"{wanted.origin}: everything mode takes no names; {hint}.")
            self.add(photo, table.parent, wanted)
        if not rows:
            raise ValueError(f"{table} names no picture; give it a row for each object.")

    def add_folder(
        self, text: str, root: Path, files: Iterator[Path], prompt: ObjectPrompt | None
    ) -> None:
        """Take those of the files that are pictures by their names."""
        self.check(text, prompt)
        seen = False
        for path in files:
            if path.suffix.lower() in PICTURE_SUFFIXES:
                self.add(path, root, prompt)
                seen = True
            else:
                self.ignored.add(os.path.abspath(path))
        if not seen:
            deeper = "" if self.recursive else ", or add --recursive to search its folders, too"
            raise ValueError(f"There is no picture in {text}; name another place{deeper}.")


def _files(
    folder: Path, recursive: bool, skip: Path | None, earlier: _EarlierResults
) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error

    for name, below, files in os.walk(folder, onerror=stop):
        below.sort()
        below[:] = [
            one
            for one in below
            if recursive and not one.startswith(".") and not _is_same(os.path.join(name, one), skip)
        ]
        for path in (Path(name, file) for file in sorted(files) if not file.startswith(".")):
            if path not in earlier:
                yield path


def _matches(pattern: Path, recursive: bool, skip: Path | None) -> Iterator[Path]:
    plain = _plain_part(pattern)
    rest = pattern.parts[len(plain.parts) :]
    results = None if skip is None else os.path.abspath(skip)
    if results is not None and Path(os.path.abspath(plain)).is_relative_to(results):
        results = None  # the pattern means that very folder
    earlier = _EarlierResults(plain)
    for name in sorted(glob.glob(os.path.join(glob.escape(str(plain)), *rest), recursive=True)):
        path = Path(name)
        if results is not None and Path(os.path.abspath(path)).is_relative_to(results):
            continue
        if path in earlier:
            continue
        if not path.is_dir():
            yield path
        elif "**" not in rest:
            yield from _files(path, recursive, skip, earlier)


class _EarlierResults:
    """The pictures that earlier runs have written into folders below one; that one is meant."""

    def __init__(self, top: Path) -> None:
        self._made: dict[Path, frozenset[Path]] = {top: frozenset()}  # in a folder, or above it

    def __contains__(self, path: Path) -> bool:
        made = self._made_for(path.parent)
        return path in made or path.parent in made

    def _made_for(self, folder: Path) -> frozenset[Path]:
        if folder not in self._made:
            above = frozenset() if folder == folder.parent else self._made_for(folder.parent)
            self._made[folder] = above | _pictures_made(folder)
        return self._made[folder]


def _pictures_made(folder: Path) -> frozenset[Path]:
    """Return the pictures, and folders of cut-outs, that a run has written into a folder."""
    try:
        known = json.loads((folder / STATE_FOLDER / STATE_FILE).read_bytes())
        return frozenset(folder / one["result"] for one in known["pictures"].values())
    except (OSError, ValueError, TypeError, AttributeError, KeyError):  # none, or damaged
        return frozenset()


def _plain_part(pattern: Path) -> Path:
    """Return the folders of a pattern before the first that is one; what is there is none."""
    plain = Path(pattern.anchor)
    for part in pattern.parts[len(plain.parts) : -1]:
        if glob.has_magic(part) and not (plain / part).is_dir():
            break
        plain /= part
    return plain


def _is_same(path: str, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)

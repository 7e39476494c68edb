"""A file to download, and what the tests of its transfer ask of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from http_server import Answer

from mobilesam.downloads import TimeLimits, fetch

CONTENT = hashlib.shake_128(b"a checkpoint").digest(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = TimeLimits(open_seconds=3.0, stall_seconds=1.0, resumes=3)
GOOD = Answer(CONTENT)


def get(target: Path, *urls: str, **options: object) -> Path:
    settings = {"sha256": SHA256, "size_bytes": len(CONTENT), "limits": QUICK, **options}
    return fetch(urls, target, **settings)


def only_the_file(target: Path) -> bool:
    names = {path.name for path in target.parent.iterdir()} - {f"{target.name}.lock"}
    return names == {target.name} and target.read_bytes() == CONTENT


def nothing_under_the_name(target: Path) -> bool:
    return not target.exists()


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")

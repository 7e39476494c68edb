"""Files for the page and from visitors: each in a folder of its own, and deleted in time."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path
from types import SimpleNamespace

from mobilesam.ui import page_files
from mobilesam.ui.page_files import discard, keep_sweeping, store_in, sweep


class StubBlocks:
    """A page with one component, as far as the clean-up looks at it."""

    def __init__(self, *paths, keeps=()):
        self.temp_file_sets = [set(), set(map(str, paths))]
        self.blocks = {1: SimpleNamespace(keep_in_cache=set(map(str, keeps)))}


def files_in(folder):
    return {path for path in Path(folder).rglob("*") if path.is_file()}


def test_files_for_the_page_have_a_folder_of_their_own(tmp_path):
    store = store_in(tmp_path / "cache")
    first, second = store(b"same", "photo.png"), store(b"same", "x" * 300 + ".png")
    third = store(b"same", "photo.png")
    assert first["path"] != third["path"]
    discard(first["path"])
    discard(first["path"])  # gone already
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(map(str, left)) == sorted([second["path"], third["path"]])
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_file_is_noted_before_it_is_written(tmp_path):
    noted = []
    store = store_in(tmp_path, lambda path: noted.append((path, Path(path).exists())))
    file = store(b"data", "mask.png")
    assert noted == [(file["path"], False)]


def test_old_files_are_deleted_with_their_folders(tmp_path):
    store = store_in(tmp_path / "cache")
    paths = [Path(store(b"x", "photo.png")["path"]) for _ in range(3)]
    page = StubBlocks(*paths, keeps=paths[:1])
    sweep(page, max_age_s=60)
    assert files_in(tmp_path) == set(paths)  # none is old yet
    sweep(page, max_age_s=-1)
    assert files_in(tmp_path) == {paths[0]}
    assert page.temp_file_sets[1] == {str(paths[0])}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [paths[0].parent.name]


def test_files_that_are_gone_already_are_forgotten(tmp_path):
    path = store_in(tmp_path)(b"x", "photo.png")["path"]
    page = StubBlocks(path)
    discard(path)
    sweep(page, max_age_s=60)
    assert page.temp_file_sets[1] == set()


def test_a_file_that_comes_while_others_are_looked_at_is_no_trouble(tmp_path, monkeypatch):
    store = store_in(tmp_path)
    page = StubBlocks(*(store(b"x", "old.png")["path"] for _ in range(3)))
    looked_at = page_files._is_younger

    def upload_meanwhile(path, oldest):
        page.temp_file_sets[1].add(store(b"x", "new.png")["path"])
        return looked_at(path, oldest)

    monkeypatch.setattr(page_files, "_is_younger", upload_meanwhile)
    sweep(page, max_age_s=-1)
    assert {path.name for path in files_in(tmp_path)} == {"new.png"}
    assert len(page.temp_file_sets[1]) == 3


def test_sweeping_goes_on_after_trouble_and_ends_with_the_page(monkeypatch, caplog):
    seen, twice = [], threading.Event()

    def fail(page):
        seen.append(page.temp_file_sets)
        if len(seen) == 2:
            twice.set()
        del page  # or the traceback in the log would hold it
        raise RuntimeError("no such disk")

    monkeypatch.setattr(page_files, "SWEEP_EVERY_S", 0.01)
    monkeypatch.setattr(page_files, "sweep", fail)
    before = set(threading.enumerate())
    page = StubBlocks()
    with caplog.at_level(logging.ERROR):
        keep_sweeping(page)
        (thread,) = set(threading.enumerate()) - before
        assert twice.wait(10)
        del page
        gc.collect()
        thread.join(10)
    assert not thread.is_alive()
    assert "Old files could not be deleted" in caplog.text

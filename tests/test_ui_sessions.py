"""Sessions: nothing shared, memory bounded in bytes."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mobilesam.ui.sessions import MemoryBudget, Session

MEGABYTE = 1024**2


def filled_session(embedding_bytes=4 * MEGABYTE, name="a"):
    session = Session()
    session.show(name, Path("photo.jpg"), "photo.jpg", np.zeros((30, 40, 3), np.uint8))
    session.keep(name, SimpleNamespace(nbytes=embedding_bytes, model_name="m"))
    return session


def test_every_visitor_gets_a_session_of_his_own():
    session = filled_session()
    other = copy.deepcopy(session)
    assert other is not session
    assert other.picture_id == ""
    assert other.embedding is None


def test_pixels_are_held_only_until_encoded():
    session = Session()
    session.show("a", Path("photo.jpg"), "photo.jpg", np.zeros((30, 40, 3), np.uint8))
    assert session.original_size == (30, 40)
    assert session.nbytes == 30 * 40 * 3
    session.keep("a", SimpleNamespace(nbytes=100))
    assert session.pixels is None
    assert session.nbytes == 100


def test_an_embedding_of_the_photo_before_is_not_kept():
    session = filled_session(name="a")
    session.show("b", Path("other.jpg"), "other.jpg", np.zeros((3, 4, 3), np.uint8))
    assert session.embedding is None
    assert not session.keep("a", SimpleNamespace(nbytes=100))
    assert session.embedding is None


def test_least_recently_used_sessions_are_cleared_first():
    budget = MemoryBudget(10 * MEGABYTE)
    sessions = [filled_session() for _ in range(4)]
    for session in sessions[:2]:
        budget.touch(session)
    budget.touch(sessions[0])  # now the second is the idle one
    budget.touch(sessions[2])
    assert sessions[1].embedding is None
    assert sessions[0].embedding is not None
    budget.touch(sessions[3])
    assert sessions[0].embedding is None
    assert [session.embedding is not None for session in sessions] == [False, False, True, True]
    assert budget.total_bytes <= budget.limit_bytes
    assert sessions[1].picture_id == "a"  # the photo is still known, and encoded again when asked


def test_the_session_in_use_is_never_cleared():
    budget = MemoryBudget(MEGABYTE)
    session = filled_session()
    budget.touch(session)
    assert session.embedding is not None


def test_memory_stays_bounded_over_500_sessions():
    budget = MemoryBudget(64 * MEGABYTE)
    sessions = []
    for number in range(500):
        session = filled_session()
        budget.touch(session, visitor=f"visitor-{number}")
        sessions.append(session)
        assert budget.total_bytes <= budget.limit_bytes
    assert sum(session.embedding is not None for session in sessions) == 16


def test_the_budget_keeps_no_session_alive():
    budget = MemoryBudget(64 * MEGABYTE)
    session = filled_session()
    budget.touch(session, visitor="v")
    del session
    gc.collect()
    assert budget.total_bytes == 0
    budget.release_visitor("v")  # no longer known: nothing happens


def test_a_closed_tab_gives_its_memory_back_at_once():
    budget = MemoryBudget(64 * MEGABYTE)
    session, other = filled_session(), filled_session()
    budget.touch(session, visitor="v")
    budget.touch(other, visitor="w")
    budget.release_visitor("v")
    assert session.embedding is None
    assert other.embedding is not None
    budget.release_visitor(None)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="positive"):
        MemoryBudget(0)

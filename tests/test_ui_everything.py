"""Everything mode on the page, without Gradio and without a browser."""

from __future__ import annotations

import base64
import gc
import threading
import time
import weakref
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import disk_photo

from mobilesam import EverythingOptions, generate
from mobilesam.masks import remove_small_regions
from mobilesam.transforms import read_image
from mobilesam.ui import everything, everything_run
from mobilesam.ui.courtesy import Courtesy
from mobilesam.ui.sessions import Session

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE = (96, 150)
THRESHOLDS = {"predicted_iou": 0.1, "stability": 0.1}  # a disk gets more than its one mask


def message(picture="photo", token=1, **options):
    return {"picture": picture, "everything": {"token": token} | options}


def make_studio(predictor):
    shelf = SimpleNamespace(predictor=lambda name=None: predictor)
    return SimpleNamespace(models=shelf, courtesy=Courtesy())


def shown(predictor, photo):
    """A session whose photo is encoded."""
    session = Session()
    session.show("photo", "photo.png", "photo.png", photo)
    session.keep("photo", predictor.encode(photo))
    return session


@pytest.fixture(scope="module")
def photo():
    image, _ = disk_photo(*SIZE, (40, 60), 25)
    return image


@pytest.fixture
def studio(embedded):
    return make_studio(embedded)


@pytest.fixture
def session(embedded, photo):
    return shown(embedded, photo)


def updates(studio, session, value):
    return [props["everything"] for props in everything.search(studio, session, value)]


def pixels(mask, size=SIZE):
    """A mask of a message as (H, W) bool."""
    rows, columns = mask["rows"], mask["columns"]
    packed = np.frombuffer(zlib.decompress(base64.b64decode(mask["bits"])), np.uint8)
    crop = np.unpackbits(packed, count=rows * columns).reshape(rows, columns)
    whole = np.zeros(size, bool)
    x, y = round(mask["x"]), round(mask["y"])
    whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return whole


@pytest.fixture
def slow(monkeypatch):
    """A search of 100 batches of 20 ms, whose end is noted."""
    noted = SimpleNamespace(ended=threading.Event(), batches=0)

    def records(progress, cancelled):
        try:
            for batch in range(100):
                if cancelled():
                    raise everything_run.EverythingCancelled
                time.sleep(0.02)
                noted.batches += 1
                progress(batch + 1, 100)
            yield from ()
        finally:
            noted.ended.set()

    def stub(predictor, image, options, *, progress, cancelled, found):
        return records(progress, cancelled)

    monkeypatch.setattr(everything_run, "generate", stub)
    return noted


@pytest.mark.parametrize("is_fast", [True, False])
def test_the_last_message_holds_the_library_s_masks_the_largest_first(
    studio, session, embedded, photo, is_fast
):
    *_, last = updates(studio, session, message(density=8, fast=is_fast, **THRESHOLDS))
    options = EverythingOptions.for_model(
        embedded.model,
        points_per_side=8,
        points_per_batch=everything.POINTS_PER_BATCH,
        pred_iou_thresh=0.1,
        stability_score_thresh=0.1,
        min_mask_region_area=int(SIZE[0] * SIZE[1] * everything.SPECK),
        fast=is_fast,
    )
    records = sorted(generate(embedded, photo, options), key=lambda record: -record.area)
    assert last["state"] == "done"
    assert len(records) > 1
    assert [mask["area"] for mask in last["masks"]] == [record.area for record in records]
    for mask, record in zip(last["masks"], records, strict=True):
        assert (pixels(mask) == record.mask()).all()
        assert mask["iou"] == pytest.approx(record.predicted_iou, abs=1e-4)
        assert mask["stability"] == pytest.approx(record.stability_score, abs=1e-4)
        assert mask["point"] == pytest.approx(record.point_coords, abs=0.006)


def test_updates_add_up_to_the_last_message(studio, session, monkeypatch):
    monkeypatch.setattr(everything_run, "UPDATE_SECONDS", 0.001)
    *running, last = updates(studio, session, message(token=7, density=8, **THRESHOLDS))
    seen = []
    for update in running:
        assert (update["state"], update["token"], update["from"]) == ("running", 7, len(seen))
        seen += update["masks"]
    done = [update["done"] for update in running]
    assert done == sorted(done)
    assert len(running) > 2
    assert (last["done"], last["total"], last["from"]) == (64, 64, 0)
    assert len({mask["id"] for mask in seen}) == len(seen)
    known = {mask["id"]: mask for mask in seen}
    kept = [mask for mask in last["masks"] if mask["id"] in known]
    assert kept
    assert all(mask is known[mask["id"]] for mask in kept)  # the same mask has the same number
    ids = [mask["id"] for mask in last["masks"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("is_fast", [True, False])
def test_no_mask_has_specks_or_pinholes(studio, embedded, monkeypatch, is_fast):
    monkeypatch.setattr(everything_run, "UPDATE_SECONDS", 0.001)
    coffee = read_image(EXAMPLES / "coffee.jpg")
    size = coffee.shape[:2]
    least = size[0] * size[1] * everything.SPECK

    def is_clean(mask):
        return not any(remove_small_regions(mask, least, kind)[1] for kind in ("holes", "islands"))

    options = EverythingOptions.for_model(embedded.model, points_per_side=8, fast=is_fast)
    assert not all(is_clean(record.mask()) for record in generate(embedded, coffee, options))
    session = shown(embedded, coffee)
    *running, last = updates(studio, session, message(density=8, fast=is_fast))
    assert last["masks"]
    assert all(
        is_clean(pixels(mask, size)) for update in [*running, last] for mask in update["masks"]
    )


def test_a_large_photo_is_searched_at_the_size_of_the_preview(studio, embedded):
    image, mask = disk_photo(1200, 1600, (500, 700), 300)
    session = shown(embedded, image)
    *_, last = updates(studio, session, message(density=8))
    best = max(last["masks"], key=lambda found: found["iou"])
    assert best["area"] == pytest.approx(mask.sum(), rel=0.05)
    assert (best["x"], best["y"]) == pytest.approx((200, 400), abs=12)
    assert (best["width"], best["height"]) == pytest.approx((600, 600), abs=20)
    x, y = best["point"]
    assert mask[int(y), int(x)]
    scale = 1024 / 1600
    assert (best["columns"], best["rows"]) == pytest.approx((600 * scale, 600 * scale), abs=12)


def test_small_masks_are_left_out(studio, session):
    *_, whole = updates(studio, session, message(density=8, **THRESHOLDS))
    areas = [mask["area"] for mask in whole["masks"]]
    least = areas[1]
    *running, last = updates(
        studio, session, message(token=2, density=8, min_area=least, **THRESHOLDS)
    )
    assert [mask["area"] for mask in last["masks"]] == [area for area in areas if area >= least]
    assert all(mask["area"] >= least for update in running for mask in update["masks"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"density": 9}, "density"),
        ({"density": [8]}, "density"),
        ({"density": True}, "density"),
        ({"predicted_iou": 1.5}, "IoU"),
        ({"predicted_iou": float("nan")}, "IoU"),
        ({"stability": "0.5"}, "stability"),
        ({"stability": -1}, "stability"),
        ({"min_area": 1e308}, "area"),
        ({"min_area": {}}, "area"),
        ({"fast": 1}, "fast"),
    ],
)
def test_hostile_options_get_a_sentence(studio, session, options, word):
    (only,) = updates(studio, session, message(**options))
    assert only["state"] == "failed"
    assert word in only["text"]
    assert only["text"].endswith(".")
    assert only["masks"] == []


@pytest.mark.parametrize("wanted", [None, "x", [1]])
def test_a_message_without_options_is_a_search_with_the_usual_ones(studio, session, slow, wanted):
    search = everything.search(studio, session, {"picture": "photo", "everything": wanted})
    first = next(search)["everything"]
    assert (first["state"], first["token"], first["total"]) == ("running", None, 256)
    search.close()


def test_a_search_asked_for_twice_runs_once(studio, session):
    assert updates(studio, session, message(density=8))[-1]["state"] == "done"
    *_, again = updates(studio, session, message(density=8))  # the page had not heard of the first
    assert (again["state"], again["done"]) == ("cancelled", 0)


def test_the_page_opens_or_encodes_what_is_not_there(studio, session):
    assert [one["state"] for one in updates(studio, Session(), message())] == ["lost"]
    assert [one["state"] for one in updates(studio, session, message(picture="old"))] == ["lost"]
    session.release()
    assert [one["state"] for one in updates(studio, session, message())] == ["encode"]


def test_own_models_start_with_thresholds_that_find_something(embedded):
    assert everything.page_defaults(embedded.model)["predicted_iou"] < 0.5
    official = everything.page_defaults(SimpleNamespace(draws_prompts=False))
    assert (official["predicted_iou"], official["stability"]) == (0.88, 0.95)


def ends_within(slow, seconds):
    return slow.ended.wait(seconds) and slow.batches < 90


@pytest.mark.parametrize("way", ["stop", "search", "photo", "leave", "close"])
def test_a_search_ends_when_nobody_wants_it_any_more(studio, session, photo, slow, way):
    search = everything.search(studio, session, message(density=8))
    next(search)
    started = time.monotonic()
    if way == "stop":
        assert everything.stop(studio, session, message()) == {}
    elif way == "search":
        newer = everything.search(studio, session, message(token=2))
        next(newer)
    elif way == "photo":
        session.show("next", "next.png", "next.png", photo)
    elif way == "leave":
        session.release()
    else:
        search.close()
    assert ends_within(slow, 1)
    assert time.monotonic() - started < 0.5
    if way != "close":
        assert [one["everything"]["state"] for one in search][-1] == "cancelled"


def test_a_search_can_be_cancelled_while_it_waits_its_turn(studio, session, slow):
    everything.stop(studio, session, message(token=5))
    *_, last = updates(studio, session, message(token=5))
    assert (last["state"], slow.batches) == ("cancelled", 0)
    search = everything.search(studio, session, message(token=6))
    assert next(search)["everything"]["state"] == "running"
    search.close()


def test_what_was_found_before_a_cancel_stays(studio, session, monkeypatch):
    monkeypatch.setattr(everything_run, "UPDATE_SECONDS", 0.001)
    search = everything.search(studio, session, message(density=32, fast=False, **THRESHOLDS))
    seen = []
    for props in search:
        seen += props["everything"]["masks"]
        if seen:
            break
    everything.stop(studio, session, message())
    *_, last = (props["everything"] for props in search)
    assert last["state"] == "cancelled"
    assert {mask["id"] for mask in seen} <= {mask["id"] for mask in last["masks"]}
    assert last["done"] < last["total"]


def test_a_search_waits_while_a_click_is_answered(studio, session, slow):
    search = everything.search(studio, session, message())
    next(search)
    with studio.courtesy.first():
        time.sleep(0.1)  # the batch under way ends
        before = slow.batches
        time.sleep(0.3)
        assert slow.batches == before
    time.sleep(0.2)
    assert slow.batches > before
    search.close()


def test_a_fault_is_a_sentence(studio, session, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(everything_run, "generate", broken)
    *_, last = updates(studio, session, message())
    assert last["state"] == "failed"
    assert "secret" not in last["text"]
    assert "secret" in caplog.text


def test_a_search_keeps_no_session_alive(studio, embedded, photo, slow):
    session = shown(embedded, photo)
    search = everything.search(studio, session, message())
    next(search)
    search.close()
    assert slow.ended.wait(1)
    gone = weakref.ref(session)
    del session, search
    deadline = time.monotonic() + 2
    while gone() is not None and time.monotonic() < deadline:  # the thread is just leaving
        gc.collect()
        time.sleep(0.02)
    assert gone() is None

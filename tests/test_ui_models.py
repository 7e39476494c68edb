"""Which model answers, and the official one's arrival in the background."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from mobilesam.checkpoints import CheckpointError
from mobilesam.ui import models
from mobilesam.ui.models import ModelShelf


@pytest.fixture
def machine(monkeypatch):
    """A machine on which only the embedded model is at hand; returns what is."""
    present = {"embedded"}
    monkeypatch.setattr(models, "available", lambda name: name in present)
    monkeypatch.setattr(
        models,
        "default_model_name",
        lambda: "mobile_sam" if "mobile_sam" in present else "embedded",
    )
    return present


def loader(source, download):
    assert download is False
    name = str(source).rpartition("/")[2].partition(".")[0]
    return SimpleNamespace(name=name, draws_prompts=False, encode_image=None)


def names(shelf):
    return [choice["name"] for choice in shelf.status()["choices"]]


def test_the_official_model_answers_where_it_is(machine):
    machine.add("mobile_sam")
    shelf = ModelShelf(loader=loader)
    assert shelf.default == "mobile_sam"
    assert shelf.predictor().model.name == "mobile_sam"
    assert shelf.start_download() is None


def test_the_embedded_model_answers_elsewhere(machine):
    shelf = ModelShelf(loader=loader)
    assert shelf.default == "embedded"
    assert shelf.predictor("mobile_sam").model.name == "embedded"


def test_a_model_that_is_not_here_is_replaced_and_the_page_says_so(machine):
    shelf = ModelShelf("sam_vit_b", loader=loader)
    assert shelf.default == "embedded"
    assert "SAM ViT-B" in shelf.status()["notice"]


def test_the_model_asked_for_is_the_one_that_is_fetched(machine, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        models, "resolve_checkpoint", lambda name, *, download, progress: fetched.append(name)
    )
    shelf = ModelShelf("sam_vit_b", loader=loader)
    shelf.start_download().join(10)
    assert fetched == ["sam_vit_b"]
    assert names(shelf) == ["embedded", "sam_vit_b"]
    assert "SAM ViT-B has arrived" in shelf.status()["notice"]


def test_a_chosen_embedded_model_leaves_the_official_one_to_choose(machine):
    machine.add("mobile_sam")
    shelf = ModelShelf("embedded", loader=loader)
    assert shelf.default == "embedded"
    assert names(shelf) == ["embedded", "mobile_sam"]
    assert shelf.status()["choices"][1]["title"] == "MobileSAM"


def test_a_checkpoint_file_goes_first(machine):
    shelf = ModelShelf("sam_vit_b", "/data/mine.safetensors", loader=loader)
    assert shelf.default == "mine"
    assert shelf.status()["choices"][0]["title"] == "mine"


@pytest.mark.parametrize("name", ["nonsense", None, 3, ["x"], {"a": 1}])
def test_unknown_names_get_the_default(machine, name):
    assert ModelShelf(loader=loader).predictor(name).model.name == "embedded"


def test_a_download_shows_progress_and_adds_the_model(machine, monkeypatch):
    reached, may_go_on = threading.Event(), threading.Event()

    def resolve(name, *, download, progress):
        progress(30, 0)
        progress(30, 100)
        reached.set()
        assert may_go_on.wait(10)
        machine.add(name)

    monkeypatch.setattr(models, "resolve_checkpoint", resolve)
    shelf = ModelShelf(loader=loader)
    thread = shelf.start_download()
    assert reached.wait(10)
    assert shelf.status()["percent"] == 30
    assert names(shelf) == ["embedded"]
    assert shelf.start_download() is None
    may_go_on.set()
    thread.join(10)
    assert shelf.status()["percent"] is None
    assert names(shelf) == ["embedded", "mobile_sam"]
    assert "arrived" in shelf.status()["notice"]
    assert shelf.default == "embedded"


@pytest.mark.parametrize("error", [CheckpointError("no network"), OSError("disk"), ValueError("x")])
def test_a_failed_download_is_said_and_breaks_nothing(machine, monkeypatch, error):
    def resolve(*_, **__):
        raise error

    monkeypatch.setattr(models, "resolve_checkpoint", resolve)
    shelf = ModelShelf(loader=loader)
    shelf.start_download().join(10)
    status = shelf.status()
    assert status["percent"] is None
    assert "could not be" in status["notice"]
    assert names(shelf) == ["embedded"]

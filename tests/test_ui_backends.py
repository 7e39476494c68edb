"""The page changes over to another backend once its export is there."""

from __future__ import annotations

import copy
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from mobilesam import backends, load_model
from mobilesam.ui import build_demo
from mobilesam.ui.models import ModelShelf


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> tuple[ModelShelf, list[Any]]:
    """A shelf with the embedded model, and what was loaded for it."""
    loaded: list[Any] = []

    def loader(source: Any, download: bool, backend: str = "torch") -> Any:
        loaded.append((source, backend))
        return copy.copy(load_model("embedded"))

    monkeypatch.setattr("mobilesam.ui.models.available", lambda name: name == "embedded")
    return ModelShelf("embedded", loader=loader), loaded


def test_the_page_changes_over_when_the_export_is_there(
    shelf: tuple[ModelShelf, list[Any]], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    models, loaded = shelf
    before, may_go_on = models.predictor(), threading.Event()
    monkeypatch.setattr(backends, "installed", lambda: ["openvino", "torch"])
    monkeypatch.setattr(backends, "build_elsewhere", lambda path: may_go_on.wait(10))
    with caplog.at_level(logging.INFO):
        thread = models.start_backend()
        assert models.predictor() is before
        may_go_on.set()
        thread.join(10)
    assert loaded == [("embedded", "torch"), ("embedded", "openvino")]
    assert models.predictor() is not before
    assert [choice["source"] for choice in models.status()["choices"]] == ["embedded"]
    assert "OpenVINO encodes pictures for Embedded" in caplog.text


def test_a_backend_that_fails_leaves_pytorch_in_place(
    shelf: tuple[ModelShelf, list[Any]], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("no space")

    models, _ = shelf
    before = models.predictor()
    monkeypatch.setattr(backends, "installed", lambda: ["onnxruntime", "torch"])
    monkeypatch.setattr(backends, "build_elsewhere", fail)
    models.start_backend().join(10)
    assert models.predictor() is before
    assert "ONNX Runtime cannot encode pictures here: no space" in caplog.text


def test_without_extras_or_by_choice_pytorch_stays(
    shelf: tuple[ModelShelf, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, loaded = shelf
    monkeypatch.setattr(backends, "installed", lambda: ["torch"])
    assert models.start_backend() is None
    assert models.start_backend("torch") is None
    assert loaded == [("embedded", "torch")]
    with pytest.raises(ValueError, match="There is no backend 'fast'"):
        models.start_backend("fast")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [({}, []), ({"backend": None}, [None]), ({"backend": "openvino"}, ["openvino"])],
)
def test_the_page_asks_for_another_backend_only_if_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: dict[str, Any], asked: list[Any]
) -> None:
    started: list[Any] = []
    monkeypatch.setattr("mobilesam.ui.models.available", lambda name: name == "embedded")
    monkeypatch.setattr(ModelShelf, "start_backend", lambda shelf, backend: started.append(backend))
    build_demo("embedded", examples_folder=tmp_path, **arguments)
    assert started == asked

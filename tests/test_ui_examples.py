"""The example photographs: prompts that work, files that do not, embeddings made in advance."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mobilesam.modeling import build_model, prepare_for_inference
from mobilesam.steps import predict_steps
from mobilesam.ui import examples as examples_module
from mobilesam.ui.examples import LIMIT_BYTES, ReadyEmbeddings, find_examples, thumbnails

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = find_examples(FOLDER)
SHOWN = [(name, number) for name, one in EXAMPLES.items() for number in range(len(one.objects))]


@pytest.fixture(scope="module")
def embeddings(embedded):
    return {name: embedded.encode(example.path) for name, example in EXAMPLES.items()}


def test_every_photograph_has_a_title_a_line_and_prompts():
    assert {path.name for path in FOLDER.glob("*.jpg")} == set(EXAMPLES)
    for example in EXAMPLES.values():
        assert (
            example.objects and example.title and 20 < len(example.hint) <= 72
        )  # two lines on a phone
        assert len({shown["color"] for shown in example.objects}) == len(example.objects)


def test_together_they_show_every_kind_of_prompt():
    objects = [shown for example in EXAMPLES.values() for shown in example.objects]
    labels = [{point[2] for point in shown["points"]} for shown in objects]
    assert {1} in labels and {0, 1} in labels
    assert any(shown["box"] and not shown["points"] for shown in objects)
    assert any(shown["box"] and shown["points"] for shown in objects)
    assert any(len(example.objects) > 2 for example in EXAMPLES.values())


@pytest.mark.parametrize(("name", "number"), SHOWN)
def test_the_prompts_of_an_example_give_its_mask(embedded, embeddings, name, number):
    shown = EXAMPLES[name].objects[number]
    points = np.array(shown["points"], dtype=int).reshape(-1, 3)
    prediction = predict_steps(
        embedded,
        embeddings[name],
        points[:, :2] if len(points) else None,
        points[:, 2] if len(points) else None,
        shown["box"],
        steps=shown["steps"],
        choices=shown["choices"],
    )
    mask = prediction.mask(prediction.best)
    for x, y, label in points:
        assert mask[y, x] == bool(label)
    if shown["box"]:
        x0, y0, x1, y1 = shown["box"]
        assert mask[y0:y1, x0:x1].sum() > 0.95 * mask.sum()
    score = prediction.iou_predictions[prediction.best]
    assert score > 0.6


def test_the_first_example_is_one_click_and_a_large_sure_mask(embedded, embeddings):
    name, first = next(iter(EXAMPLES.items()))
    (shown,) = first.objects
    ((x, y, label),) = shown["points"]
    prediction = embedded.candidates(embeddings[name], [(x, y)], [label])
    assert prediction.iou_predictions[prediction.best] > 0.9
    assert 0.2 < prediction.mask(prediction.best).mean() < 0.6


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        "[1, 2]",
        '{"cat.jpg": 3}',
        '{"cat.jpg": {"objects": [{"points": [[1, 2]]}]}}',
        '{"cat.jpg": {"objects": [{"points": [[9000, 2, 1]]}]}}',
        '{"cat.jpg": {"objects": [{"box": [9, 9, 1, 1]}]}}',
        '{"cat.jpg": {"objects": [{}]}}',
        '{"cat.jpg": {"objects": [{"points": [[1, 2, 1]], "color": "red;"}]}}',
    ],
)
def test_photographs_come_without_prompts_that_cannot_be_used(tmp_path, caplog, text):
    shutil.copy(FOLDER / "cat.jpg", tmp_path)
    if text is not None:
        (tmp_path / "prompts.json").write_text(text)
    found = find_examples(tmp_path)
    assert list(found) == ["cat.jpg"]
    assert (found["cat.jpg"].title, found["cat.jpg"].objects) == ("Cat", [])
    assert "without prompts" in caplog.text


def test_described_photographs_come_first_and_their_objects_are_completed(tmp_path):
    for name in ("cat.jpg", "dahlia.jpg", "temple.jpg"):
        shutil.copy(FOLDER / name, tmp_path)
    prompts = {
        "temple.jpg": {
            "objects": [{"box": [70, 25, 360, 390], "points": [[200, 200, 1]]}],
            "credit": "Somebody, CC BY 2.0",
            "source": "javascript:alert(1)",
        },
        "gone.jpg": {"objects": []},
    }
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    first, *others = thumbnails(find_examples(tmp_path))
    assert [other["name"] for other in others] == ["cat.jpg", "dahlia.jpg"]
    assert first["thumbnail"].startswith("data:image/jpeg;base64,")
    assert (first["credit"], first["source"]) == ("Somebody, CC BY 2.0", "")  # no such link
    assert first["objects"] == [
        {
            "name": "Object 1",
            "color": "#1e90ff",
            "hidden": False,
            "points": [[200, 200, 1]],
            "box": [70, 25, 360, 390],
            "steps": [0, 1],
            "choices": [None, None],
            "refine": {"area": 0, "smooth": 0, "feather": 0},
        }
    ]


class Shelf:
    """Models by name, of which the official one may still be on its way."""

    default = "embedded"

    def __init__(self, **predictors):
        self.predictors = predictors
        self.percent = None

    def predictor(self, name):
        return self.predictors[name]

    def status(self):
        return {"choices": [{"name": name} for name in self.predictors], "percent": self.percent}


class Recorder:
    """A predictor that notes what it encodes, and with what urgency."""

    def __init__(self, predictor, name=None):
        self.predictor, self.asked = predictor, []
        self.model = SimpleNamespace(name=name, identity=name) if name else predictor.model

    def encode(self, path):
        self.asked.append((Path(path).name, threading.current_thread().name))
        return self.predictor.encode(path)


def finished(ready):
    thread = ready.start()
    thread.join(60)
    assert not thread.is_alive()


def test_examples_are_encoded_in_advance_and_in_order(embedded, embeddings):
    recorder, waits = Recorder(embedded), []
    ready = ReadyEmbeddings(EXAMPLES, Shelf(embedded=recorder), wait=lambda: waits.append(1))
    assert ready.embedding("raccoon.jpg", recorder) is None
    finished(ready)
    asked = [name for name, _ in recorder.asked]
    assert asked == [*EXAMPLES, asked[0]]  # the first again: its time was a process's first
    assert {thread for _, thread in recorder.asked} == {"example-embeddings"}
    assert len(waits) == len(asked)
    for name, expected in embeddings.items():
        assert torch.equal(ready.embedding(name, embedded).features, expected.features)
    assert ready.embedding("gone.jpg", embedded) is None
    assert ready.nbytes == sum(embedding.nbytes for embedding in embeddings.values()) < 11 * 2**20
    finished(ready)
    assert len(recorder.asked) == len(asked)  # nothing is missing any more


def test_the_official_model_follows_once_it_has_arrived(monkeypatch, small_predictor):
    monkeypatch.setattr(examples_module, "LOOK_AGAIN_S", 0.01)
    standard, official = Recorder(small_predictor), Recorder(small_predictor, "mobile_sam")
    shelf = Shelf(embedded=standard)
    shelf.percent = 40
    ready = ReadyEmbeddings(EXAMPLES, shelf)
    thread = ready.start()
    shelf.predictors["mobile_sam"], shelf.percent = official, None
    thread.join(60)
    assert len(standard.asked) == len(official.asked) == len(EXAMPLES) + 1
    assert ready.embedding("cat.jpg", official) is not None


def test_a_model_fetched_later_is_noticed_when_it_is_asked_for(small_predictor):
    standard, official = Recorder(small_predictor), Recorder(small_predictor, "mobile_sam")
    shelf = Shelf(embedded=standard)
    ready = ReadyEmbeddings(EXAMPLES, shelf)
    finished(ready)
    shelf.predictors["mobile_sam"] = official
    assert ready.embedding("cat.jpg", official) is None
    finished(ready)
    assert ready.embedding("cat.jpg", official) is not None


def test_no_more_is_held_than_the_limit(small_predictor, monkeypatch):
    one = small_predictor.encode(EXAMPLES["raccoon.jpg"].path).nbytes
    official = Recorder(small_predictor, "mobile_sam")
    shelf = Shelf(embedded=small_predictor, mobile_sam=official)
    ready = ReadyEmbeddings(EXAMPLES, shelf, limit_bytes=2 * one)
    finished(ready)
    assert 0 < ready.nbytes <= 2 * one
    assert ready.embedding("raccoon.jpg", small_predictor) is not None
    monkeypatch.setattr(ready, "start", None)  # to encode one more in vain
    assert ready.embedding("raccoon.jpg", official) is None
    assert official.asked == []


def test_all_examples_have_room_with_two_official_models():
    model = prepare_for_inference(build_model("tiny_vit", 1024))
    features = torch.zeros(1, 256, 64, 64)  # as SAM's encoders make them, too
    one = features.nbytes + model.project_image(features).nbytes
    assert 2 * len(EXAMPLES) * one <= LIMIT_BYTES


def test_a_photograph_that_cannot_be_encoded_stops_no_other(tmp_path, small_predictor, caplog):
    for name in ("cat.jpg", "dahlia.jpg"):
        shutil.copy(FOLDER / name, tmp_path)
    found = find_examples(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"gone bad")
    ready = ReadyEmbeddings(found, Shelf(embedded=small_predictor))
    finished(ready)
    assert ready.embedding("cat.jpg", small_predictor) is None
    assert ready.embedding("dahlia.jpg", small_predictor) is not None
    assert "cat.jpg could not be encoded" in caplog.text
    assert list(found) == ["cat.jpg", "dahlia.jpg"]


def test_a_damaged_photograph_is_left_out(tmp_path, caplog):
    shutil.copy(FOLDER / "cat.jpg", tmp_path)
    (tmp_path / "bad.jpg").write_bytes((FOLDER / "cat.jpg").read_bytes()[:5000])
    (tmp_path / "text.jpg").write_text("no picture")
    assert list(find_examples(tmp_path)) == ["cat.jpg"]
    for name in ("bad.jpg", "text.jpg"):
        assert f"{name} is left out" in caplog.text


def test_a_program_may_end_while_examples_are_encoded():
    """A thread of PyTorch's that is still at work when Python ends aborts the process."""
    code = """
import time
from mobilesam.ui import build_demo, demo, examples
class Watched(examples.ReadyEmbeddings):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        made.append(self)
made, demo.ReadyEmbeddings = [], Watched
page = build_demo("embedded", fetch_official=False, backend="torch")
while not made[0].nbytes:
    time.sleep(0.01)
print(len(made[0]._held))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert 1 <= int(ended.stdout) < len(list(FOLDER.glob("*.jpg"))) - 1  # it was at work

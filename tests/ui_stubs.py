"""A studio with stub models, and a photo to open in it, for the tests of the demo."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from mobilesam.ui import segment
from mobilesam.ui.sessions import MemoryBudget, Session


class StubPrediction:
    """Three masks: the left half, the upper half, everything."""

    def __init__(self, size):
        height, width = self.original_size = size
        self.iou_predictions = np.array([0.5, 0.9, 0.7], np.float32)
        self.best, self.decode_ms, self.model_name = 1, 12.34, "stub"
        self.masks = np.zeros((3, height, width), bool)
        self.masks[0, :, : width // 2] = True
        self.masks[1, : height // 2] = True
        self.masks[2] = True
        self.low_res_logits = np.zeros((3, 4, 4), np.float32)

    def stability_scores(self, offset):
        return np.array([0.8, 0.95, np.nan], np.float32)

    def mask(self, index):
        return self.masks[index]

    def preview(self, max_side):
        step = max(1, -(-max(self.masks.shape) // max_side))
        return self.masks[:, ::step, ::step]


class StubPredictor:
    def __init__(self, name="stub"):
        self.model = SimpleNamespace(name=name, draws_prompts=False)
        self.encoded, self.asked = [], []
        self.error = None

    def encode(self, pixels):
        self.encoded.append(pixels.shape)
        return SimpleNamespace(
            original_size=pixels.shape[:2],
            nbytes=10,
            encode_ms=5.0,
            model_name=self.model.name,
            model_identity=self.model.name,
        )

    def check_embedding(self, embedding):
        assert embedding.model_identity == self.model.name

    def candidates(self, embedding, points=None, labels=None, box=None, mask_input=None):
        points = None if points is None else [tuple(point) for point in points]
        self.asked.append({"points": points, "box": box, "mask_input": mask_input})
        if self.error is not None:
            raise self.error
        return StubPrediction(embedding.original_size)


class StubShelf:
    def __init__(self):
        self.predictors = {"stub": StubPredictor(), "other": StubPredictor("other")}

    def predictor(self, name=None):
        return self.predictors.get(name, self.predictors["stub"])


def make_studio(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    numbers = itertools.count()

    def store(data, file_name):
        path = folder / f"{next(numbers)}-{file_name}"
        path.write_bytes(data)
        return {"path": str(path)}

    example = tmp_path / "example.jpg"
    Image.new("RGB", (60, 40), "red").save(example)
    return segment.Studio(
        StubShelf(),
        MemoryBudget(),
        store,
        lambda path: Path(path).unlink(),
        {"example.jpg": example},
    )


def make_photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (80, 50), "green").save(path)
    return path


def upload(path, token=1, name=None):
    return {"token": token, "image": {"path": str(path), "orig_name": name or Path(path).name}}


def ask(picture, points=((1, 1, 1),), **others):
    """A message that asks for the masks of one object."""
    entry = {"id": 1, "points": [list(point) for point in points]} | others.pop("object", {})
    return {"objects": [entry], "wanted": [1], "picture": picture["id"], "rev": 1} | others


def save(picture, kind, token=1, **others):
    entry = {"id": 1, "name": "Thing", "points": [[1, 1, 1]]} | others.pop("object", {})
    wanted = {"objects": [entry], "active": 1, "picture": picture["id"], "kind": kind}
    return {"saving": wanted | {"token": token} | others}


def opened(studio, path):
    session = Session()
    picture = segment.open_picture(studio, session, upload(path))["picture"]
    *_, last = segment.encode_picture(studio, session, {})
    assert last["progress"]["state"] == "ready"
    return session, picture

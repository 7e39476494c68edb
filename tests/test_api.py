"""The endpoints for programs: same masks as page and library, documented, and hard to mislead."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio import processing_utils
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from pycocotools import mask as coco_masks

from mobilesam import EverythingOptions, Predictor, generate, load_model, rle
from mobilesam.exporting import ObjectMask, indexed_png
from mobilesam.masks import mask_iou
from mobilesam.photo_exports import KINDS
from mobilesam.refinement import Refinement
from mobilesam.steps import predict_steps
from mobilesam.ui import saving, segment
from mobilesam.ui.api import add_endpoints, answers
from mobilesam.ui.api.endpoints import Endpoints
from mobilesam.ui.api.photos import CalledPhoto, RecentEmbeddings
from mobilesam.ui.api.schemas import ExportKind
from mobilesam.ui.sessions import Session
from tests.browser.demo_server import Server
from tests.ui_stubs import make_photo, make_studio

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "examples" / "raccoon.jpg"  # 1024 x 768
ENDPOINTS = ("segment", "everything", "compare", "models")
PROMPTS: dict[str, dict[str, Any]] = {
    "a lone click": {"points": [[620, 300, 1]]},
    "a lone click, another candidate": {"points": [[620, 300, 1]], "choices": [2]},
    "three clicks": {"points": [[620, 300, 1], [480, 420, 0], [700, 200, 1]]},
    "some steps": {
        "points": [[620, 300, 1], [480, 420, 0], [700, 200, 1]],
        "steps": [1, 3],
        "choices": [0, None],
    },
    "a box": {"box": [395, 20, 940, 480]},
    "a box and a click": {"box": [395, 20, 940, 480], "points": [[500, 400, 0]]},
    "cleaned up": {"points": [[620, 300, 1]], "min_area": 400, "smooth": 3, "feather": 2},
}


@pytest.fixture(scope="module")
def client(api_server: Server) -> Client:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        return Client(api_server.url, verbose=False, analytics_enabled=False)


def expected_mask(predictor: Predictor, prompts: dict[str, Any]) -> np.ndarray:
    """What the library makes of a call's prompts."""
    points = prompts.get("points", [])
    prediction = predict_steps(
        predictor,
        predictor.encode(PHOTO),
        [point[:2] for point in points] or None,
        [point[2] for point in points] or None,
        prompts.get("box"),
        steps=prompts.get("steps"),
        choices=prompts.get("choices"),
    )
    choice = (prompts.get("choices") or [None])[-1]
    refinement = Refinement(*(prompts.get(key, 0) for key in ("min_area", "smooth", "feather")))
    return refinement.mask(prediction.mask(prediction.best if choice is None else choice))


@pytest.mark.parametrize("name", PROMPTS)
def test_masks_are_those_of_the_library(client: Client, embedded: Predictor, name: str) -> None:
    mask = expected_mask(embedded, PROMPTS[name])
    result, file = client.predict(
        image=handle_file(PHOTO), **PROMPTS[name], output="mask", api_name="/segment"
    )
    assert result["rle"] == rle.compress(rle.encode(mask))
    assert np.array_equal(coco_masks.decode(result["rle"]), mask)
    ys, xs = np.nonzero(mask)
    assert result["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert result["area"] == len(xs)
    assert result["model"] == "embedded"
    assert result["size"] == [768, 1024]
    lone = name in ("a lone click", "a lone click, another candidate", "cleaned up")
    assert len(result["candidates"]) == (3 if lone else 4)
    if name == "a lone click":
        offered = embedded.candidates(embedded.encode(PHOTO), points=[(620, 300)])
        offset = EverythingOptions.for_model(embedded.model).stability_score_offset
        expected = np.stack([offered.iou_predictions, offered.stability_scores(offset)], axis=1)
        told = [[one["predicted_iou"], one["stability"]] for one in result["candidates"]]
        np.testing.assert_allclose(told, expected, atol=2e-3)
    chosen = result["candidates"][result["choice"]]
    assert {key: result[key] for key in ("predicted_iou", "stability")} == {
        key: chosen[key] for key in ("predicted_iou", "stability")
    }
    with Image.open(file) as png:
        assert np.array_equal(np.asarray(png) > 127, mask) or name == "cleaned up"
        assert png.size == (1024, 768)


def test_masks_and_files_are_those_of_the_page(
    client: Client, embedded: Predictor, tmp_path: Path
) -> None:
    shelf = SimpleNamespace(predictor=lambda name=None: embedded)
    studio = segment.Studio(shelf, make_studio(tmp_path).budget, store_bytes, lambda path: None)
    session = Session()
    upload = {"token": 1, "image": {"path": str(PHOTO), "orig_name": PHOTO.name}}
    picture = segment.open_picture(studio, session, upload)["picture"]
    list(segment.encode_picture(studio, session, {}))
    refine = {"area": 400, "smooth": 3, "feather": 2}
    item = {**PROMPTS["some steps"], "id": 1, "name": "raccoon", "color": "#ffd43b"}
    wanted = {"picture": picture["id"], "objects": [{**item, "refine": refine}], "active": 1}
    called = {**PROMPTS["some steps"], "min_area": 400, "smooth": 3, "feather": 2}
    for kind in KINDS:
        message = {"saving": {**wanted, "kind": kind, "token": 1}}
        saved = saving.save_result(studio, session, message)["saved"]
        _, file = client.predict(
            image=handle_file(PHOTO),
            **called,
            **{"name": item["name"], "color": item["color"], "output": kind},
            api_name="/segment",
        )
        assert saved["status"] == "ok", saved
        assert Path(file).read_bytes() == saved["file"]["data"], kind
        assert Path(file).name == saved["title"]


def store_bytes(data: bytes, file_name: str) -> dict[str, Any]:
    return {"path": file_name, "data": data}


def test_everything_is_what_the_library_finds(client: Client, embedded: Predictor) -> None:
    chosen = {"points_per_side": 8, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.5}
    options = EverythingOptions.for_model(embedded.model, fast=True, **chosen)
    photo = PHOTO.with_name("temple.jpg")
    records = list(generate(embedded, photo, options))
    assert len(records) > 3
    results = {}
    for kind in (None, "indexed", "coco", "zip"):
        result, file = client.predict(
            image=handle_file(photo), **chosen, output=kind, api_name="/everything"
        )
        assert [mask["rle"] for mask in result["masks"]] == [rle.compress(r.rle) for r in records]
        assert [mask["area"] for mask in result["masks"]] == [r.area for r in records]
        results[kind] = file
    assert results[None] is None
    with Image.open(results["indexed"]) as png, Image.open(photo) as picture:
        assert png.size == picture.size
        objects = [ObjectMask(record.rle, "object", record.predicted_iou) for record in records]
        with Image.open(io.BytesIO(indexed_png(objects, picture.size[::-1]))) as expected:
            assert np.array_equal(np.asarray(png), np.asarray(expected))
    coco = json.loads(Path(results["coco"]).read_text())
    assert len(coco["annotations"]) == len(records)
    with zipfile.ZipFile(results["zip"]) as archive:
        assert archive.namelist() == ["temple-indexed.png", "temple-coco.json"]


def test_two_models_are_compared(client: Client, embedded: Predictor) -> None:
    prompts = PROMPTS["a box"]
    result, file = client.predict(
        image=handle_file(PHOTO),
        **{"first": "embedded", "second": "embedded_student", "output": "figure"},
        **prompts,
        api_name="/compare",
    )
    student = Predictor(load_model("embedded_student"))
    masks = [expected_mask(predictor, prompts) for predictor in (embedded, student)]
    for side, mask in zip(("first", "second"), masks, strict=True):
        assert result[side]["rle"] == rle.compress(rle.encode(mask))
    names = [result[side]["model"] for side in ("first", "second")]
    assert names == ["embedded", "embedded_student"]
    assert result["iou"] == pytest.approx(mask_iou(*masks), abs=1e-3)
    assert result["iou"] < 0.99
    assert min(result["first"][key] for key in ("encode_ms", "decode_ms", "file_bytes")) > 0
    assert [len(row) for row in result["measured"]] == [3] * len(result["measured"])
    with Image.open(file) as figure:
        assert figure.format == "PNG"


def test_the_models_are_told(client: Client) -> None:
    models = {model["name"]: model for model in client.predict(api_name="/models")}
    assert set(models) >= {"mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h", "embedded"}
    assert models["embedded"]["available"] and models["embedded"]["loaded"]
    assert [name for name, model in models.items() if model["standard"]] == ["embedded"]
    assert models["sam_vit_b"]["parameters"] == 93_735_472


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor time is read in /proc")
def test_a_server_without_visitors_rests(api_server: Server) -> None:
    """Its examples may still be encoded; then it needs 2 % of a core, with Gradio's pace 7 %."""

    def processor_seconds() -> float:
        values = Path(f"/proc/{api_server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")

    for _ in range(30):
        before, began = processor_seconds(), time.monotonic()
        time.sleep(1.5)
        share = (processor_seconds() - before) / (time.monotonic() - began)
        if share < 0.04:
            return
    pytest.fail(f"it takes {share:.1%} of a core")


def test_addresses_are_refused_by_the_client_too(client: Client) -> None:
    with pytest.raises(AppError, match="not fetched"):
        client.predict(image=handle_file("https://example.org/x.png"), api_name="/segment")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[gr.Blocks]:
    """A page of nothing but the endpoints."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    with gr.Blocks(analytics_enabled=False) as demo:
        add_endpoints(make_studio(tmp_path))
    demo.queue(max_size=8)
    yield demo
    demo.close()


def function(demo: gr.Blocks, name: str) -> Any:
    return next(fn for fn in demo.fns.values() if fn.api_name == name)


def process(demo: gr.Blocks, name: str, values: list[Any]) -> Any:
    """Let Gradio work on a call as its web server does."""
    with ThreadPoolExecutor() as pool:  # after browser tests this thread has Playwright's loop
        return pool.submit(asyncio.run, demo.process_api(function(demo, name), values)).result()


def test_nothing_is_downloaded(small: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("save_url_to_cache", "ssrf_protected_download", "async_ssrf_protected_download"):
        monkeypatch.setattr(processing_utils, name, lambda *_, **__: pytest.fail("downloaded"))
    address = {"path": "https://example.org/x.png", "meta": {"_type": "gradio.FileData"}}
    rest: list[Any] = [None] * 5 + [0, 0, 0, None, "object", "#1e90ff"]
    with pytest.raises(gr.Error, match="not fetched"):
        process(small, "segment", [address, *rest])
    folder = Path(get_upload_folder())
    folder.mkdir()
    photo = make_photo(folder)
    with pytest.raises(gr.Error, match="points takes numbers"):
        process(small, "segment", [{"path": str(photo)}, [[address]], *rest[1:]])


def test_calls_leave_no_session_behind(small: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url, _ = small.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    for value in (None, {"path": "/etc/passwd"}):
        body = {"image": value, "first": "a", "second": "b"}
        event_id = httpx.post(f"{url}gradio_api/call/v2/compare", json=body).json()["event_id"]
        answer = httpx.get(f"{url}gradio_api/call/compare/{event_id}", timeout=60).text
        assert "event: error" in answer
    assert not small.state_holder.session_data
    assert not small.state_holder.time_last_used


def test_what_takes_long_waits_in_queues(small: gr.Blocks) -> None:
    for name, queue in {
        "segment": "segment",
        "everything": "everything",
        "compare": "compare",
    }.items():
        endpoint = function(small, name)
        assert (endpoint.queue, endpoint.concurrency_id) == (True, queue)
        assert endpoint.concurrency_limit == 1
    assert not function(small, "models").queue


def test_every_part_is_documented(small: gr.Blocks) -> None:
    endpoints = small.get_api_info()["named_endpoints"]
    assert set(endpoints) == {f"/{name}" for name in ENDPOINTS}
    for path, endpoint in endpoints.items():
        assert len(endpoint["description"]) > 40
        given = inspect.signature(getattr(Endpoints, path[1:])).parameters
        assert [part["parameter_name"] for part in endpoint["parameters"]] == list(given)[1:]
        for part in endpoint["parameters"]:
            name, default = part["parameter_name"], given[part["parameter_name"]].default
            assert part["parameter_has_default"] == (default is not inspect.Parameter.empty), name
            assert not part["parameter_has_default"] or part["parameter_default"] == default, name
            assert len(part["python_type"]["description"]) > 10, name
            assert "Any" not in part["python_type"]["type"], name
        for part in endpoint["returns"]:
            assert len(part["python_type"]["description"]) > 10, path
            assert "Any" not in part["python_type"]["type"], path
    parts = {part["parameter_name"]: part for part in endpoints["/segment"]["parameters"]}
    assert parts["image"]["python_type"]["type"] == "filepath"
    assert parts["image"]["type"]["required"] == ["path"]
    assert parts["points"]["python_type"]["type"] == "None | list[list[float]]"
    assert {"enum": list(KINDS)} in parts["output"]["type"]["oneOf"]
    assert get_args(ExportKind) == KINDS


def test_a_further_question_needs_no_encoding(tmp_path: Path, small_predictor: Predictor) -> None:
    studio, recent = make_studio(tmp_path), RecentEmbeddings(count=2)
    path = make_photo(tmp_path)
    first, _ = CalledPhoto(studio, recent, path).embedding(small_predictor)
    copy = tmp_path / "copy.png"
    copy.write_bytes(path.read_bytes())
    again = CalledPhoto(studio, recent, copy)
    assert again.embedding(small_predictor) == (first, 0.0)
    assert again.size(small_predictor) == (50, 80)
    for shade in ("red", "blue"):
        Image.new("RGB", (30, 20), shade).save(copy)
        CalledPhoto(studio, recent, copy).embedding(small_predictor)
    assert CalledPhoto(studio, recent, path).embedding(small_predictor)[0] is not first


@pytest.mark.parametrize("fast", [True, False])
def test_a_search_that_takes_too_long_is_ended(
    tmp_path: Path, small_predictor: Predictor, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(answers, "MAX_SEARCH_S", 0.0)
    monkeypatch.setattr(answers, "find_predictor", lambda studio, name: small_predictor)
    studio = make_studio(tmp_path)
    photo = CalledPhoto(studio, RecentEmbeddings(), make_photo(tmp_path))
    wanted = dict.fromkeys((*answers.SEARCH_OPTIONS, "model", "output"))
    with pytest.raises(ValueError, match=r"ended after 0 seconds.*the command line"):
        answers.everything(studio, photo, {**wanted, "fast": fast})


def test_the_files_of_all_masks_can_be_unpacked_everywhere() -> None:
    name = "is it a dog?: yes.jpg"
    file_name, content = answers._file_of_all("zip", name, (4, 5), [])
    assert file_name == "is it a dog__ yes-masks.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.namelist()
        coco = json.loads(archive.read(parts[1]))
    assert parts == ["is it a dog__ yes-indexed.png", "is it a dog__ yes-coco.json"]
    assert coco["images"][0]["file_name"] == name  # by which its photo is found


def test_agents_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import app

    monkeypatch.setattr(app, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["app.py", "--mcp"])
    with pytest.raises(SystemExit, match=r"install it: pip install '\.\[mcp\]'"):
        app.main()

"""Calls that cannot be answered, or are meant to do harm: one sentence each, and nothing told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException

from mobilesam.ui.request_limit import RequestLimit
from tests.browser.demo_server import Server, upload

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "examples" / "raccoon.jpg"  # 1024 x 768
HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("segment", {"points": [[1, 1, 2]]}, "label of point 1"),
    ("segment", {"points": [[1, 1, True]]}, "label of point 1"),
    ("segment", {"points": [[2000, 1, 1]]}, "must lie in the photo"),
    ("segment", {"points": [[float("nan"), 1, 1]]}, "finite"),
    ("segment", {"points": [[1, float("inf"), 1]]}, "finite"),
    ("segment", {"points": [[1e308, -1e308, 1]]}, "must lie in the photo"),
    ("segment", {"points": [[10**400, 1, 1]]}, "finite"),
    ("segment", {"points": [[1, 1, 1]] * 65}, "At most 64 points"),
    ("segment", {"points": [[1, 1]]}, "Point 1"),
    ("segment", {"points": "abc"}, "list"),
    ("segment", {"points": [[1, 1, {"a": 1}]]}, "numbers or text"),
    ("segment", {"box": [300, 300, 100, 100]}, "upper left"),
    ("segment", {"box": [1, 2, 3]}, "four numbers"),
    ("segment", {}, "Give points"),
    ("segment", {"points": [[1, 1, 1]], "steps": [5]}, "steps"),
    ("segment", {"points": [[1, 1, 1]], "choices": [9]}, "choice"),
    ("segment", {"points": [[1, 1, 1]], "steps": 7}, "list"),
    ("segment", {"points": [[1, 1, 1]], "min_area": -1}, "area"),
    ("segment", {"points": [[1, 1, 1]], "smooth": 1e308}, "smooth"),
    ("segment", {"points": [[1, 1, 1]], "feather": "x"}, "feather"),
    ("segment", {"points": [[1, 1, 1]], "model": "sam_vit_z"}, "no model 'sam_vit_z'"),
    ("segment", {"points": [[1, 1, 1]], "model": "/etc/passwd"}, "no model"),
    ("segment", {"points": [[1, 1, 1]], "output": "exe"}, "mask, indexed"),
    ("segment", {"points": [[1, 1, 1]], "output": ["mask"]}, "mask, indexed"),
    ("segment", {"points": [[1, 1, 1]], "color": "red"}, "like #1e90ff; got 'red'"),
    ("segment", {"points": [[1, 1, 1]], "image": None}, "uploaded"),
    ("segment", {"points": [[1, 1, 1]], "image": {"path": "/etc/passwd"}}, "uploaded"),
    ("segment", {"points": [[1, 1, 1]], "image": {"path": "a\0b"}}, "uploaded"),
    ("segment", {"points": [[1, 1, 1]], "image": {"path": "x" * 9999}}, "uploaded"),
    ("segment", {"image": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}, "uploa"),
    ("segment", {"image": {"path": "https://example.org/x.png"}}, "not fetched"),
    ("segment", {"image": {"path": "http://a/gradio_api/file=/etc/passwd"}}, "uploaded"),
    ("segment", {"image": {"path": "http://[/x"}}, "not fetched"),
    ("everything", {"points_per_side": 10**9}, "1 to 32"),
    ("everything", {"points_per_side": 0}, "points_per_side"),
    ("everything", {"points_per_side": 4.5}, "whole number"),
    ("everything", {"crop_n_layers": 1}, "command line"),
    ("everything", {"fast": "yes"}, "true or false"),
    ("everything", {"pred_iou_thresh": float("nan")}, "pred_iou_thresh"),
    ("everything", {"box_nms_thresh": -1}, "box_nms_thresh"),
    ("everything", {"output": "svg"}, "indexed"),
    ("compare", {"first": "embedded", "second": "x", "points": [[1, 1, 1]]}, "no model 'x'"),
    ("compare", {"first": "embedded", "second": "sam_vit_h", "points": [[1, 1, 1]]}, "weights"),
    ("compare", {"first": "embedded", "second": None, "points": [[1, 1, 1]]}, "no model None"),
    ("compare", {"first": "embedded", "second": "embedded"}, "Give points"),
]


@pytest.fixture(scope="module")
def call(api_server: Server) -> Callable[[str, dict[str, Any]], tuple[str, Any]]:
    """Call an endpoint over plain HTTP; returns the last event and its data."""

    def call_endpoint(name: str, values: dict[str, Any]) -> tuple[str, Any]:
        url = f"{api_server.url}/gradio_api/call"
        headers = {"Content-Type": "application/json"}
        posted = httpx.post(f"{url}/v2/{name}", content=json.dumps(values), headers=headers)
        assert posted.status_code == 200, posted.text
        answer = httpx.get(f"{url}/{name}/{posted.json()['event_id']}", timeout=60).text
        event, data = answer.strip().split("\n\n")[-1].splitlines()
        return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    return call_endpoint


@pytest.fixture(scope="module")
def uploaded(api_server: Server) -> str:
    return upload(api_server.url, PHOTO)


def test_hostile_calls_get_one_sentence(
    call: Callable[..., tuple[str, Any]],
    uploaded: str,
    api_server: Server,
    subtests: pytest.Subtests,
) -> None:
    for name, values, expected in HOSTILE:
        with subtests.test(msg=f"{name} {values}"[:90]):
            event, data = call(name, {"image": {"path": uploaded}, **values})
            assert event == "error"
            assert expected in data["error"], data
            assert data["error"].endswith(".") and len(data["error"]) < 310
            assert "Traceback" not in data["error"] and str(ROOT) not in data["error"]
    shown = {"path": f"{api_server.url}/gradio_api/file={uploaded}"}  # as agents name a file
    event, _ = call("segment", {"image": shown, "points": [[620, 300, 1]]})
    assert event == "complete"
    assert "Traceback" not in api_server.log.read_text()


def test_too_few_values_are_told(api_server: Server) -> None:
    url = f"{api_server.url}/gradio_api/call/segment"
    event_id = httpx.post(url, json={"data": [None]}).json()["event_id"]
    answer = httpx.get(f"{url}/{event_id}", timeout=60).text
    assert "The values must be 12: image, points" in answer


def test_a_request_that_is_too_large_is_refused_before_it_is_read(api_server: Server) -> None:
    url = f"{api_server.url}/gradio_api"

    def status_of(address: str, **request: Any) -> int:
        return httpx.post(f"{url}/{address}", **request, timeout=60).status_code

    large = {"fn_index": 0, "session_hash": "x", "data": ["x" * 1_100_000]}
    for address in ("run/ask_mask", "run/upload", "queue/join", "call/segment"):
        assert status_of(address, json=large) == 413
    assert status_of("call/v2/models", json={}) == 200
    assert status_of("upload", files={"files": ("p.jpg", bytes(2_000_000))}) == 200
    assert status_of("run/everything", json={"data": []}) == 404


def test_agents_may_say_more_but_not_anything() -> None:
    async def swallow(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def ask(path: str, size: int) -> None:
        left = size

        async def receive() -> dict[str, Any]:
            nonlocal left
            part = min(left, 100_000)
            left -= part
            return {"body": bytes(part), "more_body": left > 0}

        await RequestLimit(swallow)({"type": "http", "path": path}, receive, None)

    for path, most in (("/gradio_api/mcp/", 5_000_000), ("/gradio_api/run/predict", 1_000_000)):
        asyncio.run(ask(path, most))
        with pytest.raises(HTTPException) as refused:
            asyncio.run(ask(path, most + 1))
        assert refused.value.status_code == 413
    asyncio.run(ask("/gradio_api/upload", 6_000_000))  # Gradio's own bound

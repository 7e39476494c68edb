"""The endpoints as tools for agents, asked by a real MCP client."""

from __future__ import annotations

import ast
import asyncio
import base64
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mobilesam import Predictor, rle
from mobilesam.steps import predict_steps
from tests.browser.demo_server import Server, upload

mcp = pytest.importorskip(
    "mcp", reason="the package mcp is not installed (the optional extra of that name)"
)
streamable_http = pytest.importorskip("mcp.client.streamable_http")
jsonschema = pytest.importorskip("jsonschema")

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "raccoon.jpg"
POINTS = [[620, 300, 1], [480, 420, 0]]
Ask = Callable[[Callable[[Any], Awaitable[Any]]], Any]


@pytest.fixture
def ask(api_server: Server) -> Ask:
    """Do something with a client's session, and return what it returns."""

    async def connect(question: Callable[[Any], Awaitable[Any]]) -> Any:
        client = streamable_http.streamable_http_client(f"{api_server.url}/gradio_api/mcp/")
        async with client as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            return await question(session)

    def run_question(question: Callable[[Any], Awaitable[Any]]) -> Any:
        with ThreadPoolExecutor() as pool:  # after browser tests this thread has Playwright's loop
            return pool.submit(asyncio.run, connect(question)).result()

    return run_question


@pytest.fixture
def expected(embedded: Predictor) -> dict[str, Any]:
    points, labels = [point[:2] for point in POINTS], [point[2] for point in POINTS]
    prediction = predict_steps(embedded, embedded.encode(PHOTO), points, labels)
    return rle.compress(rle.encode(prediction.mask(prediction.best)))


def test_the_tools_are_the_endpoints(ask: Ask) -> None:
    tools = {tool.name: tool for tool in ask(lambda session: session.list_tools()).tools}
    assert set(tools) == {"segment", "everything", "compare", "models"}
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool.inputSchema)
        assert len(tool.description) > 60
        for name, part in tool.inputSchema["properties"].items():
            assert len(part["description"]) > 10, name
    assert tools["segment"].inputSchema["required"] == ["image"]
    assert tools["compare"].inputSchema["required"] == ["image", "first", "second"]


def test_a_photo_is_segmented(ask: Ask, expected: dict[str, Any]) -> None:
    data = "data:image/jpeg;base64," + base64.b64encode(PHOTO.read_bytes()).decode()
    answer = ask(lambda session: session.call_tool("segment", {"image": data, "points": POINTS}))
    assert not answer.isError
    result, file = ast.literal_eval(answer.content[0].text)
    assert result["rle"] == expected
    assert file is None


def test_an_uploaded_photo_is_segmented_and_shown(
    ask: Ask, api_server: Server, expected: dict[str, Any]
) -> None:
    shown = f"{api_server.url}/gradio_api/file={upload(api_server.url, PHOTO)}"
    arguments = {"image": shown, "points": POINTS, "output": "cutout"}

    async def note_progress(*_: Any) -> None:
        return

    answer = ask(
        lambda session: session.call_tool("segment", arguments, progress_callback=note_progress)
    )
    text, picture, address = answer.content
    assert ast.literal_eval(text.text)["rle"] == expected
    assert base64.b64decode(picture.data).startswith(b"\x89PNG")
    assert "raccoon-cutout.png" in address.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"image": "https://example.org/x.png", "points": POINTS}, "not fetched"),
        ({"image": "data:image/png;base64,AAAA", "points": POINTS}, "not a picture"),
    ],
)
def test_what_cannot_be_answered_is_told(ask: Ask, arguments: Any, sentence: str) -> None:
    answer = ask(lambda session: session.call_tool("segment", arguments))
    assert answer.isError
    assert sentence in answer.content[0].text
    assert "Traceback" not in answer.content[0].text

"""docs/api.md: its examples run against a really started server, its tables name what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from mobilesam import Predictor, rle
from mobilesam.steps import predict_steps
from tests.browser.demo_server import Server
from tests.pages import Block, blocks, execute, sections

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
ADDRESS = "http://127.0.0.1:7860"  # where the page says that the server is


@pytest.fixture(autouse=True)
def _in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")


def examples(language: str, server: Server) -> list[Block]:
    """Return the page's blocks of a language, made for the server that runs."""
    found = [block for block in blocks(PAGE) if block.language == language]
    return [replace(block, text=block.text.replace(ADDRESS, server.url)) for block in found]


def test_the_python_examples(api_server: Server, subtests: pytest.Subtests) -> None:
    names: dict[str, Any] = {}
    checked = 0
    for block in examples("python", api_server):
        with subtests.test(msg=block.place):
            if block.notes.get("needs") == "mcp" and find_spec("mcp") is None:
                pytest.skip("the package mcp is not installed (the optional extra of that name)")
            with ThreadPoolExecutor() as pool:  # after browser tests this thread has a loop already
                checked += pool.submit(execute, block, names).result()
    assert checked >= 8


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_http_example(api_server: Server, embedded: Predictor) -> None:
    (block,) = (block for block in examples("sh", api_server) if "run" in block.notes)
    ran = subprocess.run(
        ["sh", "-eu", "-c", block.text], capture_output=True, text=True, timeout=120, check=True
    )
    *_, event, data = ran.stdout.strip().splitlines()
    assert event == "event: complete", ran.stdout
    result, file = json.loads(data.removeprefix("data: "))
    embedding = embedded.encode("examples/raccoon.jpg")
    expected = predict_steps(embedded, embedding, points=[(620, 300)])
    assert result["rle"] == rle.compress(rle.encode(expected.mask(expected.best)))
    assert file["url"].endswith("/raccoon-mask.png")
    assert httpx.get(file["url"]).content.startswith(b"\x89PNG")


def test_all_parts_are_told(api_server: Server) -> None:
    endpoints = httpx.get(f"{api_server.url}/gradio_api/info").json()["named_endpoints"]
    told = re.split(r"^### (.+)$", sections(PAGE)["The endpoints"], flags=re.MULTILINE)
    texts = dict(zip(told[1::2], told[2::2], strict=True))
    assert {f"/{name.lower()}" for name in texts} == set(endpoints)
    for name, text in texts.items():
        endpoint = endpoints[f"/{name.lower()}"]
        words = set(re.findall(r"`(\w+)`", text))
        parameters = {part["parameter_name"] for part in endpoint["parameters"]}
        assert parameters - words == set()
        assert keys_of(endpoint["returns"][0]["type"]) - words <= {"size", "counts"}, name
        rows = re.findall(r"^\| (`.+?`) \| (\S+) \|", text, flags=re.MULTILINE)
        defaults = {
            part["parameter_name"]: part["parameter_default"] for part in endpoint["parameters"]
        }
        for names, default in rows:
            if len(names.split(", ")) == 1 and default in ("null", "true", "0", "0.7", "16"):
                assert json.loads(default) == defaults[names.strip("`")], names


def keys_of(schema: Any) -> set[str]:
    """Return the names of all of a schema's values, those of inner ones included."""
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema))
    if not isinstance(schema, dict):
        return set()
    inner = set().union(*(keys_of(value) for value in schema.values()))
    return inner | set(schema.get("properties", {}))


def test_the_options_of_the_server_exist(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import app

    monkeypatch.setattr("sys.argv", ["app.py", "--help"])
    with pytest.raises(SystemExit):
        app.main()
    told = set(re.findall(r"--[a-z][a-z-]*", PAGE.read_text(encoding="utf-8")))
    assert {"--mcp", "--share", "--host"} <= told
    assert told <= set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))

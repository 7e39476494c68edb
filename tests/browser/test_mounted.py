"""The page as a part of a FastAPI application, at a path of its own."""

from __future__ import annotations

import threading
import time

import fastapi
import gradio as gr
import pytest
import uvicorn

from mobilesam.ui import LAUNCH_OPTIONS, build_demo
from tests.browser.demo_server import free_port
from tests.browser.pictures import phone_photo


@pytest.fixture
def mounted(monkeypatch, tmp_path, few_examples):
    """Address of the page in an application that this process serves."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    application = fastapi.FastAPI()
    page = build_demo(model="embedded", fetch_official=False, examples_folder=few_examples)
    options = {**LAUNCH_OPTIONS}
    del options["state_session_capacity"]
    gr.mount_gradio_app(application, page, path="/tools/sam", **options)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/tools/sam"
    server.should_exit = server.force_exit = True
    thread.join()


def test_a_photo_is_opened_segmented_and_saved(mounted, visit, tmp_path):
    demo = visit(mounted, address="/", keep_objects=True)
    _, center = phone_photo(tmp_path / "phone.jpg")
    demo.open_file(tmp_path / "phone.jpg")
    demo.click(*center)
    demo.wait_mask()
    assert demo.saved_mask()[center[1], center[0]]
    assert demo.notice == ""
    demo.forgive("favicon.ico")  # the application's own, which has none

"""`python app.py` as people start and end it: one sentence, and never an abort."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import avoid_the_folder_of_others
from tests.browser.demo_server import free_port
from tests.processes import hear_ctrl_c

ROOT = Path(__file__).parents[1]


def app(*words: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "app.py", "--no-download", *map(str, words)]
    pipe = subprocess.PIPE
    prepare = None if sys.platform == "win32" else hear_ctrl_c
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=prepare,
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_one_sentence_at_once(taken: int) -> None:
    started = time.monotonic()
    process = app("--port", taken)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.startswith(f"app.py: nothing can be served at 127.0.0.1, port {taken} (")
    assert error.endswith("; end what is there, or name another with --port.\n")
    assert error.count("\n") == 1
    assert time.monotonic() - started < 10


def test_a_host_that_is_not_here_is_one_sentence_at_once() -> None:
    process = app("--host", "192.0.2.1")  # an address for examples, which nobody has
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.startswith("app.py: nothing can be served at 192.0.2.1 (")
    assert error.endswith("; name an address of this machine with --host.\n")
    _, error = app("--host", "a..b").communicate(timeout=60)
    assert error.startswith("app.py: nothing can be served at a..b (no host has such a name); name")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_ctrl_c_ends_it_also_where_nobody_hears_it() -> None:
    command = f"exec {sys.executable} app.py --no-download --port {free_port()} >&- 2>&-"
    process = subprocess.Popen(["bash", "-c", command], cwd=ROOT, preexec_fn=hear_ctrl_c)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


@pytest.mark.parametrize("port", ["0", "65536", "-1", "web"])
def test_what_is_no_port_is_refused(port: str) -> None:
    process = app(f"--port={port}")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.endswith(f"argument --port: expected 1 to 65535, got '{port}'\n")


def test_an_unknown_model_is_one_sentence() -> None:
    process = app("--model", "nothing", "--port", free_port())
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert error.startswith("app.py: There is no model 'nothing'; the models are mobile_sam, ")
    assert error.count("\n") == 1


def test_a_checkpoint_that_nobody_asked_for_need_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "mobile_sam.pt").write_text("no checkpoint")
    process = app("--port", free_port(), MOBILESAM_CHECKPOINT_DIR=str(tmp_path))
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "mobile_sam.pt is not a checkpoint: a .pt, .pth or .safetensors file was" in error
    assert error.endswith("To serve without it: --model embedded.\n")


@pytest.mark.parametrize("when", ["while it starts", "while it serves"])
def test_ctrl_c_ends_it_quietly(when: str) -> None:
    process = app("--port", free_port(), "--backend", "torch")
    assert process.stdout is not None
    if when == "while it serves":
        while "Running on local URL" not in process.stdout.readline():
            assert process.poll() is None
    else:
        time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    if when == "while it starts":
        assert (process.returncode, error) == (130, "app.py: interrupted\n")
    else:
        assert process.returncode in (0, 130)  # 130 if it was about to


@pytest.mark.skipif(sys.platform == "win32", reason="each user has a folder of his own there")
def test_another_user_s_folder_is_left_to_him(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # so that it is put back
    del os.environ["GRADIO_TEMP_DIR"]
    avoid_the_folder_of_others()
    (tmp_path / "gradio").mkdir()
    avoid_the_folder_of_others()
    assert "GRADIO_TEMP_DIR" not in os.environ
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "gradio")
    avoid_the_folder_of_others()
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path / f"gradio-{os.getuid()}")

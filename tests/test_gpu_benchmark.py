"""The GPU benchmark, as far as a machine without a GPU can prove its code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu, gpu_paths
from benchmarks.gpu_paths import MODES, Captured, ModelPath, in_precision
from benchmarks.gpu_results import (
    QUICK,
    MaskAgreement,
    Results,
    Settings,
    Speed,
    agreement_rows,
    paper_rows,
)
from mobilesam.modeling import build_model, prepare_for_inference

TIMES = ("encoder_ms", "decoder_ms", "pipeline_ms", "images_per_s")


def test_without_a_gpu_the_cells_stay_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("PyTorch sees no NVIDIA GPU here")
    assert "| MobileSAM | bf16 | compiled + CUDA graph | – | – | – | – |" in lines
    assert "| SAM ViT-H | fp16 | CUDA graph | – | – | – | – |" in lines
    assert "| SAM ViT-H, paper | 452 | 4 | 456 |" in lines
    assert "| MobileSAM, paper | 8 | 4 | 12 |" in lines
    content = json.loads(lines[-1])
    assert len(content["speed"]) == 3 * 4 + 3 * 2
    assert all(speed[name] is None for speed in content["speed"] for name in TIMES)
    assert "Python" in content["machine"]


def test_a_gpu_that_is_not_there_cannot_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--device", "cuda"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "--device cuda was asked for" in captured.err


def test_a_quick_run_on_the_cpu_goes_all_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "GRID", (0.3, 0.7))
    monkeypatch.setattr(gpu_paths, "WARM_UP", 1)
    words = ["--device", "cpu", "--quick", "--architectures", "tiny_vit"]
    words += ["--precisions", "bf16", "--modes", "eager", "CUDA graph"]
    assert gpu.main(words) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out.splitlines()[-1])
    assert content["weights"] == {"tiny_vit": "random weights"}
    assert content["settings"]["image_size"] == 64
    for speed in content["speed"]:
        if speed["mode"] == "eager":
            assert all(speed[name] > 0 for name in TIMES) and not speed["problem"]
        else:
            assert all(speed[name] is None for name in TIMES)
            assert speed["problem"] == "CUDA graphs need a CUDA device"
    measured = [result for result in content["agreement"] if result["mode"] == "eager"]
    assert {(result["precision"], result["prompts"]) for result in measured} == {("bf16", 5)}
    assert all(0.9 < result["mean_iou"] <= 1 for result in measured)
    assert "bf16 CUDA graph: CUDA graphs need a CUDA device" in captured.out
    told = [json.loads(line) for line in captured.err.splitlines() if line.startswith("{")]
    assert len(told) == sum(len(content[part]) for part in ("speed", "many", "agreement"))
    assert all(result["ms"] > 0 and not result["problem"] for result in content["many"])
    names = [result["what"].split(",")[0] for result in content["many"]]
    assert names == ["9 boxes in one call", "4 points", "4 points", "everything mode"]


@pytest.mark.parametrize(("words", "chosen"), [(["--device", "cuda:1"], ["cuda:1"]), ([], [])])
def test_the_gpu_that_was_named_is_the_current_one(
    monkeypatch: pytest.MonkeyPatch, words: list[str], chosen: list[str]
) -> None:
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(str(device)))
    monkeypatch.setattr(gpu, "measure_all", lambda *_: None)
    assert gpu.main(words) == 0
    assert current == chosen


@pytest.mark.parametrize("draws_prompts", [False, True])
def test_another_precision_is_that_throughout(draws_prompts: bool) -> None:
    torch.manual_seed(0)
    model = build_model("deit_tiny", 64, pads_to_square=False, draws_prompts=draws_prompts)
    model = prepare_for_inference(model)
    pixels, coords, labels = gpu.inputs(2, 64, torch.device("cpu"))
    with torch.no_grad():
        path = ModelPath(in_precision(model, torch.bfloat16), "eager")
        features = path.encode(pixels)
        low_res, iou = path.decode(features, coords, labels)
        true, _ = model.decode_masks(model.encode_image(pixels), coords, labels)
        mask = path.segment(pixels, coords, labels)
    assert features.dtype == low_res.dtype == iou.dtype == torch.bfloat16
    assert low_res.shape == (2, 4, 16, 16) and mask.shape == (2, 1, 64, 64)
    assert mask.dtype == torch.bool
    off = (low_res.float() - true).norm() / true.norm()
    assert 0 < off < 0.05  # bf16 keeps 8 bits of a number
    assert next(model.parameters()).dtype == torch.float32  # the model itself is as it was
    assert in_precision(model, torch.float32) is model


class FakeGraph:
    """Stands for a CUDA graph: replays by calling again and writing into the same outputs."""

    def __init__(self) -> None:
        self.captured: Captured

    def replay(self) -> None:
        self.captured.outputs.copy_(self.captured.call(*self.captured.inputs))


def test_a_captured_call_takes_new_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeStream:
        def wait_stream(self, stream: FakeStream) -> None: ...

    @contextlib.contextmanager
    def nothing(*_: object) -> Iterator[None]:
        yield

    for name, fake in (
        ("Stream", FakeStream),
        ("current_stream", FakeStream),
        ("stream", nothing),
        ("graph", nothing),
        ("CUDAGraph", FakeGraph),
    ):
        monkeypatch.setattr(gpu_paths.torch.cuda, name, fake)
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return 2 * x

    captured = Captured(double)
    first = torch.ones(3)
    captured._capture((first,))
    captured.graph.captured = captured
    assert len(calls) == gpu_paths.WARM_UP + 1
    out = captured(first)
    assert out.tolist() == [2, 2, 2]
    again = captured(torch.tensor([1.0, 5.0, 7.0]))
    assert again is out and out.tolist() == [2, 10, 14]  # its own tensor, written anew
    assert first.tolist() == [1, 1, 1]  # what was given is left alone
    assert all(x is captured.inputs[0] for x in calls)


ONLY = replace(QUICK, architectures=("tiny_vit",), precisions=("fp32", "bf16"), photos=1)


def test_what_fails_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_bf16(model: object, dtype: torch.dtype) -> object:
        if dtype == torch.bfloat16:
            raise AssertionError("A compiler's own.\nWith more lines.")
        return in_precision(model, dtype)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate much.")

    monkeypatch.setattr(gpu, "in_precision", no_bf16)
    found = Results()
    gpu.measure_speeds("tiny_vit", False, ONLY, torch.device("cpu"), found)
    assert [(speed.precision, speed.problem) for speed in found.speeds] == [
        ("bf16", "AssertionError: A compiler's own."),
        ("fp32", ""),
    ]
    assert found.speeds[0].encoder_ms is None and found.speeds[1].images_per_s > 0
    monkeypatch.setattr(gpu, "load", full)
    gpu.measure_speeds("tiny_vit", False, ONLY, torch.device("cpu"), found)
    assert [speed.problem for speed in found.speeds[2:]] == [
        "OutOfMemoryError: CUDA out of memory."
    ] * 2
    gpu.measure_many_prompts(ONLY, torch.device("cpu"), found)
    assert [many.problem for many in found.many] == ["OutOfMemoryError: CUDA out of memory."]
    monkeypatch.setattr(gpu, "load_model", full)
    gpu.compare_all_masks(False, ONLY, torch.device("cpu"), found)
    assert {result.problem for result in found.agreements} == {
        "OutOfMemoryError: CUDA out of memory."
    }


def test_the_most_wanted_is_measured_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, ...]] = []
    monkeypatch.setattr(gpu, "load", lambda name, *_: (None, ""))
    monkeypatch.setattr(gpu, "_free", lambda *_: None)  # nothing is loaded
    monkeypatch.setattr(
        gpu, "measure_speed", lambda _, s, __: order.append((s.architecture, s.precision, s.mode))
    )
    monkeypatch.setattr(gpu, "measure_many", lambda *_: [order.append(("many", "", ""))][:0])
    monkeypatch.setattr(
        gpu, "compare_masks", lambda _, r, __: order.append(("masks", r.precision, r.mode))
    )
    found = Results()
    gpu.measure_all(Settings(), torch.device("cpu"), found)
    assert order[:3] == [
        ("tiny_vit", "bf16", "eager"),
        ("tiny_vit", "bf16", "CUDA graph"),
        ("tiny_vit", "fp16", "eager"),
    ]
    kinds = [(what, "compiled" in mode) for what, _, mode in order]
    assert list(dict.fromkeys(kinds)) == [
        ("tiny_vit", False),
        ("masks", False),
        ("sam_vit_h", False),
        ("many", False),
        ("tiny_vit", True),
        ("masks", True),
    ]
    told = found.in_order(Settings()).speeds
    assert [(speed.precision, speed.mode) for speed in told[:2]] == [
        ("fp32", "eager"),
        ("fp32", "compiled"),
    ]
    assert len(told) == len(set(map(str, told))) == 3 * 4 + 3 * 2


def test_a_limit_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--minutes", "0"])
    assert "--minutes must be positive; got 0." in capsys.readouterr().err


@pytest.mark.parametrize("ends", ["time", "signal"])
def test_a_run_that_is_cut_off_tells_what_it_has(
    ends: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(settings: Settings, _: torch.device, found: Results) -> None:
        found.speeds.append(Speed("tiny_vit", "fp32", "eager", encoder_ms=7.25))
        if ends == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(0.01)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(gpu, "measure_all", measure)
    limit = ["--minutes", "0.002"] if ends == "time" else []
    assert gpu.main(["--device", "cpu", "--quick", *limit]) == 1
    out = capsys.readouterr().out
    assert "| MobileSAM | fp32 | eager | 7.25 | – | – | – |" in out
    why = {"time": "the time was up", "signal": "it was asked to end"}[ends]
    assert f"The run ended before all was measured: {why}." in out
    assert json.loads(out.splitlines()[-1])["cut_off"] == why
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_papers_numbers_stand_beside_ours() -> None:
    speeds = [
        Speed("tiny_vit", "fp32", "eager", 5.0, 2.0, 8.0, 100.0),
        Speed("tiny_vit", "bf16", "CUDA graph", 1.5, 0.5, 2.25, 900.0),
        Speed("sam_vit_h", "fp32", "eager", 100.0, 2.0, 103.0, 10.0),
        Speed("sam_vit_h", "fp16", "eager", problem="OutOfMemoryError: …"),
    ]
    assert paper_rows(speeds, Settings()) == [
        ["SAM ViT-H, paper", "452", "4", "456"],
        ["MobileSAM, paper", "8", "4", "12"],
        ["SAM ViT-H, here, fp32 eager", "100.00", "2.00", "102.00"],
        ["MobileSAM, here, fp32 eager", "5.00", "2.00", "7.00"],
        ["MobileSAM, here, bf16 CUDA graph", "1.50", "0.50", "2.00"],
    ]


def test_masks_agree_from_a_mean_iou_of_0_99() -> None:
    results = [
        MaskAgreement("embedded", "fp16", MODES[0], 80, 0.9901, 0.95),
        MaskAgreement("embedded", "bf16", MODES[0], 80, 0.9899, 0.9),
        MaskAgreement("embedded", "bf16", MODES[1], problem="RuntimeError: …"),
    ]
    assert [line[3:] for line in agreement_rows(results)] == [
        ["80", "0.9901", "0.9500", "yes"],
        ["80", "0.9899", "0.9000", "no"],
        ["0", "–", "–", "–"],
    ]

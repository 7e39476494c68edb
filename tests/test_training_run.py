"""What every run does: schedule, log, checkpoints, resuming, averaged weights, report."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import math
import multiprocessing
import os
import re
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tqdm import tqdm

from mobilesam import load_model
from mobilesam.modeling import build_model
from mobilesam.training import curves
from mobilesam.training.checkpointing import (
    load_state,
    save_state,
    write_tensors,
)
from mobilesam.training.compiling import REPEATED
from mobilesam.training.config import DistillConfig, TeacherConfig
from mobilesam.training.distill import DistillRun
from mobilesam.training.mask_training import TeacherRun
from mobilesam.training.run import RULES
from tests.shards import write_shards
from tests.training_runs import rows_of, small_config, untimed

pytestmark = pytest.mark.usefixtures("no_curves")
DRAW_CURVES = curves.draw_curves


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shards(tmp_path_factory.mktemp("data"), "train")
    return write_shards(folder, "val", photos=3)


def test_a_run_trains_reports_and_its_model_loads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "draw_curves", DRAW_CURVES)
    TeacherRun(small_config(TeacherConfig, data, tmp_path, val_photos=2, licence="CC0")).run()
    rows = rows_of(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[0].keys() >= {"loss", "learning_rate", "waiting_share", "images_per_second"}
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(0 <= row["waiting_share"] <= 1 for row in rows)
    (validated,) = rows_of(tmp_path / "val.csv")
    assert validated["step"] == 4 and 0 <= validated["box"] <= 1
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.format == "PNG" and min(drawn.size) > 500
    report = (tmp_path / "report.md").read_text()
    for expected in ("teacher: deit_tiny, 64 px", "| photos seen | 8 |", "bars, disks", "waiting"):
        assert expected in report
    model = load_model(tmp_path / "model.safetensors")
    assert (model.encoder_name, model.image_size, model.pads_to_square) == ("deit_tiny", 64, False)
    metadata = load_model(tmp_path / "model.safetensors").metadata
    assert metadata["steps"] == "4" and metadata["stage"] == "teacher"
    assert (metadata["training_data"], metadata["licence"]) == ("bars, disks", "CC0")


def test_training_learns_disks(data: Path, tmp_path: Path) -> None:
    changes = {"steps": 40, "learning_rate": 2e-3, "log_steps": 8, "one_round_share": 1.0}
    TeacherRun(small_config(TeacherConfig, data, tmp_path, **changes)).run()
    losses = [row["mask_loss"] for row in rows_of(tmp_path / "log.csv")]
    assert min(losses[-2:]) < 0.8 * losses[0]


class CutOff(TeacherRun):
    """Breaks off after the third step, one after its last checkpoint."""

    def step_arguments(self, batch):
        if self.step == 3:
            raise KeyboardInterrupt
        return super().step_arguments(batch)


def test_a_cut_run_goes_on_to_the_weights_of_an_unbroken_one(data: Path, tmp_path: Path) -> None:
    changes = {"checkpoint_steps": 2, "log_steps": 1}
    TeacherRun(small_config(TeacherConfig, data, tmp_path / "whole", **changes)).run()
    config = small_config(TeacherConfig, data, tmp_path / "cut", **changes)
    with pytest.raises(KeyboardInterrupt):
        CutOff(config).run()
    assert load_state(tmp_path / "cut/state.pt")["step"] == 2
    assert [row["step"] for row in rows_of(tmp_path / "cut/log.csv")] == [1, 2, 3]
    TeacherRun(config).run()
    whole, cut = (load_state(tmp_path / name / "state.pt") for name in ("whole", "cut"))
    for part in ("model", "ema", "optimizer"):
        torch.testing.assert_close(cut[part], whole[part], rtol=0, atol=0)
    logs = [untimed(tmp_path / name / "log.csv") for name in ("whole", "cut")]
    assert [row["step"] for row in logs[1]] == [1, 2, 3, 4]
    assert logs[0] == logs[1]


def test_a_resumed_run_remembers_its_quickest_step(data: Path, tmp_path: Path) -> None:
    changes = {"steps": None, "minutes": 10.0, "checkpoint_steps": 2}
    config = small_config(TeacherConfig, data, tmp_path, **changes)
    with pytest.raises(KeyboardInterrupt):
        CutOff(config).run()
    run = TeacherRun(config)
    assert 0 < run.schedule.quickest <= run.seconds / 2  # two steps were done
    assert run.schedule.expected_steps(20, run.seconds) < math.inf


class Asked(TeacherRun):
    """Gets signals in its second step."""

    signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)

    def step_arguments(self, batch):
        if self.step == 1:
            for number in self.signals:
                os.kill(os.getpid(), number)
        return super().step_arguments(batch)


def test_a_run_that_is_asked_to_stop_ends_its_step_and_saves(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    config = small_config(TeacherConfig, data, tmp_path, workers=1)
    with pytest.raises(KeyboardInterrupt):
        Asked(config).run()
    assert load_state(tmp_path / "state.pt")["step"] == 2
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(Asked, "signals", (signal.SIGINT, signal.SIGINT))
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground
    try:
        (tmp_path / "state.pt").unlink()
        with pytest.raises(KeyboardInterrupt):
            Asked(config).run()  # the second one ends it at once
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert not (tmp_path / "state.pt").exists()


class Broken(TeacherRun):
    """Fails in its second step, as nothing foresees."""

    def step_arguments(self, batch):
        if self.step == 1:
            raise RuntimeError("an illegal memory access")
        return super().step_arguments(batch)


def test_a_run_that_fails_leaves_no_reader_behind(data: Path, tmp_path: Path) -> None:
    """Else Python, which keeps the traceback to its end, would wait a minute for them there."""
    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="illegal memory") as kept:
        Broken(small_config(TeacherConfig, data, tmp_path, workers=2)).run()
    assert set(multiprocessing.active_children()) == before
    assert kept.tb is not None


def test_a_full_disk_leaves_the_state_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for write in (save_state, write_tensors):
            with pytest.raises(OSError, match=r"state\.pt could not be written .*; make room"):
                write(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"]


def test_a_row_that_a_full_disk_cut_off_is_told_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for step in (1, 2):
        curves.append_row(path, {"step": step, "loss": step / 7})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, limits[1]))
    try:
        with pytest.raises(OSError, match=r"log\.csv could not be written .*; make room there"):
            curves.append_row(path, {"step": 3, "loss": 3 / 7})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text().endswith("\n3,0.")
    assert [row["step"] for row in curves.read_rows(path)] == [1, 2]
    curves.drop_rows_after(path, 9)
    curves.append_row(path, {"step": 3, "loss": 1.0})
    assert [row["loss"] for row in rows_of(path)] == pytest.approx([1 / 7, 2 / 7, 1], rel=1e-5)


def test_a_run_cut_off_before_its_report_is_validated_once(data: Path, tmp_path: Path) -> None:
    config = small_config(TeacherConfig, data, tmp_path, steps=1, val_photos=1)
    TeacherRun(config).run()
    (tmp_path / "report.md").unlink()
    TeacherRun(config).run()
    assert [row["step"] for row in rows_of(tmp_path / "val.csv")] == [1]
    assert (tmp_path / "report.md").exists()


def test_a_finished_run_is_left_alone(data: Path, tmp_path: Path) -> None:
    config = small_config(TeacherConfig, data, tmp_path, steps=1)
    TeacherRun(config).run()
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    TeacherRun(config).run()
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_other_settings_do_not_take_over_a_run(data: Path, tmp_path: Path) -> None:
    TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=1)).run()
    with pytest.raises(ValueError, match="other settings of learning_rate"):
        TeacherRun(small_config(TeacherConfig, data, tmp_path, learning_rate=1e-5))
    TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=2, checkpoint_minutes=9)).run()
    assert load_state(tmp_path / "state.pt")["step"] == 2


def test_a_licence_may_be_corrected_also_of_a_run_that_an_earlier_version_began(
    data: Path, tmp_path: Path
) -> None:
    TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=1)).run()
    state = load_state(tmp_path / "state.pt")
    state["config"]["licence"] = "research and demonstration"  # which it counted as fixed
    save_state(tmp_path / "state.pt", state)
    TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=2, licence="CC0")).run()
    assert load_model(tmp_path / "model.safetensors").metadata["licence"] == "CC0"


def test_a_run_by_the_clock_ends_with_it(data: Path, tmp_path: Path) -> None:
    run = TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=None, minutes=1e-3))
    run.run()
    assert run.step >= 1 and run.seconds >= 0.06
    assert rows_of(tmp_path / "log.csv")[-1]["progress"] == 1


def test_the_bar_of_a_run_by_the_clock_tells_how_far_it_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(
        TeacherRun,
        "progress_bar",
        lambda _, **options: tqdm(file=drawn, mininterval=0, ncols=100, **options),
    )
    config = small_config(TeacherConfig, data, tmp_path, steps=None, minutes=1e-3, log_steps=1000)
    TeacherRun(config).run()
    first = next(line for line in drawn.getvalue().split("\r") if "1step" in line)
    assert re.match(r"\d+%: 1step", first), first


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    run = TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=20, log_steps=5))
    torch.nn.init.constant_(run.model.mask_decoder.iou_token.weight, math.nan)
    message = "not finite in 10 of 10 steps, up to step 10. Begin again with another --out and"
    with pytest.raises(ValueError, match=message):
        run.run()
    assert not (tmp_path / "model.safetensors").exists()


class Poisoned(TeacherRun):
    """Gets one batch whose pixels are no numbers, in its second step."""

    def step_arguments(self, batch):
        batch, *rest = super().step_arguments(batch)
        if self.step == 1:
            pixels = torch.full(batch.pixels.shape, math.nan)
            batch = dataclasses.replace(batch, pixels=pixels)
            self.before = copy.deepcopy(self.model.state_dict())
        if self.step == 2:
            after = self.model.state_dict()
            self.changed = [
                name for name in after if not torch.equal(after[name], self.before[name])
            ]
        return batch, *rest


def test_one_bad_step_is_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    changes = {"encoder": "tiny_vit", "log_steps": 4, "steps": 8, "checkpoint_steps": 4}
    run = Poisoned(small_config(TeacherConfig, data, tmp_path, **changes))
    run.run()
    assert all(name.endswith("num_batches_tracked") for name in run.changed)
    assert all(value.isfinite().all() for value in run.ema.state_dict().values())
    rows = rows_of(tmp_path / "log.csv")
    assert [row["skipped"] for row in rows] == [1, 0]
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    state = load_state(tmp_path / "state.pt")
    assert state["skipped"] == 1
    counts = {int(value["step"]) for value in state["optimizer"]["state"].values()}
    assert max(counts) == 7  # AdamW's own count leaves the skipped step out
    report = (tmp_path / "report.md").read_text()
    assert "| steps skipped, their gradients not finite | 1 |" in report
    assert TeacherRun(small_config(TeacherConfig, data, tmp_path, **changes)).skips.total == 1


def test_training_without_validation_photos_says_what_to_do(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data", "train", photos=2)
    with pytest.raises(FileNotFoundError, match="set val_photos to 0"):
        TeacherRun(small_config(TeacherConfig, folder, tmp_path, val_photos=5))


def test_compiled_networks_train(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks are traced only: Inductor's C++ compiler takes minutes."""
    torch._dynamo.reset()  # forget what other tests had compiled
    torch._dynamo.utils.counters.clear()
    traced = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", traced)
    losses = []
    for compiled in (False, True):
        changes = {"steps": 1, "compile": compiled, "max_corrections": 1}
        out = tmp_path / str(compiled)
        TeacherRun(small_config(TeacherConfig, data, out, **changes)).run()
        losses.append(rows_of(out / "log.csv")[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    changes = {"steps": 1, "compile": True, "teacher": str(out / "model.safetensors")}
    DistillRun(small_config(DistillConfig, data, tmp_path / "distill", cache=None, **changes)).run()
    assert load_model(tmp_path / "distill" / "model.safetensors").encoder_name == "tiny_vit"


@pytest.mark.parametrize(("encoder", "blocks"), [("deit_tiny", 12), ("sam_vit_b", 12)])
def test_blocks_of_each_encoder_are_compiled(encoder: str, blocks: int) -> None:
    with torch.device("meta"):  # its weights do not matter
        model = build_model(encoder, 64)
    assert sum(isinstance(module, REPEATED) for module in model.image_encoder.modules()) == blocks


def test_averaged_weights_carry_batch_norm_statistics(data: Path, tmp_path: Path) -> None:
    run = TeacherRun(small_config(TeacherConfig, data, tmp_path, steps=2, encoder="tiny_vit"))
    run.run()
    for kept, current in zip(run.ema.buffers(), run.model.buffers(), strict=True):
        torch.testing.assert_close(kept, current)
    statistics = dict(run.ema.named_buffers())
    name = next(key for key in statistics if key.endswith("running_mean"))
    assert statistics[name].abs().sum() > 0
    assert load_model(tmp_path / "model.safetensors").encoder_name == "tiny_vit"


def test_what_an_earlier_version_began_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    config = small_config(TeacherConfig, data, tmp_path, steps=1)
    TeacherRun(config).run()
    state = load_state(tmp_path / "state.pt")
    for rule in RULES:
        torch.save(
            {**state, "config": {k: v for k, v in state["config"].items() if k != rule}},
            tmp_path / "state.pt",
        )
        with pytest.raises(ValueError, match=f"other settings of {rule}; .* the version of"):
            TeacherRun(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be positive; got 0"),
        ({"minutes": -1.0}, "minutes must be positive; got -1.0"),
        ({"warmup_steps": 0}, "warmup_steps must be positive"),
        ({"log_steps": 0}, "log_steps must be positive"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes must be positive"),
        ({"val_photos": -1}, "val_photos must be 0 or more; got -1"),
        ({"seed": 2**63}, "seed must be at most 9223372036854775807; got 9223372036854775808"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1; got 1.0"),
        ({"precision": "fp16"}, "precision must be bf16 or fp32; got 'fp16'"),
        ({"box_share": 1.5}, "box_share must lie in 0 to 1; got 1.5"),
        ({"max_corrections": -1}, "max_corrections must be 0 or more"),
        ({"learning_rate": math.nan}, "learning_rate must be positive; got nan"),
        ({"minutes": math.inf}, "minutes must be positive; got inf"),
        ({"image_size": 112}, "image_size must be a positive multiple of 32; got 112"),
        ({"weight_decay": math.nan}, "weight_decay must be 0 or more; got nan"),
        ({"iou_weight": math.nan}, "iou_weight must be 0 or more; got nan"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherConfig(**changes)


@pytest.mark.parametrize("left", [0, 1000, 5000, None])
def test_a_damaged_or_foreign_state_says_what_to_do(tmp_path: Path, left: int | None) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"model": torch.zeros(5000)})
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"state\.pt is damaged or no run's .* remove that file"):
        load_state(path)


@pytest.mark.parametrize("content", [b"junk", b"runs\n" * 50, b"PK\3\4", b"\x80\x02"])
def test_what_is_no_state_at_all_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.pt is damaged or no run's .* remove that file"):
        load_state(path)


def test_a_state_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "state.pt")
    with pytest.raises(IsADirectoryError):
        load_state(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["loss\n0.5\n", "step,loss\n1,abc\n", "step,loss\n1,0.5,7\n", "step,loss\n1\n"],
)
def test_a_table_that_no_run_has_written_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"log\.csv is not the table .* remove or rename it"):
        curves.read_rows(path)


def test_a_run_does_not_begin_beside_a_table_of_another_kind(data: Path, tmp_path: Path) -> None:
    config = small_config(TeacherConfig, data, tmp_path, steps=1)
    TeacherRun(config).run()
    (tmp_path / "log.csv").write_text("loss\n0.5\n")
    with pytest.raises(ValueError, match=r"log\.csv is not the table"):
        TeacherRun(dataclasses.replace(config, steps=2))
    (tmp_path / "log.csv").unlink()
    TeacherRun(dataclasses.replace(config, steps=2)).run()
    assert [row["step"] for row in rows_of(tmp_path / "log.csv")] == [2]


def test_an_unknown_device_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device must be cpu or cuda; got 'meta'"):
        TeacherRun(small_config(TeacherConfig, data, tmp_path, device="meta"))


def test_rows_beyond_a_checkpoint_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for step in (10, 20, 30):
        curves.append_row(path, {"step": step, "loss": step / 7})
    curves.drop_rows_after(path, 20)
    assert [row["step"] for row in rows_of(path)] == [10, 20]
    curves.append_row(path, {"step": 25, "loss": 1.0})
    assert [row["step"] for row in rows_of(path)] == [10, 20, 25]
    curves.drop_rows_after(path, 5)
    assert curves.read_rows(path) == []

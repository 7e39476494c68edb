"""Training end to end on a handful of pictures: data, prompts, losses, resuming, the command."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilesam import load_model
from mobilesam.cli import main
from mobilesam.training.checkpointing import load_state, read_metadata
from mobilesam.training.config import TrainConfig
from mobilesam.training.data import DataConfig, TrainingBatches, bucket_of
from mobilesam.training.losses import mask_losses, prompt_loss, true_iou
from mobilesam.training.prompts import box_prompts, correction_clicks, point_prompts
from mobilesam.training.shards import Shards, masks_of
from mobilesam.training.trainer import Trainer
from tests.shards import write_shards

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shards(tmp_path_factory.mktemp("data"), "train")
    return write_shards(folder, "val", photos=3)


def _config(data: Path, out: Path, **changes: object) -> TrainConfig:
    small = DataConfig(data=str(data), image_size=64, images_per_batch=2, masks_per_image=3)
    options = {"steps": 4, "workers": 0, "log_steps": 2, "warmup_steps": 2, "one_round_share": 0.0}
    return TrainConfig(out=str(out), data=small, **{**options, **changes})


def test_shards_are_read(data: Path) -> None:
    shards = Shards(data, "train")
    assert len(shards) == 6
    sample = shards.samples[0]
    assert (sample.set_name, sample.size) == ("disks", (96, 128))
    first, second = shards.label_maps(sample)
    assert shards.photo(sample).size == (128, 96)
    assert [(index, label) for index, label, _ in masks_of([first, second])] == [
        (0, 1),
        (0, 2),
        (1, 1),
    ]
    with pytest.raises(FileNotFoundError, match="--data"):
        Shards(data, "test")


def test_batches_have_one_shape_and_true_boxes(data: Path) -> None:
    config = DataConfig(data=str(data), image_size=64, images_per_batch=2, masks_per_image=3)
    batches = iter(TrainingBatches(config, seed=0))
    for _ in range(5):
        batch = next(batches)
        height, width = batch.pixels.shape[2:]
        assert (height, width) in {(64, 64), (64, 32), (32, 64)}
        assert batch.targets.shape == (6, height // 4, width // 4)
        assert ((batch.targets >= 0) & (batch.targets <= 1)).all()
        for target, (x0, y0, x1, y1) in zip(batch.targets, batch.boxes, strict=True):
            rows, columns = torch.nonzero(target > 0.5, as_tuple=True)
            if len(rows):
                assert x0 - 4 <= 4 * columns.min() and 4 * columns.max() <= x1 + 4
                assert y0 - 4 <= 4 * rows.min() and 4 * rows.max() <= y1 + 4
    again = next(iter(TrainingBatches(config, seed=0)))
    first = next(iter(TrainingBatches(config, seed=0)))
    torch.testing.assert_close(again.targets, first.targets)


def test_buckets() -> None:
    assert bucket_of((288, 384), 384) == (288, 384)
    assert bucket_of((384, 250), 512) == (512, 320)
    assert bucket_of((10, 384), 384) == (32, 384)


def test_prompts_lie_where_they_should() -> None:
    torch.manual_seed(0)
    targets = torch.zeros(2, 16, 16)
    targets[0, 2:6, 8:12] = 1
    targets[1, 10, 3] = 0.3  # smaller than a cell
    coords, labels = point_prompts(targets)
    assert labels.tolist() == [[1, -1], [1, -1]]
    assert ((coords[0, 0] >= torch.tensor([31.5, 7.5])) & (coords[0, 0] <= 47.5)).all()
    assert ((coords[1, 0] >= torch.tensor([11.5, 39.5])) & (coords[1, 0] <= 44)).all()
    boxes = torch.tensor([[32.0, 8.0, 48.0, 24.0]] * 50)
    corners, labels = box_prompts(boxes)
    assert labels.tolist() == [[2, 3]] * 50
    exact = (corners.flatten(1) == boxes).all(1)
    assert 10 < exact.sum() < 40
    assert (corners[:, 0] < corners[:, 1]).all()


def test_corrections_fall_on_mistakes() -> None:
    torch.manual_seed(0)
    targets = torch.zeros(2, 16, 16)
    targets[:, :8] = 1
    logits = torch.full_like(targets, -5.0)
    logits[0, :4] = 5  # rows 4 to 7 are missing
    logits[1, :12] = 5  # rows 8 to 11 are too much
    coords, labels = correction_clicks(logits, targets, torch.ones_like(targets))
    assert labels.tolist() == [[1], [0]]
    assert 15.5 <= coords[0, 0, 1] <= 31.5
    assert 31.5 <= coords[1, 0, 1] <= 47.5


def test_losses_by_hand() -> None:
    targets, valid = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    targets[:, :4] = 1
    right = torch.where(targets > 0, 20.0, -20.0)[:, None]
    half = right.clone()
    half[:, :, 2:4] = -20
    assert mask_losses(right, targets, valid) < 1e-4
    assert mask_losses(-right, targets, valid) > mask_losses(half, targets, valid) > 0.1
    assert true_iou(torch.cat([right, half, -right], 1), targets, valid).tolist() == [[1, 0.5, 0]]
    valid[:, 2:4] = 0  # the half that is wrong does not count
    assert true_iou(half, targets, valid).item() == 1
    assert mask_losses(half, targets, valid) < 1e-4


def test_only_the_best_of_three_is_pulled_hard() -> None:
    targets, valid = torch.ones(1, 4, 4), torch.ones(1, 4, 4)
    logits = torch.tensor([0.0, -1.0, 0.1, 0.0]).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    logits = logits.clone().requires_grad_()
    loss, logged = prompt_loss(logits, torch.zeros(1, 4), targets, valid, torch.tensor([True]))
    loss.backward()
    pull = logits.grad.abs().sum((0, 2, 3))
    assert pull[2] > 3 * pull[3]
    assert logged["iou_best"] == 1


def test_a_run_trains_and_its_model_loads(data: Path, tmp_path: Path) -> None:
    Trainer(_config(data, tmp_path)).run()
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    model = load_model(tmp_path / "model.safetensors")
    assert (model.encoder_name, model.image_size, model.pads_to_square) == ("deit_tiny", 64, False)
    assert read_metadata(tmp_path / "model.safetensors")["steps"] == "4"


def test_training_learns_disks(data: Path, tmp_path: Path) -> None:
    config = _config(data, tmp_path, steps=60, learning_rate=2e-3, log_steps=10, ema_decay=0.9)
    Trainer(config).run()
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["mask_loss"]) for row in csv.DictReader(file)]
    assert min(losses[-2:]) < 0.8 * losses[0]


def test_a_run_resumes_where_it_stopped(data: Path, tmp_path: Path) -> None:
    Trainer(_config(data, tmp_path, steps=2)).run()
    before = load_state(tmp_path / "state.pt")
    resumed = Trainer(_config(data, tmp_path, steps=4))
    assert resumed.step == before["step"] == 2
    for name, tensor in resumed.model.state_dict().items():
        torch.testing.assert_close(tensor, before["model"][name])
    resumed.run()
    assert load_state(tmp_path / "state.pt")["step"] == 4


def test_a_killed_run_loses_at_most_one_interval(data: Path, tmp_path: Path) -> None:
    words = ["train", "--data", str(data), "--out", str(tmp_path), "--image-size", "64"]
    words += ["--images-per-batch", "2", "--masks-per-image", "2", "--workers", "0"]
    words += ["--checkpoint-minutes", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mobilesam", *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "model.safetensors").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    state = load_state(tmp_path / "state.pt")  # whole, whenever the kill came
    assert main([*words, "--steps", str(state["step"] + 1)]) == 0
    assert load_state(tmp_path / "state.pt")["step"] == state["step"] + 1


def test_another_image_size_can_go_on_from_a_model(data: Path, tmp_path: Path) -> None:
    Trainer(_config(data, tmp_path / "a", steps=1)).run()
    larger = DataConfig(data=str(data), image_size=96, images_per_batch=1, masks_per_image=1)
    config = TrainConfig(
        out=str(tmp_path / "b"),
        init=str(tmp_path / "a" / "model.safetensors"),
        steps=1,
        workers=0,
        data=larger,
    )
    Trainer(config).run()
    assert load_model(tmp_path / "b" / "model.safetensors").image_size == 96


def test_the_command_line_sets_every_value(data: Path, tmp_path: Path) -> None:
    words = ["train", "--data", str(data), "--out", str(tmp_path), "--image-size", "32"]
    words += ["--steps=1", "--workers=0", "--images-per-batch=1", "--set-weights", "bars=3"]
    words += ["--no-draws-prompts"]
    assert main(words) == 0
    model = load_model(tmp_path / "model.safetensors")
    assert model.image_size == 32
    assert not model.draws_prompts


def test_validation_reports(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["val", "--data", str(data), "--model", "embedded", "--out", str(tmp_path)]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert table.startswith("| set | masks | tight box |")
    assert "| overall | 9 |" in table
    assert {path.name for path in tmp_path.iterdir()} == {"val.json", "val.md", "val.png"}


def test_validation_without_data_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["val", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "--data" in capsys.readouterr().err


def test_other_settings_do_not_take_over_a_run(data: Path, tmp_path: Path) -> None:
    Trainer(_config(data, tmp_path, steps=1)).run()
    with pytest.raises(ValueError, match="other settings of learning_rate"):
        Trainer(_config(data, tmp_path, steps=2, learning_rate=1e-5))


def test_what_ships_names_its_data_and_licence(data: Path, tmp_path: Path) -> None:
    Trainer(_config(data, tmp_path, steps=1, licence="CC0")).run()
    metadata = read_metadata(tmp_path / "model.safetensors")
    assert (metadata["training_data"], metadata["licence"]) == ("bars, disks", "CC0")


def test_averaged_weights_carry_batch_norm_statistics(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(_config(data, tmp_path, steps=2, encoder="tiny_vit"))
    trainer.run()
    for kept, current in zip(trainer.ema.buffers(), trainer.model.buffers(), strict=True):
        torch.testing.assert_close(kept, current)
    statistics = dict(trainer.ema.named_buffers())
    name = next(key for key in statistics if key.endswith("running_mean"))
    assert statistics[name].abs().sum() > 0
    assert load_model(tmp_path / "model.safetensors").encoder_name == "tiny_vit"


@pytest.mark.parametrize("name", ["steps", "minutes", "warmup_steps", "log_steps"])
def test_settings_out_of_range_are_refused(data: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive; got 0"):
        _config(data, tmp_path, **{name: 0})


def test_masks_that_are_all_too_small_are_reported(data: Path) -> None:
    config = DataConfig(data=str(data), image_size=64, min_mask_share=0.99)
    with pytest.raises(ValueError, match="lower min_mask_share"):
        next(iter(TrainingBatches(config, seed=0)))


def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "mobilesam"]
    words += ["train", "--data", str(data), "--out", str(tmp_path), "--image-size", "64"]
    words += ["--images-per-batch=1", "--masks-per-image=2", "--workers=0", "--steps=3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=180
    )
    assert run.returncode == 0, run.stderr
    assert load_state(tmp_path / "state.pt")["step"] == 3

"""The command line of training."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from mobilesam import load_model
from mobilesam.training import commands
from mobilesam.training.config import (
    CoupledConfig,
    DistillConfig,
    FinetuneConfig,
    RunConfig,
    TeacherConfig,
)
from mobilesam.training.data_config import DataConfig
from mobilesam.training.evaluate import METRICS
from tests.conftest import Run
from tests.shards import write_shards
from tests.training_runs import environment, words_of


def parsed(*words: str) -> RunConfig:
    parser = argparse.ArgumentParser()
    commands.add_train_parser(parser.add_subparsers())
    return commands.config_from(parser.parse_args(["train", *words]))


@pytest.mark.parametrize("config", commands.STAGES, ids=lambda config: config.stage)
def test_every_value_has_an_option_and_a_word_of_help(config: type[RunConfig], run: Run) -> None:
    status, out, _ = run("train", config.stage, "--help")
    assert status == 0
    told = " ".join(out.split())
    for entry in (*dataclasses.fields(config), *dataclasses.fields(DataConfig)):
        if entry.name in ("data", "image_size"):
            continue
        option = f"--{entry.name.replace('_', '-')}"
        assert option in told
        assert commands._attributes(_told_in(config, entry.name))[entry.name]
    assert "--image-size" in told  # the stage's own; that of the data follows
    assert "not named have 1. (default: duts_tr=0.5 coco_sub=10 " in told
    assert "``" not in out


def _told_in(config: type, name: str) -> type:
    classes = (*config.__mro__, DataConfig)
    return next(part for part in classes if name in commands._attributes(part))


def test_the_stages_are_listed(run: Run) -> None:
    status, out, _ = run("train", "--help")
    assert status == 0
    for stage in ("teacher", "coupled", "distill", "finetune"):
        assert f"    {stage} " in out


def test_what_is_not_given_has_its_default() -> None:
    assert parsed("teacher") == TeacherConfig()
    assert parsed("finetune", "--init", "x") == FinetuneConfig(init="x")
    assert TeacherConfig().one_round_share == CoupledConfig(teacher="x").one_round_share == 0.2
    assert FinetuneConfig(init="x").one_round_share == 0  # it answers prompts already
    assert TeacherConfig().max_corrections == 5 - 1 and "click_5" in METRICS  # as many as val has
    assert TeacherConfig().steps == 20_000
    assert TeacherConfig(minutes=3).steps is None


def test_what_is_given_is_taken() -> None:
    config = parsed(
        *("distill", "--teacher", "sam_vit_h", "--no-cache", "--minutes", "7.5", "--compile"),
        *("--data", "there", "--set-weights", "a=2", "b=0.5", "--precision=fp32"),
    )
    assert isinstance(config, DistillConfig)
    assert (config.teacher, config.cache, config.minutes) == ("sam_vit_h", None, 7.5)
    assert (config.steps, config.compile, config.precision) == (None, True, "fp32")
    assert config.data == DataConfig(data="there", set_weights=(("a", 2.0), ("b", 0.5)))
    chosen = parsed("teacher", "--pads-to-square", "--no-draws-prompts", "--image-size=64")
    assert isinstance(chosen, TeacherConfig)
    assert (chosen.pads_to_square, chosen.draws_prompts, chosen.image_size) == (True, False, 64)


def test_the_command_trains(tmp_path: Path, run: Run) -> None:
    folder = write_shards(tmp_path / "data", "train")
    words = words_of("teacher", folder, tmp_path / "out", "--image-size=32", "--no-draws-prompts")
    status, out, _ = run(*words, "--set-weights", "bars=3", "--steps=1")
    assert (status, out) == (0, "")
    model = load_model(tmp_path / "out/model.safetensors")
    assert (model.image_size, model.draws_prompts) == (32, False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train"], "STAGE"),
        (["train", "teach"], "invalid choice: 'teach'"),
        (["train", "finetune"], "--init"),
        (["train", "distill"], "--teacher"),
        (["train", "teacher", "--set-weights", "bars"], "expected SET=WEIGHT"),
        (["train", "teacher", "--precision=fp8"], "invalid choice: 'fp8'"),
        (["train", "teacher", "--steps=-1"], "steps must be positive; got -1"),
        (["train", "teacher", "--device=tpu"], "device must be cpu or cuda; got 'tpu'"),
        (["train", "teacher", "--device=cuda:99"], "GPUs here; use cpu"),
        (["train", "teacher", "--data=nowhere", "--image-size=32"], "--data"),
        (["train", "finetune", "--init=none.pt"], "neither a model nor a checkpoint file"),
    ],
)
def test_mistakes_end_in_one_sentence(
    words: list[str], expected: str, refuses, tmp_path: Path
) -> None:
    write_shards(tmp_path, "train", photos=1)
    data = ["--data", str(tmp_path), "--val-photos=0"] if len(words) > 1 else []
    refuses(expected, *words[:2], *data, *words[2:])


def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path: Path) -> None:
    """In a process of its own, since training turns logging on."""
    data = write_shards(tmp_path / "data", "train")
    words = words_of("finetune", data, tmp_path / "out", "--init", str(tmp_path / "absent.pt"))
    command = [sys.executable, "-m", "mobilesam", *words]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("mobilesam: error: ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

"""The script that trains the models that ship, on small data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mobilesam import cli, load_model
from mobilesam.modeling import build_model
from mobilesam.training.checkpointing import save_model
from mobilesam.training.commands import config_from
from mobilesam.training.initialise import initialise_decoder
from scripts import train_embedded
from tests.shards import write_shards

pytestmark = pytest.mark.usefixtures("no_curves")

QUICK = ["--steps=2", "--warmup-steps=1", "--workers=0", "--log-steps=1", "--val-photos=0"]
QUICK += ["--masks-per-image=2", "--box-share=0.4"]


def test_teacher_and_student_are_trained_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shards(tmp_path / "data", "train")
    torch.manual_seed(0)
    model = build_model("deit_tiny", 64, pads_to_square=False, draws_prompts=True)
    initialise_decoder(model)
    save_model(model, tmp_path / "first.safetensors", {})
    out = tmp_path / "runs"
    words = ["--data", str(data), "--out", str(out), "--device", "cpu", "--image-size", "64"]
    words += ["--images-per-batch", "2", "--teacher", str(tmp_path / "first.safetensors")]
    words += ["--student", "untrained"]
    assert train_embedded.main([*words, *QUICK]) == 0
    made = {name: out / name / "model.safetensors" for name in ("teacher", "distill", "student")}
    assert load_model(made["teacher"]).encoder_name == "deit_tiny"
    assert load_model(made["student"]).encoder_name == "tiny_vit"
    assert load_model(made["student"]).image_size == 64
    metadata = load_model(made["student"]).metadata
    assert (metadata["stage"], metadata["teacher"]) == ("finetune", "teacher")
    stamps = {name: path.stat().st_mtime_ns for name, path in made.items()}
    assert train_embedded.main([*words, *QUICK]) == 0  # all are finished
    assert {name: path.stat().st_mtime_ns for name, path in made.items()} == stamps
    longer = [*words, *QUICK, "--steps=3", "--student", str(made["teacher"])]
    assert train_embedded.main(longer) != 0  # cannot begin otherwise within a run
    assert "other settings of init" in capsys.readouterr().err
    assert made["teacher"].stat().st_mtime_ns > stamps["teacher"]
    assert made["student"].stat().st_mtime_ns == stamps["student"]
    further = [*words, *QUICK, "--out", str(tmp_path / "further")]
    assert train_embedded.main([*further, "--student", str(made["student"])]) == 0
    assert not (tmp_path / "further" / "distill").exists()
    trained = load_model(tmp_path / "further" / "student" / "model.safetensors")
    assert (trained.encoder_name, trained.metadata["stage"]) == ("tiny_vit", "finetune")


def test_the_time_is_shared_out() -> None:
    options = train_embedded.parser().parse_args(["--data", "D", "--minutes", "10"])
    words = train_embedded.stages(options, [])
    minutes = [float(stage[stage.index("--minutes") + 1]) for stage in words.values()]
    assert dict(zip(words, minutes, strict=True)) == pytest.approx({"teacher": 3.4, "student": 6.6})
    options.student = "untrained"
    words = train_embedded.stages(options, [])
    minutes = [float(stage[stage.index("--minutes") + 1]) for stage in words.values()]
    assert minutes == pytest.approx([3.4, 3, 3.6])
    configs = [config_from(cli.parse(stage)) for stage in words.values()]
    assert all(config.checkpoint_minutes < config.minutes / 2 for config in configs)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--box-shares=1"], "--box-shares is no option that finetune or distill takes"),
        (["--init", "x"], "--init is no option"),
        (["3", "--steps=2"], "3 is no option"),
        (["--no-cache", "--box-share=2"], "box_share must lie in 0 to 1; got 2.0"),
        (["--steps=many"], "argument --steps: invalid int value"),
        (["--student=absent.pt"], "neither a model nor a checkpoint file"),
        (["--val-photos=9"], "expected val-*.tar"),
        (["--data=nowhere"], "nowhere is no folder"),
        (["--out", "/proc/nowhere"], "cannot be written ("),
    ],
)
def test_a_mistake_is_found_before_the_first_run(
    more: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(tmp_path, "train", photos=1)
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "runs"), "--device=cpu", *more]
    try:
        status = train_embedded.main(words)
    except SystemExit as left:  # argparse's way
        status = left.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert expected in said.err and said.err.count("\n") == 1


def test_options_go_to_the_runs_that_have_them() -> None:
    options = train_embedded.parser().parse_args(["--data", "D", "--student", "untrained"])
    more = ["--box-share", "0.2", "--set-weights", "a=1", "b=2", "--no-cache", "--steps=2"]
    words = train_embedded.stages(options, more)
    assert words["teacher"][-6:] == ["--box-share", "0.2", *more[2:5], "--steps=2"]
    assert words["student"][-6:] == words["teacher"][-6:]
    assert words["distill"][-5:] == [*more[2:5], "--no-cache", "--steps=2"]

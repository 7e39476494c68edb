"""Train the two models that ship: a teacher, and its TinyViT student.

    python -m scripts.train_embedded --data DIR --out runs/embedded --minutes 8.5 --device cuda

Both go on learning from masks, one after the other. A student that is untrained learns the
teacher's embeddings first (decoupled distillation); one that has learnt them would only be set back
by that, see its card. Given again, the command goes on where it was cut off. Other options of
``mobilesam train`` go to each run that has them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mobilesam import cli
from mobilesam.checkpoints import CheckpointError
from mobilesam.errors import sentence
from mobilesam.training.commands import config_from, option_names
from mobilesam.training.config import DistillConfig, FinetuneConfig
from mobilesam.training.places import check_places

UNTRAINED = "untrained"
SHARES = {"teacher": 0.34, "student": 0.66}  # of the time
SHARES_OF_UNTRAINED = {"teacher": 0.34, "distill": 0.3, "student": 0.36}
CHOSEN = ("--init",)  # what each stage begins with is for this script to say
ALL = ("--warmup-steps", "150", "--ema-decay", "0.997")  # for some 1,500 steps each
ALL += ("--checkpoint-minutes", "1")  # each run has few, and a borrowed GPU may go any time
ALL += ("--val-photos", "0")  # `val` measures as well where time is cheaper
LEARNS_MASKS = (*ALL, "--masks-per-image", "4")
LEARNS_MASKS += ("--max-corrections", "2")  # for time: a step is that much quicker than with 4
LEARNS_MASKS += ("--whole-photo-share", "0.45", "--copy-paste-share", "0.35")
LEARNS_MASKS += ("--set-weights", "duts_tr=0.4", "coco_sub=8", "coco_person=2.5", "ccp=3.5")
LEARNS_MASKS += ("car_parts=1.5", "bsds500=2", "human290=1.5", "animals=1.5")
FOR_TEACHER = (*LEARNS_MASKS, "--learning-rate", "3.5e-4", "--backbone-learning-rate", "1.5e-4")
FOR_STUDENT = (*LEARNS_MASKS, "--learning-rate", "6e-4", "--backbone-learning-rate", "6e-4")
FOR_STUDENT += ("--box-share", "0.35")  # it is a lone click that it lacks most in
LEARNS_EMBEDDINGS = (*ALL, "--no-cache", "--weight-decay", "0.02", "--learning-rate", "6e-4")
LEARNS_EMBEDDINGS += ("--backbone-learning-rate", "6e-4", "--set-weights", "duts_tr=0.6")
LEARNS_EMBEDDINGS += ("coco_sub=6", "coco_person=2", "ccp=2", "bsds500=2", "human290=1.5")


def stages(options: argparse.Namespace, more: Sequence[str]) -> dict[str, list[str]]:
    """Return the command line of each run, by the name of its folder.

    Args:
        options: What ``parser`` reads.
        more: Options for every run that has them; they come last and so overrule what is chosen
            here.

    Raises:
        ValueError: If none has one of them.
    """
    out, size = Path(options.out), str(options.image_size)
    teacher, distilled = (str(out / name / "model.safetensors") for name in ("teacher", "distill"))
    is_untrained = options.student == UNTRAINED
    begun = distilled if is_untrained else options.student
    words = {
        "teacher": ["finetune", "--init", options.teacher, "--image-size", size, *FOR_TEACHER],
        "distill": ["distill", "--teacher", teacher, *LEARNS_EMBEDDINGS],
        "student": ["finetune", "--init", begun, "--image-size", size, *FOR_STUDENT],
    }
    shares = SHARES_OF_UNTRAINED if is_untrained else SHARES
    return {
        name: [
            *("train", *words[name], "--data", options.data, "--out", str(out / name)),
            *("--device", options.device, "--minutes", f"{options.minutes * share:g}"),
            *("--images-per-batch", str(options.images_per_batch), *_of(words[name][0], more)),
        ]
        for name, share in shares.items()
    }


def _of(stage: str, more: Sequence[str]) -> list[str]:
    """Return those options, with their values, that a stage has."""
    masks, embeddings = option_names(FinetuneConfig), option_names(DistillConfig)
    own = embeddings if stage == "distill" else masks
    kept: list[str] = []
    keeps = False
    for at, word in enumerate(more):
        name = word.partition("=")[0]
        if word.startswith("--") or at == 0:
            if name not in masks | embeddings or name in CHOSEN:
                raise ValueError(
                    f"{name} is no option that finetune or distill takes here, with its name in "
                    "full; see --help, and `python -m mobilesam train finetune --help`."
                )
            keeps = name in own
        kept += [word] if keeps else []
    return kept


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    options = argparse.ArgumentParser(
        prog="python -m scripts.train_embedded",
        description=(__doc__ or "").replace("``", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument("--data", required=True, help="folder of photos and masks")
    options.add_argument("--out", default="runs/embedded", help="folder of the runs")
    options.add_argument("--minutes", type=float, default=8.5, help="training time in all")
    options.add_argument("--device", default="cuda", help="(default: cuda)")
    options.add_argument("--image-size", type=int, default=640, help="px (default: 640)")
    options.add_argument("--images-per-batch", type=int, default=64, help="(default: 64)")
    options.add_argument("--teacher", default="embedded", help="what the teacher begins with")
    options.add_argument(
        "--student",
        default="embedded_student",
        help=f"what the student begins with, or {UNTRAINED}",
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run them, one after the other; returns the exit status of the first that fails.

    What is wrong with the command line of any of them is said before the first begins.
    """
    options, more = parser().parse_known_args(argv)
    try:
        lines = stages(options, more)
        for words in lines.values():
            check_places(config_from(cli.parse(words)))
        from mobilesam.registry import locate  # brings PyTorch

        for model in {options.teacher, options.student} - {UNTRAINED}:
            locate(model)
    except (ValueError, OSError, CheckpointError) as error:
        print(f"train_embedded: error: {sentence(error)}", file=sys.stderr)
        return cli.USER_ERROR
    for name, words in lines.items():
        print(f"{name}: python -m mobilesam {' '.join(words)}", flush=True)
        if status := cli.main(words):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())

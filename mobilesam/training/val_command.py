"""The command line of validation: ``python -m mobilesam val``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobilesam.files import check_folder, make_folder
from mobilesam.training.data_config import DataConfig
from mobilesam.training.plan import Plan
from mobilesam.training.sources import check_source


def add_val_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``val``."""
    parser = subparsers.add_parser(
        "val",
        help="measure a model's masks against true ones, and against another model's",
        description="Mean IoU with boxes and clicks over all masks larger than 0.2 % of their "
        "picture, by set and by size, how far predicted IoU can be believed, and contact sheets; "
        "as tables, JSON and figures.",
    )
    parser.add_argument(
        "--data",
        default=DataConfig.data,
        help=f"folder of photos and masks (default: {DataConfig.data})",
    )
    parser.add_argument(
        "--split", default=Plan.split, help=f"which photos of the data (default: {Plan.split})"
    )
    parser.add_argument(
        "--model", default=Plan.model, help=f"name or checkpoint path (default: {Plan.model})"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/val"),
        help="folder for the report (default: runs/val)",
    )
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="also measure agreement with this model's masks, and how far both are from the truth",
    )
    parser.add_argument(
        "--prompts-per-distance",
        type=int,
        default=Plan.prompts_per_distance,
        help=f"two-point prompts for each photo (default: {Plan.prompts_per_distance})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=Plan.seed,
        help=f"of two-point prompts and contact sheet (default: {Plan.seed})",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=Plan.jobs,
        help="processes; they share PyTorch's threads, the result is the same (default: 1)",
    )
    parser.add_argument(
        "--device", default=Plan.device, help=f"cpu or cuda (default: {Plan.device})"
    )
    parser.set_defaults(run=_val)


def _val(options: argparse.Namespace) -> int:
    plan = Plan(
        data=options.data,
        split=options.split,
        model=options.model,
        against=options.against,
        seed=options.seed,
        prompts_per_distance=options.prompts_per_distance,
        device=options.device,
        limit=options.limit,
        jobs=options.jobs,
    )
    check_source(plan.data, plan.split)
    check_folder(options.out)
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from mobilesam.training.checkpointing import writing  # brings PyTorch
    from mobilesam.training.failures import FEWER, in_sentences
    from mobilesam.training.measure import Measurer, measure
    from mobilesam.training.report import as_markdown, write_report

    with in_sentences(FEWER):
        measurer = Measurer(plan)
        make_folder(options.out)  # before what takes long
        with tqdm(total=measurer.count, unit="photo") as bar, logging_redirect_tqdm():
            measured = measure(measurer, progress=lambda done, _: bar.update(done - bar.n))
    text = as_markdown(measured, plan, *measurer.names)
    print(text, end="", flush=True)  # first: the disk may be full
    with writing(options.out):
        write_report(measurer, measured, text, options.out)
    return 0

"""The command line of training and validation: ``python -m mobilesam train | val``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import types
import typing
from pathlib import Path
from typing import Any

from mobilesam.training.config import TrainConfig
from mobilesam.training.data import DataConfig
from mobilesam.training.trainer import Trainer


def add_train_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train`` with an option for each value of ``TrainConfig`` and ``DataConfig``."""
    parser = subparsers.add_parser(
        "train",
        help="train a model on photos with object masks; resumes a run that was cut off",
        description="Train a promptable segmentation model. A run that was cut off goes on where "
        "its last checkpoint in --out left it. Several processes: start it with torchrun.",
    )
    for config in (TrainConfig, DataConfig):
        _add_options(parser, config)
    parser.set_defaults(run=_train)


def add_val_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``val``."""
    parser = subparsers.add_parser(
        "val",
        help="measure a model's masks against true ones",
        description="Mean IoU with boxes and clicks over all masks larger than 0.2 % of their "
        "picture, per data set, as a table, JSON and a plot.",
    )
    parser.add_argument("--data", default=DataConfig.data, help="folder with SPLIT-*.tar")
    parser.add_argument("--split", default="val", help="which of them (default: val)")
    parser.add_argument("--model", default="embedded", help="name or checkpoint path")
    parser.add_argument("--out", type=Path, default=Path("runs/val"), help="folder for the report")
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    parser.set_defaults(run=_val)


def _add_options(parser: argparse.ArgumentParser, config: type) -> None:
    group = parser.add_argument_group(config.__name__)
    hints = typing.get_type_hints(config)
    for entry in dataclasses.fields(config):
        if dataclasses.is_dataclass(hints[entry.name]):
            continue
        option = f"--{entry.name.replace('_', '-')}"
        if entry.name == "set_weights":
            group.add_argument(
                option,
                type=_set_weight,
                nargs="+",
                metavar="SET=WEIGHT",
                help="(default: see DataConfig)",
            )
            continue
        if hints[entry.name] is bool:
            group.add_argument(
                option, action=argparse.BooleanOptionalAction, help=f"(default: {entry.default})"
            )
            continue
        group.add_argument(
            option,
            type=_plain_type(hints[entry.name]),
            help=f"(default: {entry.default})",
        )


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None))
    return hint


def _set_weight(text: str) -> tuple[str, float]:
    name, separator, weight = text.partition("=")
    try:
        if name and separator:
            return name, float(weight)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected SET=WEIGHT, as in coco_sub=8; got {text!r}")


def config_from(options: argparse.Namespace) -> TrainConfig:
    """Build the configuration from what was given on the command line; the rest are defaults."""
    given = {key: value for key, value in vars(options).items() if value is not None}
    names = {entry.name for entry in dataclasses.fields(DataConfig)}
    data = {key: given[key] for key in names & given.keys()}
    if "set_weights" in data:
        data["set_weights"] = tuple(data["set_weights"])
    names = {entry.name for entry in dataclasses.fields(TrainConfig)} - {"data"}
    rest = {key: given[key] for key in names & given.keys()}
    return TrainConfig(**rest, data=DataConfig(**data))


def _train(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    Trainer(config_from(options)).run()
    return 0


def _val(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from mobilesam.registry import load_model
    from mobilesam.training.evaluate import evaluate, write_report
    from mobilesam.training.shards import Shards

    shards = Shards(options.data, options.split)
    model = load_model(options.model)
    with tqdm(total=len(shards.samples[: options.limit]), unit="photo") as bar:
        rows = evaluate(
            model, shards, limit=options.limit, progress=lambda done, _: bar.update(done - bar.n)
        )
    title = f"{model.name} on {options.split}: mean IoU"
    print(write_report(rows, options.out, title))
    return 0

"""The command line of training: ``python -m mobilesam train STAGE``."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import logging
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mobilesam.training.config import (
    CoupledConfig,
    DistillConfig,
    FinetuneConfig,
    RunConfig,
    TeacherConfig,
)
from mobilesam.training.data_config import DataConfig
from mobilesam.training.places import check_places

if TYPE_CHECKING:
    from mobilesam.training.run import Run

STAGES: tuple[type[RunConfig], ...] = (TeacherConfig, CoupledConfig, DistillConfig, FinetuneConfig)
FROM_THE_MODEL = "image_size"  # of the data: the stage's, or that of the model it starts from


def add_train_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train`` and its stages, with an option for each value of their configurations."""
    parser = subparsers.add_parser(
        "train",
        help="train a model; resumes a run that was cut off",
        description="Train a promptable segmentation model. A run that was cut off goes on where "
        "its last checkpoint in --out left it. Several processes or machines: start it with "
        "torchrun -m mobilesam train.",
    )
    stages = parser.add_subparsers(metavar="STAGE", required=True)
    for config in STAGES:
        told = inspect.getdoc(config) or ""
        summary = told.splitlines()[0].rstrip(".") if told else ""
        stage = stages.add_parser(
            config.stage,
            help=_escaped(summary[:1].lower() + summary[1:]),
            description=_escaped(told.partition("Attributes:")[0].replace("``", "")),
        )
        for part in (*config.__mro__, DataConfig):
            if dataclasses.is_dataclass(part):
                _add_options(stage, part, config if part is not DataConfig else DataConfig)
        stage.set_defaults(run=_train, config=config)


def _add_options(parser: argparse.ArgumentParser, part: type, config: type) -> None:
    """Add options for those fields of ``config`` that the docstring of ``part`` describes."""
    group = parser.add_argument_group(f"{part.__name__.removesuffix('Config').lower()} options")
    hints = typing.get_type_hints(config)
    told = _attributes(part)
    for entry in dataclasses.fields(config):
        if entry.name not in told or (config is DataConfig and entry.name == FROM_THE_MODEL):
            continue
        option = f"--{entry.name.replace('_', '-')}"
        required = entry.default is dataclasses.MISSING
        shown = entry.default is not None and not required
        default: Any = entry.default
        if entry.name == "set_weights":
            default = " ".join(f"{name}={weight:g}" for name, weight in DataConfig.set_weights)
        words = told[entry.name] + (f" (default: {default})" if shown else "")
        common: dict[str, Any] = {"help": _escaped(words), "default": argparse.SUPPRESS}
        kinds = [kind for kind in _kinds(hints[entry.name]) if kind is not types.NoneType]
        if kinds == [bool]:
            group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
            continue
        if entry.name == "set_weights":
            group.add_argument(option, type=_set_weight, nargs="+", metavar="SET=WEIGHT", **common)
            continue
        if isinstance(kinds[0], str):  # one of several words
            group.add_argument(option, choices=kinds, **common)
            continue
        group.add_argument(option, type=kinds[0], required=required, **common)
        if types.NoneType in _kinds(hints[entry.name]) and entry.default is not None:
            group.add_argument(
                f"--no-{entry.name.replace('_', '-')}",
                dest=entry.name,
                action="store_const",
                const=None,
                default=argparse.SUPPRESS,
                help=f"go without --{entry.name.replace('_', '-')}",
            )


def option_names(config: type[RunConfig]) -> set[str]:
    """Return the options of a stage, ``--no-...`` among them."""
    entries = (*dataclasses.fields(config), *dataclasses.fields(DataConfig))
    names = {entry.name.replace("_", "-") for entry in entries}
    return {f"--{no}{name}" for name in names for no in ("", "no-")}


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, the values of a literal, or the one type that it is."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return (hint,)


def _attributes(config: type) -> dict[str, str]:
    """Return what a class's own docstring says of each attribute."""
    _, _, section = inspect.cleandoc(config.__doc__ or "").partition("Attributes:\n")
    told: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line[4:5] not in ("", " "):  # not a continuation
            name, _, line = line.strip().partition(": ")
        if name:
            told[name] = f"{told.get(name, '')} {line.strip()}".strip().replace("``", "")
    return told


def _escaped(text: str) -> str:
    return text.replace("%", "%%")  # argparse formats its texts


def _set_weight(text: str) -> tuple[str, float]:
    name, separator, weight = text.partition("=")
    try:
        if name and separator:
            return name, float(weight)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected SET=WEIGHT, as in coco_sub=8; got {text!r}")


def config_from(options: argparse.Namespace) -> RunConfig:
    """Build a stage's configuration from what was given on the command line."""
    given = vars(options)
    names = {entry.name for entry in dataclasses.fields(DataConfig)} - {FROM_THE_MODEL}
    data = {key: given[key] for key in names & given.keys()}
    if "set_weights" in data:
        data["set_weights"] = tuple(data["set_weights"])
    names = {entry.name for entry in dataclasses.fields(options.config)} - {"data"}
    rest = {key: given[key] for key in names & given.keys()}
    return options.config(**rest, data=DataConfig(**data))


def run_of(config: RunConfig) -> Run:
    """Return the run that a configuration describes; it has not begun yet.

    Raises:
        ValueError: If it cannot be had with these settings.
    """
    from mobilesam.training.distill import DistillRun
    from mobilesam.training.mask_training import CoupledRun, FinetuneRun, TeacherRun

    runs: dict[type[RunConfig], Callable[[Any], Run]] = {
        TeacherConfig: TeacherRun,
        CoupledConfig: CoupledRun,
        DistillConfig: DistillRun,
        FinetuneConfig: FinetuneRun,
    }
    return runs[type(config)](config)


def _train(options: argparse.Namespace) -> int:
    config = config_from(options)
    check_places(config)
    from mobilesam.training.failures import in_sentences  # brings PyTorch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with in_sentences():
        run_of(config).run()
    return 0

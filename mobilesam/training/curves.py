"""What a run leaves to read: log.csv and val.csv, their curves, and a report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from mobilesam.training.checkpointing import whole, writing

LOG = "log.csv"
VALIDATION = "val.csv"
CURVES = "curves.png"
REPORT = "report.md"
LOSSES = ("loss", "mse")  # how a loss's column ends
SHARES = ("iou", "cosine")  # how a column begins that lies in 0 to 1
NOT_METRICS = ("step", "minutes", "masks", "box_itself")  # columns of val.csv


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file, which begins with the row's names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with writing(path), path.open("a", newline="") as file:
        _write(file, [row], head=new)


def _write(file: TextIO, rows: Sequence[Mapping[str, float]], *, head: bool) -> None:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    if head:
        writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)


def in_words(row: Mapping[str, float]) -> str:
    """Say a row in one line."""
    return "  ".join(f"{key} {value:.4g}" for key, value in row.items())


def read_rows(path: Path) -> list[dict[str, float]]:
    """Read a CSV file of numbers; none if there is no such file.

    A last row without an end, as a full disk leaves it, does not count.

    Raises:
        ValueError: If it holds anything else.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            lines = [line for line in file if line.endswith("\n")]
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]
        if any(row.keys() != rows[0].keys() or "step" not in row for row in rows):
            raise ValueError("a row with other columns")
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{path} is not the table that the run has written; remove or rename it, then give "
            "the same command again: the run goes on with a new one."
        ) from error
    return rows


def drop_rows_after(path: Path, step: int) -> None:
    """Forget the rows beyond a step, from which a run goes on that was cut off.

    And one that is not whole, to which the next would be added.
    """
    kept = [row for row in read_rows(path) if row["step"] <= step]
    if not kept:
        path.unlink(missing_ok=True)
        return
    with whole(path) as part, part.open("w", newline="") as file:
        _write(file, kept, head=True)


def draw_curves(out: Path, title: str) -> None:
    """Draw what log.csv and val.csv in ``out`` say into curves.png."""
    from matplotlib.figure import Figure

    log, validation = read_rows(out / LOG), read_rows(out / VALIDATION)
    names = list(log[0]) if log else []
    losses = [name for name in names if name.endswith(LOSSES)]
    shares = [name for name in names if name.startswith(SHARES) and name not in losses]
    metrics = [name for name in (validation[0] if validation else {}) if name not in NOT_METRICS]
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    (top_left, top, top_right), (left, bottom, right) = figure.subplots(2, 3, sharex=True)
    _draw(top_left, log, losses)
    top_left.set(title="losses", yscale="log")
    _draw(top, log, shares)
    top.set(title="on training photos", ylim=(0, 1))
    _draw(top_right, validation, metrics, marker="o")
    top_right.set(title="on validation photos", ylim=(0, 1))
    _draw(left, log, ["learning_rate"])
    left.set(ylim=(0, None), xlabel="step")
    _draw(bottom, log, ["waiting_share"])
    bottom.set(ylim=(0, 1), xlabel="step")
    _draw(right, log, ["images_per_second"])
    right.set(ylim=(0, None), xlabel="step")
    figure.suptitle(title)
    with whole(out / CURVES) as part:
        figure.savefig(part, dpi=110, format="png")


def _draw(panel: Any, rows: list[dict[str, float]], names: list[str], **style: str) -> None:
    """Draw columns over the steps; few rows as points, too."""
    style = {"marker": "." if len(rows) < 30 else "", **style}
    for name in names if rows else ():
        values = [row[name] for row in rows]
        panel.plot([row["step"] for row in rows], values, label=name.replace("_", " "), **style)
    if panel.get_lines():
        panel.legend(fontsize=8)
    panel.grid(alpha=0.3)


def write_report(
    out: Path, title: str, facts: Mapping[str, str], settings: Mapping[str, str]
) -> None:
    """Write report.md: facts, first and last losses, validation, settings.

    Args:
        out: The run's folder, with log.csv and val.csv.
        title: The first line.
        facts: What was trained on what, how long, how far.
        settings: Every setting of the run.
    """
    log, validation = read_rows(out / LOG), read_rows(out / VALIDATION)
    lines = [f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    if log:
        lines += ["", "## Losses", "", "| | first logged | last logged |", "|---|--:|--:|"]
        lines += [f"| {name} | {log[0][name]:.5g} | {log[-1][name]:.5g} |" for name in log[0]]
    if validation:
        names = list(validation[-1])
        lines += ["", "## Validation", "", "| " + " | ".join(names) + " |"]
        lines += ["|" + "--:|" * len(names)]
        lines += [
            "| " + " | ".join(f"{row[name]:.4g}" for name in names) + " |" for row in validation
        ]
    lines += ["", f"![curves]({CURVES})", "", "## Settings", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in settings.items()]
    with whole(out / REPORT) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")

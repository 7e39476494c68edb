"""Validation's report: tables, JSON, figures and contact sheets in one folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilesam.training.agreement import (
    PUBLISHED,
    WITHIN,
    Agreement,
    summarise_points,
    summarise_truth,
)
from mobilesam.training.evaluate import (
    METRICS,
    PREDICTED,
    Row,
    by_size,
    calibration,
    summarise,
)
from mobilesam.training.measure import Measured, Measurer
from mobilesam.training.plan import Plan
from mobilesam.training.plots import (
    SHORT,
    plot_agreement,
    plot_calibration,
    plot_summary,
    size_name,
)
from mobilesam.training.sheets import random_rows, write_contact_sheet, write_worst

EMPTY = "–"  # a table's cell without a number
PROTOCOL = """\
Mean IoU with the true mask, over the masks larger than 0.2 % of their picture. Clicks start at the
mask's innermost pixel, each further one falls in the middle of the largest error, and the mask
before it goes in as a prompt. "Off by": mean absolute difference of predicted and true IoU."""
TWO_POINTS = """\
Mean IoU of the two models' masks for the same prompt: one foreground and one background point.
Distances are pixels of a photo whose longer side is 1024: the paper gives pixels and does not say
of what. The foreground point is drawn from the whole photo (seed {seed}), {count} for each photo
and distance; photos on which no such pair of points fits are left out. The paper's rows are
agreement with SAM ViT-H on its own photos."""


def write_report(measurer: Measurer, measured: Measured, text: str, out: Path) -> None:
    """Write ``val.md``, ``val.json``, all figures and sheets into ``out``.

    The figures are ``val.png``, ``calibration.png``, ``contact_sheet.png``, ``worst.png`` and, with
    another model, ``agreement.png``.

    Args:
        measurer: What was measured with.
        measured: What it found.
        text: Of ``val.md``: what ``as_markdown`` returns.
        out: The folder; made if missing.
    """
    rows, agreement = measured.rows, measured.agreement
    plan, names = measurer.plan, measurer.names
    title = f"{names[0]} on {plan.split}"
    out.mkdir(parents=True, exist_ok=True)
    (out / "val.md").write_text(text, encoding="utf-8")
    content = json.dumps(as_json(measured, plan, *names), indent=1)
    (out / "val.json").write_text(content, encoding="utf-8")
    plot_summary(out / "val.png", rows, title)
    plot_calibration(out / "calibration.png", rows, title)
    if agreement:
        plot_agreement(out / "agreement.png", rows, agreement, *names)
    drawn = random_rows(rows, plan.seed)
    which = f"{len(drawn)} photos of {plan.split}, drawn at random (seed {plan.seed})"
    sheet = (measurer.predictor, measurer.source)
    write_contact_sheet(out / "contact_sheet.png", drawn, *sheet, f"{names[0]}: {which}")
    worst = f"the worst of {len(rows)} masks, one of a photo"
    write_worst(out / "worst.png", rows, *sheet, f"{title}: {worst}")


def as_json(measured: Measured, plan: Plan, model: str, against: str) -> dict[str, Any]:
    """Return the report as JSON takes it; every mask and prompt included."""
    rows, agreement = measured.rows, measured.agreement
    content: dict[str, Any] = {
        "model": model,
        "split": plan.split,
        "photos": measured.photos,
        "unreadable": measured.unreadable,
        "seed": plan.seed,
        "summary": summarise(rows),
        "by_size": by_size(rows),
        "calibration": {p: dataclasses.asdict(calibration(rows, p)) for p in PREDICTED},
    }
    if agreement:
        content["agreement"] = {
            "against": against,
            "prompts_per_distance": plan.prompts_per_distance,
            "two_points": summarise_points(agreement.points),
            "published": PUBLISHED,
            "truth": summarise_truth(rows, agreement),
            "points": [vars(point) for point in agreement.points],
            "boxes": [vars(box) for box in agreement.boxes],
            "masks": [vars(row) for row in agreement.rows],
        }
    content["masks"] = [vars(row) for row in rows]
    return content


def as_markdown(measured: Measured, plan: Plan, model: str, against: str) -> str:
    """Return the report's text: what was measured and all tables."""
    rows, agreement = measured.rows, measured.agreement
    photos = f"Photos: {measured.photos}, masks: {len(rows)}."
    parts = [
        f"# {model} on {plan.split}",
        photos
        + (f" Left out: {measured.unreadable} that cannot be read." if measured.unreadable else ""),
        PROTOCOL,
        summary_table(summarise(rows)),
        "## By the mask's size",
        size_table(by_size(rows)),
        "## Predicted IoU",
        calibration_table(rows),
    ]
    if agreement:
        parts += [
            f"## Agreement with {against}",
            TWO_POINTS.format(seed=plan.seed, count=plan.prompts_per_distance),
            points_table(agreement, model, against),
            f"Both against the truth, and the mean IoU of their masks for tight boxes; each cell "
            f"{model} / {against} / difference.",
            truth_table(rows, agreement),
            verdict(rows, agreement, model, against),
        ]
    parts += [
        "Figures: `val.png`, `calibration.png`, `contact_sheet.png` "
        f"({len(random_rows(rows, plan.seed))} photos drawn at random), `worst.png`"
        + (", `agreement.png`." if agreement else "."),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table whose first column is text and whose others are numbers."""
    rule = "|---|" + "--:|" * (len(head) - 1)
    return "\n".join([_line(head), rule, *(_line(line) for line in lines)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def summary_table(summary: dict[str, dict[str, float]]) -> str:
    """Return ``evaluate.summarise``'s result as a Markdown table."""
    errors = {
        "predicted_iou_error": "predicted IoU off by, 1 click",
        "box_predicted_iou_error": "the same, box",
    }
    columns = METRICS | errors
    lines = [
        [name, str(int(values["masks"])), *(f"{values[column]:.3f}" for column in columns)]
        for name, values in summary.items()
    ]
    return table(["set", "masks", *columns.values()], lines)


def size_table(classes: Sequence[dict[str, float]]) -> str:
    """Return ``evaluate.by_size``'s result as a Markdown table."""
    columns = [metric for metric in METRICS if metric != "click_1_oracle"]
    lines = [
        [
            size_name(values["above"], values["up_to"]),
            str(int(values["masks"])),
            *(f"{values[c]:.3f}" if c in values else EMPTY for c in columns),
        ]
        for values in classes
    ]
    return table(["mask, of the picture", "masks", *(SHORT[c] for c in columns)], lines)


def calibration_table(rows: Sequence[Row]) -> str:
    """Return how far predicted IoU can be believed, as a Markdown table."""
    lines = []
    for prompt, name in PREDICTED.items():
        measured = calibration(rows, prompt)
        predicted = sum(row.predicted_iou[prompt] for row in rows) / len(rows)
        true = sum(row.iou[prompt] for row in rows) / len(rows)
        numbers = (
            predicted,
            true,
            measured.mean_absolute_error,
            measured.expected_calibration_error,
        )
        lines.append([name, *(f"{number:.3f}" for number in numbers)])
    head = ["prompt", "mean predicted", "mean true", "off by", "expected calibration error"]
    return table(head, lines)


def points_table(agreement: Agreement, model: str, against: str) -> str:
    """Return agreement with two-point prompts, the paper's beside it, as a Markdown table."""
    summary = summarise_points(agreement.points)
    means = [values["mean_iou"] for values in summary]
    lines = [[f"{model} with {against}", *(EMPTY if m is None else f"{m:.3f}" for m in means)]]
    for name, published in PUBLISHED.items():
        known = [published.get(int(values["distance"] or 0)) for values in summary]
        lines.append([name, *(EMPTY if value is None else f"{value:.2f}" for value in known)])
    for what, name in (("prompts", "prompts here"), ("photos_left_out", "photos left out here")):
        lines.append([name, *(str(values[what]) for values in summary)])
    head = [f"{values['distance']} px" for values in summary]
    return table(["distance of the points", *head], lines)


def truth_table(rows: Sequence[Row], agreement: Agreement) -> str:
    """Return both models' IoU with the truth and their agreement with boxes, as Markdown."""
    summary = summarise_truth(rows, agreement)
    metrics = [metric for metric in METRICS if metric in summary["overall"]]
    lines = []
    for name, values in summary.items():
        cells = (
            "{model:.3f} / {against:.3f} / {difference:+.3f}".format(**values[metric])
            for metric in metrics
        )
        lines.append([name, str(int(values["masks"])), f"{values['box_agreement']:.3f}", *cells])
    head = ["set", "masks", "agreement, tight box", *(SHORT[metric] for metric in metrics)]
    return table(head, lines)


def verdict(rows: Sequence[Row], agreement: Agreement, model: str, against: str) -> str:
    """Say whether a model comes within 0.03 of the other one, overall, with every prompt."""
    overall = summarise_truth(rows, agreement)["overall"]
    behind = {m: -overall[m]["difference"] for m in METRICS if m in overall}
    worst = max(behind, key=lambda metric: behind[metric])
    gap = behind[worst]
    if gap <= 0:
        return f"Overall, {model} is nowhere behind {against}."
    word = "within" if gap <= WITHIN else "**not** within"
    return (
        f"Overall, {model} is {word} {WITHIN} of {against}: furthest behind with "
        f"{SHORT[worst]}, by {gap:.3f}."
    )

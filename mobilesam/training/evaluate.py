"""Validation: mean IoU with boxes and clicks, as SAM's papers measure it (SAM, section 7.1)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mobilesam.masks import mask_iou, mask_to_box
from mobilesam.modeling import Sam
from mobilesam.predictor import ImageEmbedding, Predictor
from mobilesam.training.shards import IGNORE, Shards, masks_of

MIN_MASK_SHARE = 0.002  # of the picture: smaller masks are not counted
MAX_CLICKS = 5
METRICS = {
    "box": "tight box",
    "click_1": "1 click, highest predicted IoU of three",
    "click_1_oracle": "1 click, best of three",
    "click_3": "3 clicks",
    "click_5": "5 clicks",
    "box_itself": "the box itself",
}


@dataclass(frozen=True)
class Row:
    """What one mask measured.

    Attributes:
        key: The photo's key.
        set_name: Its data set.
        share: The mask's share of the picture.
        iou: Metric name to IoU, 0 to 1.
        predicted_iou: What the model thought of its one-click mask.
    """

    key: str
    set_name: str
    share: float
    iou: dict[str, float]
    predicted_iou: float


def evaluate(
    model: Sam,
    shards: Shards,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Measure ``model`` on every mask larger than 0.2 % of its picture.

    Args:
        model: Prepared for inference.
        shards: The split.
        limit: Take only the first so many photos.
        progress: Called with photos done and photos in all.
    """
    predictor = Predictor(model)
    samples = shards.samples[:limit]
    rows: list[Row] = []
    for number, sample in enumerate(samples):
        label_maps = shards.label_maps(sample)
        embedding = predictor.encode(shards.photo(sample))
        for index, label, area in masks_of(label_maps):
            labels = label_maps[index]
            share = area / labels.size
            if share > MIN_MASK_SHARE:
                iou, predicted = _measure(predictor, embedding, labels == label, labels != IGNORE)
                rows.append(Row(sample.key, sample.set_name, share, iou, predicted))
        if progress:
            progress(number + 1, len(samples))
    return rows


def _measure(
    predictor: Predictor, embedding: ImageEmbedding, truth: np.ndarray, valid: np.ndarray
) -> tuple[dict[str, float], float]:
    box = mask_to_box(truth)
    boxed = predictor.predict(embedding, box=box, multimask_output=False).mask(0)
    itself = np.zeros_like(truth)
    itself[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
    points, labels = [innermost(truth)], [1]
    first = predictor.predict(embedding, points, labels, multimask_output=True)
    three = [mask_iou(mask, truth, valid) for mask in first.masks]
    result = {
        "box": mask_iou(boxed, truth, valid),
        "click_1": three[first.best],
        "click_1_oracle": max(three),
        "box_itself": mask_iou(itself, truth, valid),
    }
    mask, logits = first.masks[first.best], first.low_res_logits[first.best]
    for clicks in range(2, MAX_CLICKS + 1):
        point, label = next_click(mask, truth, valid)
        points, labels = [*points, point], [*labels, label]
        step = predictor.predict(
            embedding, points, labels, mask_input=logits, multimask_output=False
        )
        mask, logits = step.mask(0), step.low_res_logits[0]
        if clicks in (3, 5):
            result[f"click_{clicks}"] = mask_iou(mask, truth, valid)
    return result, float(first.iou_predictions[first.best])


def innermost(region: np.ndarray) -> tuple[float, float]:
    """Return the x, y of a non-empty (H, W) region's pixel that lies farthest from its edge."""
    point, _ = _innermost_and_depth(region)
    return point


def _innermost_and_depth(region: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return the innermost pixel's x, y and its squared distance from the region's edge."""
    x0, y0, x1, y1 = (int(v) for v in mask_to_box(region))
    distance = squared_distance_inside(region[y0:y1, x0:x1])
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return (float(x0 + column), float(y0 + row)), float(distance[row, column])


def next_click(
    mask: np.ndarray, truth: np.ndarray, valid: np.ndarray
) -> tuple[tuple[float, float], int]:
    """Return the point in the middle of the largest error, and its label.

    A mask without an error gets its innermost pixel again.
    """
    best_depth, best = 0.0, None
    for region, label in ((truth & ~mask & valid, 1), (mask & ~truth & valid, 0)):
        if region.any():
            point, depth = _innermost_and_depth(region)
            if depth > best_depth:
                best_depth, best = depth, (point, label)
    return best or (innermost(truth), 1)


def squared_distance_inside(region: np.ndarray) -> np.ndarray:
    """Return each pixel's squared distance to the nearest pixel outside an (H, W) region, exact.

    Beyond the array everything counts as outside. First along columns, then along rows
    (Felzenszwalb and Huttenlocher, 2012, without their lower envelope: regions here are small).
    """
    padded = torch.from_numpy(np.pad(region, 1))
    height, width = padded.shape
    rows = torch.arange(height)[:, None].expand(height, width)
    outside = torch.where(padded, torch.tensor(-height * 2), rows)
    above = rows - outside.cummax(0).values
    below = (
        torch.where(padded, torch.tensor(height * 3), rows).flip(0).cummin(0).values.flip(0) - rows
    )
    squared = torch.minimum(above, below).float().square()  # (H, W): along the column
    offsets = torch.arange(width).float()
    offsets = (offsets[:, None] - offsets[None]).square()  # (W, W)
    out = torch.stack([(row[None] + offsets).amin(1) for row in squared])
    return out[1:-1, 1:-1].numpy()


def summarise(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Return set name (and ``overall``) to mean IoU of each metric, and the count of masks."""
    rows = list(rows)
    groups = {"overall": rows}
    for row in rows:
        groups.setdefault(row.set_name, []).append(row)
    summary = {}
    for name, members in groups.items():
        means = {metric: float(np.mean([row.iou[metric] for row in members])) for metric in METRICS}
        error = np.mean([abs(row.predicted_iou - row.iou["click_1"]) for row in members])
        summary[name] = {"masks": len(members), **means, "predicted_iou_error": float(error)}
    return summary


def as_table(summary: dict[str, dict[str, float]]) -> str:
    """Return the summary as a Markdown table."""
    columns = [*METRICS, "predicted_iou_error"]
    titles = [*METRICS.values(), "|predicted - true IoU|, 1 click"]
    lines = [
        "| set | masks | " + " | ".join(titles) + " |",
        "|---|--:" + "|--:" * len(columns) + "|",
    ]
    for name, values in summary.items():
        cells = " | ".join(f"{values[column]:.3f}" for column in columns)
        lines.append(f"| {name} | {values['masks']} | {cells} |")
    return "\n".join(lines)


def write_report(rows: list[Row], out: Path, title: str) -> str:
    """Write ``val.json``, ``val.md`` and ``val.png`` into ``out``; returns the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    summary = summarise(rows)
    table = as_table(summary)
    (out / "val.json").write_text(
        json.dumps({"title": title, "summary": summary, "masks": [vars(r) for r in rows]}, indent=1)
    )
    (out / "val.md").write_text(f"{title}\n\n{table}\n")
    figure, (bars, scatter) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(2, 1))
    metrics = list(METRICS)
    for offset, metric in enumerate(metrics):
        heights = [values[metric] for values in summary.values()]
        at = np.arange(len(summary)) + offset * 0.13
        bars.bar(at, heights, width=0.13, label=METRICS[metric])
    bars.set_xticks(np.arange(len(summary)) + 0.33, list(summary))
    bars.set(ylabel="mean IoU", ylim=(0, 1), title=title)
    bars.legend(fontsize=7, ncols=3, loc="lower left")
    shares = [100 * row.share for row in rows]
    scatter.scatter(shares, [row.iou["box"] for row in rows], s=4, alpha=0.4)
    scatter.set(xscale="log", xlabel="mask, % of the picture", ylabel="IoU, tight box", ylim=(0, 1))
    figure.tight_layout()
    figure.savefig(out / "val.png", dpi=120)
    plt.close(figure)
    return table

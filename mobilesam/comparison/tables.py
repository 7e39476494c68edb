"""A comparison in numbers: as measured here, and as MobileSAM's authors published them."""

from __future__ import annotations

from mobilesam.comparison.comparing import Comparison, ModelRun

Row = tuple[str, str, str]

MEASURED = (
    "parameters",
    "file size",
    "load",
    "encode",
    "decode",
    "peak memory",
    "predicted IoU",
    "mask area",
    "IoU between the two",
)
PUBLISHED_HEAD: Row = ("published", "SAM (ViT-H)", "MobileSAM")
PUBLISHED: tuple[Row, ...] = (
    ("image encoder", "611 M, 452 ms", "5 M, 8 ms"),
    ("mask decoder", "3.876 M, 4 ms", "3.876 M, 4 ms"),
    ("whole", "615 M, 456 ms", "9.66 M, 12 ms"),
)
PUBLISHED_SOURCES = (
    "Parameters, and times on one GPU that is not named: MobileSAM's README"
    " (github.com/ChaoningZhang/MobileSAM) and its paper, arXiv:2306.14289, whose table 3 counts"
    " the encoders as 632 M and 5.78 M."
)


def measured_head(comparison: Comparison) -> Row:
    """Return the head of the measured table."""
    return ("measured here", *comparison.titles)


def measured_rows(comparison: Comparison) -> list[Row]:
    """Return the measured table: what, and each model's value; a common one stands in the first.

    Where a candidate was chosen, a row says of which model.
    """
    runs = comparison.first, comparison.second
    rows: list[Row] = list(zip(MEASURED, *map(_values, runs), strict=False))
    if any(run.is_chosen for run in runs):
        first, second = ("as chosen" if run.is_chosen else "its best" for run in runs)
        rows.append(("mask", first, second))
    return [*rows, (MEASURED[-1], f"{comparison.iou:.3f}", "")]


def measured_note(comparison: Comparison) -> str:
    """Say on what the measured numbers were measured."""
    plural = "s" if comparison.threads > 1 else ""
    return (
        f"In this run, on {comparison.machine}, {comparison.threads} thread{plural}, PyTorch; each"
        " model in a process of its own at low priority, so other work on the machine slows it."
        " Peak memory includes Python, PyTorch and the photo."
    )


def _values(run: ModelRun) -> tuple[str, ...]:
    """Return all of `MEASURED` but the last one."""
    share = 100 * float(run.mask.mean())
    return (
        f"{run.parameters / 1e6:,.2f} M",
        f"{run.file_bytes / 1e6:,.1f} MB",
        _milliseconds(run.load_ms),
        _milliseconds(run.encode_ms),
        _milliseconds(run.decode_ms),
        "unknown" if run.peak_bytes is None else f"{run.peak_bytes / 1e6:,.0f} MB",
        f"{run.predicted_iou:.3f}",
        f"{share:.2f} %",
    )


def _milliseconds(duration_ms: float) -> str:
    return f"{duration_ms:,.0f} ms" if duration_ms >= 10 else f"{duration_ms:.1f} ms"

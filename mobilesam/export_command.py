"""`python -m mobilesam export`: a model as two ONNX files, for other runtimes and for browsers."""

from __future__ import annotations

import argparse
import json
from typing import Any

NOTES = """
DIR gets NAME.encoder.onnx and NAME.decoder.onnx, with --quantize also NAME.encoder.int8.onnx and
NAME.decoder.int8.onnx. The encoder maps `pixels`, (1, 3, h, w) RGB from 0 to 255, resized so that
the longer side is the model's image size, to `image_embeddings`. The decoder has the inputs and
outputs of SAM's own export, so a program written for that one takes it.

Standard output gets one line of JSON: model, image_size, opset and files, each with path and
bytes.
"""


def add_export_parser(subparsers: Any) -> None:
    """Add the command ``export`` to an argument parser's sub-parsers."""
    parser = subparsers.add_parser(
        "export",
        help="write a model as ONNX",
        description="Write a model's image encoder and its mask decoder as ONNX.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="a model's name or a checkpoint; by default mobile_sam where its checkpoint is on this"
        " machine, else embedded",
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="the folder to write to; made if it is missing"
    )
    parser.add_argument(
        "--single-mask",
        action="store_true",
        help="let the decoder return one mask, chosen as SAM's export does, instead of all four",
    )
    parser.add_argument(
        "--quantize", action="store_true", help="also write both with weights of 8 bits"
    )
    parser.add_argument(
        "--opset", metavar="N", type=int, help="version of ONNX's operators, 18 (default) to 23"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export as the arguments say; returns the exit status.

    Raises:
        ValueError: An extra is missing, or an argument cannot be used.
        OSError: The files cannot be written.
        CheckpointError: The model cannot be had.
    """
    from mobilesam import onnx_export
    from mobilesam.folders.commands import model_name
    from mobilesam.registry import default_model_name, load_model

    if not args.out:
        raise ValueError("--out is empty; name the folder to write to.")
    options: dict[str, Any] = {} if args.opset is None else {"opset": args.opset}
    name = model_name(args.model) if args.model else default_model_name()
    onnx_export.check(args.out, **options)  # before the model is loaded: that takes a while
    model = load_model(name)
    files = onnx_export.export(
        model, args.out, single_mask=args.single_mask, quantize=args.quantize, **options
    )
    report = {
        "model": model.name,
        "image_size": model.image_size,
        "opset": args.opset or onnx_export.OPSET,
        "files": [{"path": str(path), "bytes": path.stat().st_size} for path in files],
    }
    print(json.dumps(report))
    return 0

"""Small models of real architecture, and what runs their exports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mobilesam.modeling import Sam, build_model, prepare_for_inference
from mobilesam.predictor import ImageEmbedding, Predictor
from mobilesam.transforms import input_size_for, resize, to_input_frame

pytest.importorskip("onnx", reason="the optional extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the optional extra onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="the optional extra onnx is not installed")


def small_mobile_sam() -> Sam:
    """MobileSAM with 3 of its 10 attention blocks and one of its decoder's two layers."""
    torch.manual_seed(0)
    model = build_model("tiny_vit", 128)
    for stage in model.image_encoder.backbone.stages[1:]:
        stage.blocks = stage.blocks[:1]
    transformer = model.mask_decoder.transformer
    transformer.layers = transformer.layers[:1]
    return prepare_for_inference(model)


def small_sam_vit() -> Sam:
    """SAM ViT-B with two of its twelve blocks, one that attends in windows and one globally."""
    torch.manual_seed(0)
    model = build_model("sam_vit_b", 128)
    model.image_encoder.backbone.blocks = model.image_encoder.backbone.blocks[1:3]
    return prepare_for_inference(model)


def open_session(model: Any) -> Any:
    """Open an ONNX file or model in ONNX Runtime, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = model.SerializeToString() if hasattr(model, "SerializeToString") else model
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def encoder_input(photo: np.ndarray, image_size: int) -> np.ndarray:
    """Resize a photo as the exported encoder wants it: (1, 3, h, w) float32."""
    small = resize(photo, input_size_for(photo.shape[:2], image_size))
    return small.transpose(2, 0, 1)[None].astype(np.float32)


def decoder_inputs(embedding: ImageEmbedding, **prompt: Any) -> dict[str, np.ndarray]:
    """Put a prompt in pixels of the photo as SAM's README says its export wants it."""
    coords = np.asarray(prompt.get("points", np.zeros((0, 2))), np.float64).reshape(-1, 2)
    labels = list(prompt.get("labels", []))
    if "box" in prompt:
        coords = np.concatenate([coords, np.reshape(prompt["box"], (2, 2))])
        labels += [2, 3]
    else:
        coords = np.concatenate([coords, np.zeros((1, 2))])
        labels += [-1]
    coords = to_input_frame(coords, embedding.original_size, embedding.input_size)
    features = embedding.features.numpy()
    rows, columns = features.shape[2:]
    mask = prompt.get("mask_input")
    has_mask = mask is not None
    return {
        "image_embeddings": features,
        "point_coords": coords[None].astype(np.float32),
        "point_labels": np.array([labels], np.float32),
        "mask_input": mask[None] if has_mask else np.zeros((1, 1, 4 * rows, 4 * columns), "f"),
        "has_mask_input": np.array([has_mask], np.float32),
        "orig_im_size": np.array(embedding.original_size, np.float32),
    }


def torch_outputs(
    predictor: Predictor, embedding: ImageEmbedding, **prompt: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what SAM's export has for a prompt, computed by PyTorch: all four masks."""
    single = predictor.predict(embedding, multimask_output=False, **prompt)
    multi = predictor.predict(embedding, multimask_output=True, **prompt)
    logits = np.stack([single.logits(0), *(multi.logits(index) for index in range(3))])
    iou = np.concatenate([single.iou_predictions, multi.iou_predictions])
    return logits, iou, np.concatenate([single.low_res_logits, multi.low_res_logits])


def random_prompts(height: int, width: int) -> list[dict[str, Any]]:
    """One, two and five points, a box, and a box with points, within a photo."""
    rng = np.random.default_rng(0)
    box = (0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height)
    clicks = [
        {"points": rng.random((count, 2)) * (width - 1, height - 1), "labels": [1, 0, 1, 0, 1]}
        for count in (1, 2, 5)
    ]
    for click in clicks:
        click["labels"] = click["labels"][: len(click["points"])]
    return [*clicks, {"box": box}, {"box": box, **clicks[1]}]


def check_decoder(session: Any, predictor: Predictor, embedding: ImageEmbedding) -> None:
    """Compare an exported decoder of four masks with PyTorch for all kinds of prompts."""
    prompts = random_prompts(*embedding.original_size)
    earlier = predictor.predict(embedding, **prompts[0]).low_res_logits[:1]
    for prompt in [*prompts, {**prompts[1], "mask_input": earlier}]:
        masks, iou, low_res = session.run(None, decoder_inputs(embedding, **prompt))
        logits, expected_iou, expected_low_res = torch_outputs(predictor, embedding, **prompt)
        assert logits.std() > 0.01
        assert masks.shape == (1, *logits.shape)
        assert np.abs(masks[0] - logits).max() <= 1e-3
        assert np.abs(low_res[0] - expected_low_res).max() <= 1e-3
        assert np.abs(iou[0] - expected_iou).max() <= 1e-3
        sure = np.abs(logits) > 1e-3
        assert ((masks[0] > 0) == (logits > 0))[sure].all()
        assert sure.mean() > 0.98

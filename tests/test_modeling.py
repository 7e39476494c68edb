"""The networks: sizes follow from the specification, preparation changes nothing."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from mobilesam.modeling import build_model, prepare_for_inference
from mobilesam.modeling.image_encoder import build_image_encoder
from mobilesam.modeling.mask_decoder import _spread
from mobilesam.modeling.prompt_encoder import DRAWN_LOGIT, PromptEncoder
from mobilesam.modeling.sam_attention import RelativeAttention
from mobilesam.modeling.timm_import import timm
from mobilesam.registry import MODELS


def _shake(model: torch.nn.Module) -> None:
    """Give every tensor values that matter: fresh BatchNorms and zero biases hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias", "attention_biases", "bn.weight")):
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))


@pytest.mark.parametrize("encoder", ["tiny_vit", "deit_tiny"])
def test_preparation_keeps_the_output(encoder: str) -> None:
    torch.manual_seed(0)
    model = build_model(encoder, 256)
    _shake(model)
    pixels = torch.rand(1, 3, 256, 176) * 255
    coords, labels = torch.tensor([[[90.0, 60.0], [0, 0]]]), torch.tensor([[1, -1]])
    with torch.inference_mode():
        plain = model.encode_image(pixels)
        plain_masks, plain_iou = model.decode_masks(plain, coords, labels)
        prepare_for_inference(model)
        prepared = model.encode_image(pixels)
        projections = model.project_image(prepared)
        masks, iou = model.decode_masks(prepared, coords, labels, projections=projections)
    assert plain.std() > 0.1
    torch.testing.assert_close(prepared, plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, plain_masks, atol=1e-4, rtol=0)
    torch.testing.assert_close(iou, plain_iou, atol=1e-4, rtol=0)
    assert not any("bn" in name for name, _ in model.image_encoder.named_modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("image_size", "cells"), [(1024, 64), (512, 32), (384, 24)])
def test_sizes_follow_from_the_image_size(image_size: int, cells: int) -> None:
    model = build_model("deit_tiny", image_size)
    features = torch.zeros(1, 256, cells, cells)
    coords, labels = torch.zeros(2, 1, 2), torch.ones(2, 1, dtype=torch.long)
    with torch.inference_mode():
        low_res, iou = model.decode_masks(features, coords, labels)
    assert model.prompt_encoder.embed_size == cells
    assert low_res.shape == (2, 4, 4 * cells, 4 * cells)
    assert iou.shape == (2, 4)


def test_an_unpadded_model_spends_nothing_on_padding() -> None:
    model = build_model("deit_tiny", 512, pads_to_square=False)
    assert model.encode_image(torch.zeros(1, 3, 300, 512)).shape == (1, 256, 19, 32)


def test_spreading_equals_the_transposed_convolution() -> None:
    layer = torch.nn.ConvTranspose2d(8, 5, kernel_size=2, stride=2)
    x = torch.randn(2, 8, 3, 4)
    spread = _spread(x.flatten(2).transpose(1, 2), layer)  # (B, h * w, 4, C)
    spread = spread.view(2, 3, 4, 2, 2, 5).permute(0, 5, 1, 3, 2, 4).reshape(2, 5, 6, 8)
    torch.testing.assert_close(spread, layer(x), atol=1e-5, rtol=0)


def test_written_out_attention_equals_the_fused_one() -> None:
    model = build_model("deit_tiny", 128)
    features = torch.randn(1, 256, 8, 8)
    coords, labels = torch.rand(3, 2, 2) * 128, torch.ones(3, 2, dtype=torch.long)
    fused, _ = model.decode_masks(features, coords, labels)  # with gradients: nothing is folded
    for module in model.mask_decoder.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    written_out, _ = model.decode_masks(features, coords, labels)
    torch.testing.assert_close(written_out, fused, atol=1e-5, rtol=0)


def relative_attention(side: int) -> tuple[torch.nn.Module, RelativeAttention]:
    """Return timm's attention with lively weights, and ours of the same weights."""
    original = timm.models.vision_transformer_sam.Attention(
        32, num_heads=2, use_rel_pos=True, input_size=(side, side)
    )
    for table in (original.rel_pos_h, original.rel_pos_w):
        torch.nn.init.normal_(table)
    return original, RelativeAttention(copy.deepcopy(original))


@pytest.mark.parametrize(
    ("way", "size"),
    [
        ("fused", (7, 7)),
        ("fused", (4, 6)),  # not the attention's own: positions are interpolated
        ("written out", (7, 7)),
        ("written out", (4, 6)),
        ("lengthened", (7, 7)),  # what a GPU does in half precision
    ],
)
def test_sams_attention_equals_timms(
    way: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    original, ours = relative_attention(7)
    assert list(ours.state_dict()) == list(original.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in original.named_parameters()]
    ours.fused_attn = way != "written out"
    if way == "lengthened":
        monkeypatch.setattr(ours, "_lengthens", lambda *_: True)
    x = torch.randn(3, *size, 32)
    results = []
    for attention in (original, ours):
        x.grad = None
        x.requires_grad_()
        out = attention(x)
        out.square().sum().backward()
        results.append([out, x.grad, attention.rel_pos_h.grad, attention.qkv.weight.grad])
    for got, expected in zip(results[1], results[0], strict=True):
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_sams_attention_can_be_lengthened_in_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    original, ours = relative_attention(14)
    x = torch.randn(2, 14, 14, 32)
    monkeypatch.setattr(ours, "_lengthens", lambda *_: True)
    with torch.no_grad():
        expected = original(x)
        with torch.autocast("cpu", torch.bfloat16):
            halves = original(x), ours(x)
    errors = [(half.float() - expected).norm() / expected.norm() for half in halves]
    assert errors[1] < 0.02 and errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("points", [1, 9, 10, 40])  # 14 tokens are folded, 15 are not
@pytest.mark.parametrize("with_mask", [False, True])
def test_folded_attention_equals_the_plain_one(points: int, with_mask: bool) -> None:
    torch.manual_seed(points)
    model = build_model("deit_tiny", 128)
    for name, parameter in model.mask_decoder.named_parameters():
        if name.endswith("_proj.bias"):  # zero otherwise, and their part would go unnoticed
            torch.nn.init.normal_(parameter, std=0.5)
    features = torch.randn(1, 256, 8, 6)
    coords, labels = torch.rand(3, points, 2) * 96, torch.ones(3, points, dtype=torch.long)
    mask = torch.randn(3, 1, 32, 24) if with_mask else None
    plain, plain_iou = model.decode_masks(features, coords, labels, mask)
    with torch.inference_mode():
        projections = model.project_image(features)
        folded, folded_iou = model.decode_masks(features, coords, labels, mask, projections)
    torch.testing.assert_close(folded, plain, atol=2e-5, rtol=0)
    torch.testing.assert_close(folded_iou, plain_iou, atol=2e-5, rtol=0)
    assert plain.abs().mean() > 1e-2


def test_padding_rows_do_not_depend_on_their_coordinates() -> None:
    encoder = PromptEncoder(16, 64)
    labels = torch.full((1, 1), -1)
    here, there = (encoder.sparse(torch.full((1, 1, 2), v), labels) for v in (0.0, 50.0))
    torch.testing.assert_close(here, there)


def test_a_drawn_box_covers_its_own_area() -> None:
    encoder = PromptEncoder(16, 64)
    corners = torch.tensor([[[9.5, 5.5], [41.5, 30.5]]])  # + 0.5: from 10, 6 to 42, 31
    drawn = encoder.draw(corners, torch.tensor([[2, 3]]), (4, 3))
    assert drawn.shape == (1, 1, 16, 12)
    covered = (drawn / DRAWN_LOGIT + 1) / 2
    assert covered.sum() * 16 == pytest.approx((42 - 10) * (31 - 6), rel=1e-5)
    assert covered[0, 0, 4, 5] == 1
    assert covered[0, 0, 10, 5] == 0


def test_drawn_points_are_bright_or_dark_and_padding_is_neither() -> None:
    encoder = PromptEncoder(16, 64)
    coords = torch.tensor([[[13.5, 29.5], [49.5, 5.5], [0.0, 0.0]]])
    (drawn,) = encoder.draw(coords, torch.tensor([[1, 0, -1]]), (4, 4))[0]
    assert drawn.argmax() == 7 * 16 + 3
    assert drawn.argmin() == 1 * 16 + 12
    assert drawn[0, 0].abs() < 1e-3
    assert drawn.max() == pytest.approx(DRAWN_LOGIT, rel=0.06)


def test_a_model_that_draws_heeds_what_it_drew() -> None:
    torch.manual_seed(0)
    model = build_model("deit_tiny", 64, draws_prompts=True)
    features = torch.randn(1, 256, 4, 4)
    coords, labels = torch.tensor([[[20.0, 20.0], [0, 0]]]), torch.tensor([[1, -1]])
    earlier = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        alone, _ = model.decode_masks(features, coords, labels)
        blank, _ = model.decode_masks(features, coords, labels, torch.zeros(1, 1, 16, 16))
        refined, _ = model.decode_masks(features, coords, labels, earlier)
        model.draws_prompts = False
        undrawn, _ = model.decode_masks(features, coords, labels)
    torch.testing.assert_close(blank, alone)
    assert not torch.allclose(refined, alone)
    assert not torch.allclose(undrawn, alone)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_counted_right(name: str) -> None:
    spec = MODELS[name]
    with torch.device("meta"):  # shapes alone
        model = build_model(spec.encoder, spec.image_size)
    assert sum(p.numel() for p in model.parameters()) == spec.parameters


@pytest.mark.parametrize(("name", "size"), [("resnet", 512), ("deit_tiny", 100), ("deit_tiny", 0)])
def test_unknown_encoders_and_sizes_are_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"got|expected one of"):
        build_image_encoder(name, size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_positions_are_exact_whatever_pytorchs_default_type(dtype: torch.dtype) -> None:
    encoder = PromptEncoder(16, 640, draws_prompts=True)
    prompt = torch.tensor([[[445.0, 290.0], [630.0, 5.0]]]), torch.tensor([[1, 0]])

    def positions() -> tuple[torch.Tensor, torch.Tensor]:
        return encoder.dense_pe(27, 40), encoder.draw(*prompt, (27, 40))

    expected = positions()
    torch.set_default_dtype(dtype)
    try:
        given = positions()
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(given, expected, strict=True):
        assert torch.equal(one, other)


def test_importing_leaves_the_compiler_out_until_somebody_compiles() -> None:
    code = """
import sys, torch
disable = torch.compiler.disable
from mobilesam.modeling.timm_import import _without_compiler, timm
loaded = [name for name in sys.modules if name.startswith("torch._dynamo")]
assert loaded == [], loaded
assert torch.compiler.disable is disable
with _without_compiler():
    more = torch.compiler.disable(lambda x: x + 1)
    most = torch.compiler.disable(recursive=False)(lambda x: x + 2)
    layer = torch.compiler.disable(torch.nn.Identity())
assert more(1) == 2 and most(1) == 3 and isinstance(layer, torch.nn.Module)
assert torch.compile(lambda x: more(2 * x), backend="eager")(torch.ones(1)) == 3
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu") is True
assert timm.models.naflexvit.NaFlexRopeIterator.__next__.__name__ == "__next__"
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

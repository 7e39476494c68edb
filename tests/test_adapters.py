"""A mask decoder with other makers' parts in it: adapters, hooks, layers of 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from mobilesam import Predictor, SamAutomaticMaskGenerator, SamPredictor
from mobilesam.modeling import Sam
from mobilesam.modeling.transformer import Attention

PARTS = ("q_proj", "k_proj", "v_proj", "out_proj")


class Adapter(nn.Module):
    """A low-rank adapter as people write them, without weights of its own names."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 4, bias=False)
        self.up = nn.Linear(4, base.out_features, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.base(values) + self.up(self.down(values))


class PassingForLinear(Adapter):
    """One that shows its base's weights, as packages of adapters have it."""

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)


def adapted(model: Sam, make: Callable[[nn.Linear], nn.Module]) -> Sam:
    torch.manual_seed(0)
    own = copy.deepcopy(model)
    for attention in list(own.mask_decoder.modules()):
        if isinstance(attention, Attention):
            for name in PARTS:
                setattr(attention, name, make(getattr(attention, name)))
    return own


@pytest.mark.parametrize("make", [Adapter, PassingForLinear])
def test_adapters_count_in_inference_as_in_training(
    small_model: Sam, noise_photo: np.ndarray, make: Callable[[nn.Linear], nn.Module]
) -> None:
    own = adapted(small_model, make)
    predictor = Predictor(own)
    embedding = predictor.encode(noise_photo)
    boxes = np.array([(10 + 8 * k, 10, 60 + 8 * k, 70) for k in range(8)])  # the way for many
    found = predictor.predict(embedding, boxes=boxes)
    coords = torch.tensor(boxes, dtype=torch.float32).reshape(8, 2, 2) * (128 / 160)
    with torch.enable_grad():  # as in training: every part is called
        low_res, iou = own.decode_masks(
            embedding.features.clone(), coords, torch.tensor([[2, 3]]).expand(8, -1)
        )
    np.testing.assert_allclose(found.low_res_logits, low_res[:, :1].detach(), atol=1e-4)
    np.testing.assert_allclose(found.iou_predictions, iou[:, :1].detach(), atol=1e-4)
    one = predictor.predict(embedding, box=boxes[0])
    np.testing.assert_allclose(one.low_res_logits, low_res[0, :1].detach(), atol=1e-4)
    without = Predictor(small_model)
    plain = without.predict(without.encode(noise_photo), box=boxes[0])
    assert np.abs(plain.low_res_logits - one.low_res_logits).max() > 1e-2
    options = {"points_per_side": 3, "pred_iou_thresh": 0, "stability_score_thresh": 0}
    assert SamAutomaticMaskGenerator(own, **options).generate(noise_photo)


def test_a_hook_hears_every_prompt(small_model: Sam, noise_photo: np.ndarray) -> None:
    own = copy.deepcopy(small_model)
    heard = []
    attention = own.mask_decoder.transformer.final_attn_token_to_image
    attention.k_proj.register_forward_hook(lambda *_: heard.append(1))
    predictor = SamPredictor(own)
    predictor.set_image(noise_photo)
    predictor.predict(np.array([[80, 40]]), np.array([1]))
    assert heard == [1]


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
def test_layers_of_8_bits_answer(small_model: Sam, noise_photo: np.ndarray) -> None:
    if not torch.backends.quantized.supported_engines:
        pytest.skip("this PyTorch has no engine for quantised layers")
    kind = torch.ao.quantization.quantize_dynamic
    own = kind(copy.deepcopy(small_model), {nn.Linear}, dtype=torch.qint8)
    predictor = SamPredictor(own)
    predictor.set_image(noise_photo)
    click = np.array([[80, 40]]), np.array([1])
    masks, scores, _ = predictor.predict(*click)
    assert masks.shape == (3, 90, 160)
    exact = SamPredictor(small_model)
    exact.set_image(noise_photo)
    np.testing.assert_allclose(scores, exact.predict(*click)[1], atol=0.05)

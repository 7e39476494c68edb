"""Optimiser, schedule and the means for the log, without a run."""

from __future__ import annotations

import math

import pytest
import torch

from mobilesam.modeling import build_model
from mobilesam.training.config import TeacherConfig
from mobilesam.training.meter import Meter, Skips
from mobilesam.training.optimiser import Average, build_optimizer, decayed_names, take_step
from mobilesam.training.schedule import Schedule, set_learning_rates


def test_averages_by_hand() -> None:
    average, model = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    torch.nn.init.constant_(average.weight, 0.0)
    model.running_mean.fill_(7.0)
    following = Average(average, model)
    following.update(step=0, decay=0.9)  # (1 + 0) / (10 + 0) is less
    assert average.weight.item() == pytest.approx(0.9)
    assert average.running_mean.item() == 7.0
    following.update(step=10_000, decay=0.9)
    assert average.weight.item() == pytest.approx(0.91)


NOT_DECAYED = {
    "deit_tiny": {"cls_token", "pos_embed"},
    "tiny_vit": {"attention_biases"},
    "sam_vit_b": {"pos_embed", "rel_pos_h", "rel_pos_w"},
}


@pytest.mark.parametrize("encoder", NOT_DECAYED)
def test_weights_decay_that_multiply_and_no_others(encoder: str) -> None:
    model = build_model(encoder, 64)
    parameters = dict(model.named_parameters())
    decayed = decayed_names(model)
    plain = {name for name in parameters.keys() - decayed if parameters[name].ndim > 1}
    embeddings = {name for name in plain if not name.startswith("image_encoder.")}
    prompts = [f"prompt_encoder.point_embeddings.{number}.weight" for number in range(4)]
    prompts += [f"prompt_encoder.{name}_embed.weight" for name in ("not_a_point", "no_mask")]
    tokens = ["mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight"]
    assert embeddings == {*prompts, *tokens}
    assert {name.rpartition(".")[2] for name in plain - embeddings} == NOT_DECAYED[encoder]
    assert decayed <= parameters.keys()
    assert all(parameters[name].ndim > 1 for name in decayed)
    for name in (
        "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight",
        "mask_decoder.transformer.final_attn_token_to_image.out_proj.weight",
        "mask_decoder.output_upscaling.0.weight",
        "prompt_encoder.mask_downscaling.0.weight",
        {
            "deit_tiny": "image_encoder.backbone.patch_embed.proj.weight",
            "tiny_vit": "image_encoder.backbone.patch_embed.conv1.conv.weight",
            "sam_vit_b": "image_encoder.backbone.patch_embed.proj.weight",
        }[encoder],
    ):
        assert name in decayed, name


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    config = TeacherConfig(learning_rate=0.1)
    optimizer = build_optimizer(model, config)
    for bad in (None, math.nan, math.inf, None):
        before = [parameter.clone() for parameter in model.parameters()]
        model(torch.ones(1, 3)).square().sum().backward()
        if bad is not None:
            model.weight.grad[1, 2] = bad
        skipped = take_step(optimizer, model.parameters(), 1.0)
        optimizer.zero_grad()
        assert skipped.item() == (bad is not None)
        for parameter, had in zip(model.parameters(), before, strict=True):
            assert parameter.isfinite().all()
            assert torch.equal(parameter, had) == (bad is not None)
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}


def test_learning_rates_by_hand() -> None:
    model = build_model("deit_tiny", 32, pads_to_square=False)
    config = TeacherConfig(weight_decay=0.25)
    optimizer = build_optimizer(model, config)
    counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in model.parameters())
    kinds = {(group["base_lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert kinds == {(5e-4, 0.25), (5e-4, 0.0), (1.5e-4, 0.25), (1.5e-4, 0.0)}
    assert set_learning_rates(optimizer, 0, 10, math.inf, 0.0) == pytest.approx(0.1)
    cosine = 0.01 + 0.99 * (1 + math.cos(0.05 * math.pi)) / 2
    assert set_learning_rates(optimizer, 5, 200, 120, 0.05) == pytest.approx(0.5 * cosine)
    assert set_learning_rates(optimizer, 50, 200, 100, 0.5) == pytest.approx(0.505)
    assert set_learning_rates(optimizer, 100, 10, 100, 1.0) == pytest.approx(0.01)
    assert set_learning_rates(optimizer, 100, 10, 200, 0.5) == pytest.approx(0.505)
    rates = {group["base_lr"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({5e-4: 2.525e-4, 1.5e-4: 7.575e-5})


def test_how_far_a_run_is_and_how_many_steps_it_will_have() -> None:
    assert Schedule(40, None).progress(10, 1e9) == 0.25
    assert Schedule(None, 2).progress(10, 30) == 0.25
    assert Schedule(20, 2).progress(10, 30) == 0.5
    assert Schedule(20, 2).progress(10, 300) == 1
    assert Schedule(40, None).expected_steps(10, 5) == 40
    schedule = Schedule(None, 1)
    assert schedule.expected_steps(0, 0.0) == math.inf
    assert schedule.expected_steps(10, 15.0) == math.inf  # no step is known
    for step, seconds in enumerate([6, 6, 0.5, 6, 0.6, 0.5, 0.5, 0.5]):  # three new shapes
        schedule.note(seconds)
        if step < 7:
            assert schedule.expected_steps(step + 1, 20.0) == math.inf
    assert schedule.expected_steps(8, 20.6) == pytest.approx(8 + 39.4 / 0.5)
    assert Schedule(30, 1).expected_steps(0, 0.0) == 30


@pytest.mark.parametrize("resumed", [math.inf, 20])
def test_new_shapes_do_not_shorten_the_warmup(resumed: float) -> None:
    """Each of them stands still for seconds in every process, as on a GPU."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    optimizer.param_groups[0]["base_lr"] = 1.0
    schedule, seconds, shares = Schedule(None, 5), 0.0, []
    for step in range(40):
        if step == resumed:
            quickest, schedule = schedule.quickest, Schedule(None, 5)
            schedule.quickest = quickest
        expected = schedule.expected_steps(step, seconds)
        progress = schedule.progress(step, seconds)
        shares.append(set_learning_rates(optimizer, step, 150, expected, progress))
        stands_still = step in (0, 1, 3, 9, 17) or resumed <= step < resumed + 3
        took = 4.5 if stands_still else 0.07
        seconds += took
        schedule.note(took)
    assert shares[:8] == pytest.approx([(step + 1) / 150 for step in range(8)], rel=0.05)
    for step in range(20, 40):
        assert shares[step] == pytest.approx((step + 1) / 150, rel=0.1)


def test_a_few_skipped_steps_are_borne_but_not_most() -> None:
    skips = Skips()
    assert [skips.add(1, 1), skips.add(1, 0)] == ["", ""]  # too few to judge
    assert skips.add(8, 4) == ""  # 5 of 10
    assert skips.add(9, 5) == ""
    assert skips.add(3, 3) == "Gradients were not finite in 8 of 12 steps"
    assert skips.total == 13


def test_means_leave_skipped_steps_out() -> None:
    meter = Meter(torch.device("cpu"), 1)
    for loss, waited, skipped in ((1.0, 0.5, False), (math.nan, 1.5, True), (4.0, 1.0, False)):
        logged = {"loss": torch.tensor(loss), "iou": torch.tensor(0.5)}
        meter.add(logged, {"waited": waited}, torch.tensor(skipped))
    assert meter.steps == 3
    assert meter.read() == {"loss": 2.5, "iou": 0.5, "waited": 1.0, "skipped": 1.0}
    meter.add({"loss": torch.tensor(7.0)}, {}, torch.tensor(False))
    assert meter.read() == {"loss": 7.0, "skipped": 0.0}

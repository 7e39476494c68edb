"""Learning from masks: prompts, corrections, losses, and the stages teacher, coupled, finetune."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilesam import load_model
from mobilesam.checkpoints import CheckpointError
from mobilesam.modeling import build_model
from mobilesam.training.batches import Batch
from mobilesam.training.checkpointing import load_state, save_model
from mobilesam.training.config import CoupledConfig, FinetuneConfig, TeacherConfig
from mobilesam.training.initialise import choose_padding, load_backbone, read_trainable
from mobilesam.training.losses import mask_losses, prompt_loss, true_iou
from mobilesam.training.mask_training import CoupledRun, FinetuneRun, MaskStep, TeacherRun
from mobilesam.training.prompts import (
    BOX_NUMBERS,
    CORRECTION_NUMBERS,
    POINT_NUMBERS,
    box_prompts,
    correction_clicks,
    point_prompts,
    prompt_numbers,
)
from tests.official_checkpoints import write_official_checkpoint
from tests.shards import write_shards
from tests.training_runs import small_config, small_data

pytestmark = pytest.mark.usefixtures("no_curves")

DECODER = ("prompt_encoder.", "mask_decoder.")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), "train")


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ours that pads to a square, 64 px."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("data") / "padded" / "model.safetensors"
    save_model(build_model("tiny_vit", 64), path, {"training_data": "bars, more", "teacher": "t"})
    return path


def numbers_for(masks: int, count: int) -> torch.Tensor:
    return prompt_numbers(0, 0, 0, 1, masks, count)


def test_numbers_belong_to_the_slot_not_to_the_process() -> None:
    together = prompt_numbers(7, 3, 0, 4, 2, 5)
    apart = torch.cat([prompt_numbers(7, 3, first, 2, 2, 5) for first in (0, 2)])
    assert together.shape == (8, 5)
    torch.testing.assert_close(apart, together, rtol=0, atol=0)
    assert together.unique().numel() == together.numel()
    assert ((together > 0) & (together < 1)).all()
    for other in ((8, 3), (7, 4)):
        assert not torch.equal(prompt_numbers(*other, 0, 4, 2, 5), together)


def test_prompts_lie_where_they_should() -> None:
    targets = torch.zeros(2, 16, 16)
    targets[0, 2:6, 8:12] = 1
    targets[1, 10, 3] = 0.3  # smaller than a cell
    coords, labels = point_prompts(targets, numbers_for(2, POINT_NUMBERS))
    assert labels.tolist() == [[1, -1], [1, -1]]
    assert ((coords[0, 0] >= torch.tensor([31.5, 7.5])) & (coords[0, 0] <= 47.5)).all()
    assert ((coords[1, 0] >= torch.tensor([11.5, 39.5])) & (coords[1, 0] <= 44)).all()
    boxes = torch.tensor([[32.0, 8.0, 48.0, 24.0]] * 50)
    corners, labels = box_prompts(boxes, numbers_for(50, BOX_NUMBERS))
    assert labels.tolist() == [[2, 3]] * 50
    exact = (corners.flatten(1) == boxes).all(1)
    assert 10 < exact.sum() < 40
    assert (corners[:, 0] < corners[:, 1]).all()


def test_jittered_boxes_have_the_stated_spread() -> None:
    boxes = torch.tensor([[100.0, 100.0, 150.0, 200.0]] * 4000)
    corners, _ = box_prompts(boxes, numbers_for(4000, BOX_NUMBERS), exact_share=0.0)
    shift = corners.flatten(1) - boxes
    assert shift.mean(0).abs().max() < 0.5
    torch.testing.assert_close(shift.std(0)[:2], torch.tensor([5.0, 10.0]), rtol=0.06, atol=0)


def test_clicks_cover_a_mask_evenly_unless_interior_ones_are_asked_for() -> None:
    targets = torch.zeros(4000, 8, 8)
    targets[:, 2:4, 1:7] = 1  # 12 cells
    numbers = numbers_for(4000, POINT_NUMBERS)
    coords, _ = point_prompts(targets, numbers, interior_share=0.0)
    cells = ((coords[:, 0] + 0.5) / 4).floor().long()
    counts = torch.bincount(cells[:, 1] * 8 + cells[:, 0], minlength=64).view(8, 8)
    assert counts[2:4, 1:7].sum() == 4000
    assert ((counts[2:4, 1:7] > 250) & (counts[2:4, 1:7] < 420)).all()  # 333 expected


def test_corrections_fall_on_mistakes() -> None:
    targets = torch.zeros(2, 16, 16)
    targets[:, :8] = 1
    logits = torch.full_like(targets, -5.0)
    logits[0, :4] = 5  # rows 4 to 7 are missing
    logits[1, :12] = 5  # rows 8 to 11 are too much
    numbers = numbers_for(2, CORRECTION_NUMBERS)
    coords, labels = correction_clicks(logits, targets, torch.ones_like(targets), numbers)
    assert labels.tolist() == [[1], [0]]
    assert 15.5 <= coords[0, 0, 1] <= 31.5
    assert 31.5 <= coords[1, 0, 1] <= 47.5


def depth_of(region: np.ndarray) -> np.ndarray:
    """How much of the squares round each cell an (h, w) region covers, square by square."""

    def share(grid: np.ndarray, side: int) -> np.ndarray:
        padded = np.pad(grid, side // 2)
        squares = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
        return squares.mean((2, 3))

    rows, columns = region.shape
    coarse = region.reshape(rows // 4, 4, columns // 4, 4).mean((1, 3))
    wide = [share(coarse, side).repeat(4, 0).repeat(4, 1) for side in (9, 17)]
    return np.mean([share(region, 9), *wide], 0)


def test_interior_clicks_are_deep_in_large_masks_and_in_small_ones() -> None:
    for side in (6, 20, 60, 100):
        mask = torch.zeros(120, 160)
        mask[10 : 10 + side, 20 : 20 + side] = 1
        numbers = numbers_for(500, POINT_NUMBERS)
        targets = mask.expand(500, -1, -1)
        far = []
        for share in (0.0, 1.0):
            coords, _ = point_prompts(targets, numbers, interior_share=share)
            within = (coords[:, 0] + 0.5) / 4 - torch.tensor([20, 10])
            assert ((within > 0) & (within < side)).all()
            depths = torch.minimum(within, side - within).amin(1) / (side / 2)
            far.append(depths.mean().item())
        assert far[0] == pytest.approx(1 / 3, abs=0.04)
        assert far[1] > 0.53, side


def test_half_of_the_corrections_fall_deep_in_a_mistake() -> None:
    targets = torch.zeros(2000, 32, 32)
    targets[:, 4:25, 4:25] = 1
    logits, valid = torch.full_like(targets, -5.0), torch.ones_like(targets)
    numbers = numbers_for(2000, CORRECTION_NUMBERS)
    central = []
    for share in (0.0, 1.0, 0.5):
        coords, labels = correction_clicks(logits, targets, valid, numbers, share)
        cells = ((coords[:, 0] + 0.5) / 4).floor()
        assert ((cells >= 4) & (cells < 25)).all() and (labels == 1).all()
        central.append(((cells >= 8) & (cells < 21)).all(1).float().mean().item())
    weights = (targets[0].numpy() * depth_of(targets[0].numpy())) ** 2
    assert central[0] == pytest.approx(weights[8:21, 8:21].sum() / weights.sum(), abs=0.04)
    assert central[1] == pytest.approx(1, abs=0.01)  # of eight places one lies there at least
    assert central[2] == pytest.approx((central[0] + 1) / 2, abs=0.04)


def test_losses_by_hand() -> None:
    targets, valid = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    targets[:, :4] = 1
    right = torch.where(targets > 0, 20.0, -20.0)[:, None]
    half = right.clone()
    half[:, :, 2:4] = -20
    assert mask_losses(right, targets, valid) < 1e-4
    assert mask_losses(-right, targets, valid) > mask_losses(half, targets, valid) > 0.1
    assert true_iou(torch.cat([right, half, -right], 1), targets, valid).tolist() == [[1, 0.5, 0]]
    valid[:, 2:4] = 0  # the half that is wrong does not count
    assert true_iou(half, targets, valid).item() == 1
    assert mask_losses(half, targets, valid) < 1e-4


def test_only_the_best_of_three_is_pulled_hard() -> None:
    targets, valid = torch.ones(1, 4, 4), torch.ones(1, 4, 4)
    logits = torch.tensor([0.0, -1.0, 0.1, 0.0]).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    logits = logits.clone().requires_grad_()
    single_click = torch.tensor([True])
    inputs = (logits, torch.zeros(1, 4), targets, valid, single_click)
    loss, logged = prompt_loss(*inputs, iou_weight=4.0, other_masks_weight=0.15)
    loss.backward()
    pull = logits.grad.abs().sum((0, 2, 3))
    assert pull[2] > 3 * pull[3]
    assert logged["iou_best"] == 1
    doubled, _ = prompt_loss(*inputs, iou_weight=8.0, other_masks_weight=0.15)
    # true IoU of the four: 0, 0, 1, 0, all predicted as 0
    assert (doubled - loss).item() == pytest.approx(4 * 0.25)
    assert logged["iou_error"].item() == pytest.approx(0.25)


@pytest.mark.parametrize("picture", [(64, 64), (64, 32), (32, 64)])
def test_of_a_padded_square_only_the_picture_counts(picture: tuple[int, int]) -> None:
    """Equal to targets over the whole square whose padding is marked as not valid."""
    torch.manual_seed(0)
    model = build_model("tiny_vit", 64)
    height, width = picture
    rows, columns = height // 4, width // 4
    whole, valid = torch.zeros(2, 16, 16), torch.zeros(2, 16, 16)
    whole[:, 1:5, 2:6] = 1
    valid[:, :rows, :columns] = 1
    pixels = torch.randint(0, 255, (1, 3, height, width), dtype=torch.uint8)
    boxes = torch.tensor([[8.0, 4.0, 24.0, 20.0]] * 2)
    config = TeacherConfig(precision="fp32")
    numbers = numbers_for(2, 1 + BOX_NUMBERS + POINT_NUMBERS + CORRECTION_NUMBERS)
    step = MaskStep(model, config)
    cropped = Batch(pixels, whole[:, :rows, :columns], valid[:, :rows, :columns], boxes)
    loss, logged = step(cropped, numbers, ())
    expected, expected_logged = step(Batch(pixels, whole, valid, boxes), numbers, ())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logged["iou_best"], expected_logged["iou_best"])
    corrected, _ = step(cropped, numbers, (True,))  # the mask goes in whole
    assert corrected.isfinite()


def test_a_decoder_in_bf16_throughout_learns_the_same() -> None:
    torch.manual_seed(2)
    model = build_model("deit_tiny", 64, pads_to_square=False, draws_prompts=True)
    config = TeacherConfig(precision="bf16")
    pixels = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    targets = torch.zeros(4, 16, 16)
    targets[:, 2:9, 4:12] = 1
    batch = Batch(pixels, targets, torch.ones_like(targets), torch.tensor([[16.0, 8, 48, 36]] * 4))
    numbers = numbers_for(4, 1 + BOX_NUMBERS + POINT_NUMBERS + 2 * CORRECTION_NUMBERS)
    losses, gradients = [], []
    for casts in (False, True):
        model.zero_grad()
        loss, _ = MaskStep(model, config, casts_decoder=casts)(batch, numbers, (True, False))
        loss.backward()
        parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        losses.append(loss.item())
        gradients.append(torch.cat(parts))
        assert all(part.dtype == torch.float32 for part in parts)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


@pytest.mark.parametrize("casts", [False, True])
@pytest.mark.parametrize("encoder", ["deit_tiny", "tiny_vit", "sam_vit_b"])
def test_a_step_stays_on_its_device_and_reads_nothing_back(
    encoder: str, casts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU both would make it wait; on the meta device both are errors."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # has none
    square = encoder == "sam_vit_b"
    model = build_model(encoder, 64, pads_to_square=square, draws_prompts=True).to("meta")
    step = MaskStep(model.train(), TeacherConfig(), casts_decoder=casts)
    pixels = torch.zeros(1, 3, 64, 32, dtype=torch.uint8, device="meta")
    targets, boxes = torch.zeros(3, 16, 8, device="meta"), torch.zeros(3, 4, device="meta")
    count = 1 + BOX_NUMBERS + POINT_NUMBERS + 2 * CORRECTION_NUMBERS
    numbers = torch.zeros(3, count, device="meta")
    loss, logged = step(Batch(pixels, targets, targets, boxes), numbers, (True, False))
    loss.backward()
    assert {value.device.type for value in (loss, *logged.values())} == {"meta"}


def test_an_encoder_that_needs_a_square_gets_one() -> None:
    assert choose_padding("sam_vit_b", None)
    assert not choose_padding("tiny_vit", None)
    assert choose_padding("tiny_vit", True)
    with pytest.raises(ValueError, match="sam_vit_b takes whole squares only"):
        choose_padding("sam_vit_b", False)


def test_a_coupled_student_starts_with_its_teachers_decoder(
    data: Path, padded: Path, tmp_path: Path
) -> None:
    config = small_config(CoupledConfig, data, tmp_path, teacher=str(padded), steps=1)
    run = CoupledRun(config)
    teacher = load_model(padded)
    assert (run.model.image_size, run.model.pads_to_square) == (64, True)
    assert run.config.data.image_size == 64
    for name, tensor in teacher.mask_decoder.state_dict().items():
        torch.testing.assert_close(run.model.mask_decoder.state_dict()[name], tensor)
    run.run()
    after = run.model.mask_decoder.state_dict()
    assert any(not torch.equal(after[k], v) for k, v in teacher.mask_decoder.state_dict().items())
    metadata = load_model(tmp_path / "model.safetensors").metadata
    assert (metadata["stage"], metadata["teacher"]) == ("coupled", "padded")
    assert metadata["training_data"] == "bars, disks, more"
    assert load_model(tmp_path / "model.safetensors").encoder_name == "tiny_vit"


def test_a_coupled_student_can_start_from_nothing(data: Path, tmp_path: Path) -> None:
    CoupledRun(small_config(CoupledConfig, data, tmp_path, steps=1)).run()
    model = load_model(tmp_path / "model.safetensors")
    assert (model.encoder_name, model.image_size, model.draws_prompts) == ("tiny_vit", 64, True)


def test_a_teacher_settles_what_may_then_not_be_given() -> None:
    with pytest.raises(
        ValueError, match="teacher 'sam_vit_h' says what image_size must be; leave it out"
    ):
        CoupledConfig(teacher="sam_vit_h", image_size=512)


@pytest.mark.parametrize(
    ("freeze", "fixed"),
    [("image_encoder", ("image_encoder.",)), ("decoder", DECODER), ("nothing", ())],
)
def test_what_is_frozen_stays_as_it_was(
    data: Path, padded: Path, tmp_path: Path, freeze: str, fixed: tuple[str, ...]
) -> None:
    config = small_config(FinetuneConfig, data, tmp_path, init=str(padded), freeze=freeze, steps=2)
    run = FinetuneRun(config)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.run()
    after = run.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    moved = {name.split(".")[0] for name in changed}
    expected = {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert moved == {part for part in expected if not f"{part}.".startswith(fixed or "-")}
    metadata = load_model(tmp_path / "model.safetensors").metadata
    assert (metadata["stage"], metadata["teacher"], metadata["init"]) == ("finetune", "t", "padded")


def test_an_official_checkpoint_can_be_finetuned(data: Path, tmp_path: Path) -> None:
    official = write_official_checkpoint("t", tmp_path)
    config = small_config(
        FinetuneConfig, data, tmp_path / "out", init=str(official), image_size=64, steps=1
    )
    run = FinetuneRun(config)
    assert (run.model.encoder_name, run.model.pads_to_square) == ("tiny_vit", True)
    original = torch.load(official, weights_only=True)
    name = "mask_decoder.iou_token.weight"
    torch.testing.assert_close(run.model.state_dict()[name], original[name])
    run.run()
    model = load_model(tmp_path / "out/model.safetensors")
    assert (model.image_size, model.pads_to_square, model.draws_prompts) == (64, True, False)
    assert load_model(tmp_path / "out/model.safetensors").metadata["init"] == "mobile_sam"


def test_another_image_size_can_go_on_from_a_plain_vit(data: Path, tmp_path: Path) -> None:
    TeacherRun(small_config(TeacherConfig, data, tmp_path / "a", steps=1)).run()
    init = str(tmp_path / "a/model.safetensors")
    config = small_config(FinetuneConfig, data, tmp_path / "b", init=init, image_size=96, steps=1)
    FinetuneRun(config).run()
    assert load_model(tmp_path / "b/model.safetensors").image_size == 96


def test_there_must_be_something_to_finetune() -> None:
    with pytest.raises(TypeError, match="init"):
        FinetuneConfig()
    with pytest.raises(ValueError, match="neither a model nor a checkpoint file"):
        read_trainable("nothing.safetensors")


@pytest.mark.parametrize("encoder", ["tiny_vit", "deit_tiny"])
def test_a_backbone_is_a_classifiers(encoder: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from mobilesam.modeling.timm_import import timm

    names = {"tiny_vit": "tiny_vit_5m_224", "deit_tiny": "deit_tiny_patch16_224"}
    classifier = timm.create_model(names[encoder], num_classes=10)
    save_file(classifier.state_dict(), tmp_path / "classifier.safetensors")
    model = build_model(encoder, 64, pads_to_square=False)
    load_backbone(model, tmp_path / "classifier.safetensors")
    backbone, had = model.image_encoder.backbone.state_dict(), classifier.state_dict()
    common = [name for name in backbone if name in had and name != "pos_embed"]
    assert len(common) > 100
    for name in common:
        torch.testing.assert_close(backbone[name], had[name])
    other = build_model({"tiny_vit": "deit_tiny", "deit_tiny": "tiny_vit"}[encoder], 64)
    with pytest.raises(CheckpointError, match="does not fit the backbone of"):
        load_backbone(other, tmp_path / "classifier.safetensors")


def test_a_bf16_step_is_near_an_fp32_one(data: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        config = small_config(
            TeacherConfig, data, tmp_path / precision, steps=1, log_steps=1, precision=precision
        )
        TeacherRun(config).run()
        losses.append((tmp_path / precision / "log.csv").read_text().splitlines()[1].split(","))
    loss = [float(row[3]) for row in losses]
    assert loss[0] == pytest.approx(loss[1], rel=0.05)
    assert loss[0] != loss[1]


def test_sixty_four_prompts_for_each_photo(data: Path, tmp_path: Path) -> None:
    many = small_data(data, images_per_batch=1, masks_per_image=64)
    config = small_config(
        TeacherConfig, data, tmp_path, data=many, steps=1, image_size=32, max_corrections=0
    )
    TeacherRun(config).run()
    assert load_state(tmp_path / "state.pt")["step"] == 1

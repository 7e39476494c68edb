"""Everything mode: SAM's records, the fast search, options, progress, and what may go wrong."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from mobilesam import (
    EverythingCancelled,
    EverythingOptions,
    MaskRecord,
    Predictor,
    SamAutomaticMaskGenerator,
    everything_search,
    generate,
    rle,
)
from mobilesam.everything_search import CropSearch
from mobilesam.full_size import FullSize, Region
from mobilesam.masks import mask_iou
from mobilesam.modeling import build_model, prepare_for_inference
from mobilesam.modeling.many_prompts import PROMPTS_AT_A_TIME
from mobilesam.point_grids import point_grid
from tests.conftest import disk_photo
from tests.plain_everything import plain_everything

FREE = EverythingOptions(
    points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1.0
)  # of random weights: their masks all spread over the whole picture


@pytest.fixture(scope="module")
def varied_predictor() -> Predictor:
    """A small model whose random decoder answers every point with masks of its own."""
    torch.manual_seed(3)
    model = build_model("deit_tiny", 128, pads_to_square=False, draws_prompts=True)
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter += scale * torch.randn_like(parameter)
        model.mask_decoder.iou_prediction_head.layers[-1].bias += 0.5
    return Predictor(prepare_for_inference(model))


@pytest.fixture(scope="module")
def disks() -> np.ndarray:
    """A 90 x 160 photo of three disks."""
    photo, _ = disk_photo(90, 160, (45, 40), 25)
    for centre, radius in (((30, 110), 20), ((70, 130), 10)):
        other, mask = disk_photo(90, 160, centre, radius)
        photo[mask] = other[mask]
    return photo


def as_plain(records: list[MaskRecord]) -> list[tuple]:
    return [(*record.bbox, record.point_coords, record.crop_box) for record in records]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"points_per_batch": 3},
        {"pred_iou_thresh": 0.9, "stability_score_thresh": 0.5, "stability_score_offset": 0.1},
        {"points_per_side": 2, "crop_n_layers": 1, "crop_nms_thresh": 1.0},
        {
            "points_per_side": 4,
            "crop_n_layers": 2,
            "crop_n_points_downscale_factor": 2,
            "crop_overlap_ratio": 0.5,
            "crop_nms_thresh": 1.0,
        },
    ],
    ids=["free", "batches", "thresholds", "crops", "layers"],
)
def test_records_are_those_of_the_plain_way(
    varied_predictor: Predictor, disks: np.ndarray, changes: dict
) -> None:
    compare_with_the_plain_way(varied_predictor, disks, replace(FREE, **changes))


@pytest.mark.parametrize("changes", [{}, {"points_per_side": 2, "crop_n_layers": 1}], ids=str)
def test_records_of_trained_weights_are_those_of_the_plain_way(
    embedded: Predictor, disks: np.ndarray, changes: dict
) -> None:
    options = replace(FREE, points_per_side=4, box_nms_thresh=0.9)
    compare_with_the_plain_way(embedded, disks, replace(options, **changes))


def compare_with_the_plain_way(
    predictor: Predictor, photo: np.ndarray, options: EverythingOptions
) -> None:
    expected = plain_everything(predictor, photo, options)
    records = list(generate(predictor, photo, options))
    assert len(records) == len(expected) > 1
    for record, plain in zip(records, expected, strict=True):
        x0, y0, x1, y1 = plain.box
        assert record.bbox == (x0, y0, x1 - x0, y1 - y0)
        assert record.point_coords == pytest.approx(plain.point)
        x0, y0, x1, y1 = plain.crop
        assert record.crop_box == (x0, y0, x1 - x0, y1 - y0)
        assert record.predicted_iou == pytest.approx(plain.iou, abs=1e-5)
        assert record.stability_score == pytest.approx(plain.stability, abs=1e-3, nan_ok=True)
        assert np.count_nonzero(record.mask() != plain.mask) <= 2  # float rounding
        assert record.area == np.count_nonzero(record.mask())


def test_the_generators_attributes_are_sams(varied_predictor: Predictor, disks: np.ndarray) -> None:
    generator = SamAutomaticMaskGenerator(varied_predictor.model, points_per_side=4)
    assert generator.generate(disks) == []
    assert [len(grid) for grid in generator.point_grids] == [16]
    assert generator.crop_n_layers == 0
    generator.pred_iou_thresh = generator.stability_score_thresh = 0
    generator.box_nms_thresh = 1.0
    generator.point_grids = [point_grid(2)]
    records = generator.generate(disks)
    expected = list(generate(varied_predictor, disks, replace(FREE, points_per_side=2)))
    assert [record["bbox"] for record in records] == [list(one.bbox) for one in expected]
    assert records
    generator.output_mode = "coco_rle"
    assert isinstance(generator.generate(disks)[0]["segmentation"]["counts"], str)
    generator.output_mode = "png"
    with pytest.raises(ValueError, match="output_mode must be one of"):
        generator.generate(disks)
    generator.output_mode, generator.points_per_batch = "binary_mask", 0
    with pytest.raises(ValueError, match="points_per_batch must be at least 1; got 0"):
        generator.generate(disks)


def test_the_generators_predictor_answers_prompts(
    varied_predictor: Predictor, disks: np.ndarray
) -> None:
    predictor = SamAutomaticMaskGenerator(varied_predictor.model).predictor
    predictor.set_image(disks)
    masks, _, _ = predictor.predict(np.array([[40, 45]]), np.array([1]))
    expected = varied_predictor.predict(varied_predictor.encode(disks), [(40, 45)])
    assert np.array_equal(masks, expected.masks)


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_the_generator_gives_sams_records(
    varied_predictor: Predictor, disks: np.ndarray, mode: str
) -> None:
    generator = SamAutomaticMaskGenerator(
        varied_predictor.model,
        points_per_side=4,
        pred_iou_thresh=0,
        stability_score_thresh=0,
        box_nms_thresh=1.0,
        output_mode=mode,
    )
    records = generator.generate(disks)
    expected = list(generate(varied_predictor, disks, FREE))
    assert len(records) == len(expected) > 1
    for record, one in zip(records, expected, strict=True):
        assert list(record) == [
            "segmentation",
            "area",
            "bbox",
            "predicted_iou",
            "point_coords",
            "stability_score",
            "crop_box",
        ]
        mask = record["segmentation"]
        if mode == "coco_rle":
            packed = coco.encode(np.asfortranarray(one.mask().astype(np.uint8)))
            assert mask == {"size": [90, 160], "counts": packed["counts"].decode()}
        if mode != "binary_mask":
            assert mask["size"] == [90, 160]
            mask = rle.decode(mask)
        np.testing.assert_array_equal(mask, one.mask())
        assert record["area"] == one.area
        assert (record["bbox"], record["crop_box"]) == (list(one.bbox), [0, 0, 160, 90])
        assert record["point_coords"] == [list(one.point_coords)]
        assert {type(value) for value in record["bbox"]} == {int}
        assert type(record["predicted_iou"]) is type(record["stability_score"]) is float


def test_grids_of_ones_own(varied_predictor: Predictor, disks: np.ndarray) -> None:
    grids = [np.array([[0.25, 0.5]]), np.array([[0.5, 0.5], [0.1, 0.9]])]
    options = replace(FREE, points_per_side=None, point_grids=grids, crop_n_layers=1)
    options = replace(options, box_nms_thresh=1.0, crop_nms_thresh=1.0)
    records = list(generate(varied_predictor, disks, options))
    whole = {one.point_coords for one in records if one.crop_box == (0, 0, 160, 90)}
    assert whole == {(40.0, 45.0)}
    first_crop = {one.point_coords for one in records if one.crop_box == (0, 0, 95, 60)}
    assert first_crop <= {(47.5, 30.0), (9.5, 54.0)}


def test_specks_and_holes_are_removed(varied_predictor: Predictor, disks: np.ndarray) -> None:
    options = replace(FREE, points_per_side=2)
    found = list(generate(varied_predictor, disks, options))
    heard: list[MaskRecord] = []
    clean = replace(options, min_mask_region_area=60)
    cleaned = list(generate(varied_predictor, disks, clean, found=heard.append))
    assert 0 < len(cleaned) <= len(found)
    changed = 0
    for record in cleaned:
        mask = record.mask()
        (before,) = (
            one.mask()
            for one in found
            if (one.point_coords, one.predicted_iou) == (record.point_coords, record.predicted_iou)
        )
        changed += (mask != before).any()
        y, x = np.nonzero(mask)
        assert record.bbox == (x.min(), y.min(), np.ptp(x), np.ptp(y))
        assert record.area == np.count_nonzero(mask)
        islands, holes = component_sizes(mask), component_sizes(~mask)
        assert len(islands) == 1 or min(islands) >= 60  # the largest stays, however small
        assert not holes or min(holes) >= 60
    assert changed
    told = [(record.point_coords, record.rle) for record in heard]  # clean from the start
    assert all((record.point_coords, record.rle) in told for record in cleaned)


def component_sizes(mask: np.ndarray) -> list[int]:
    """Flood fill, 8 neighbours."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    sizes = []
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            stack += around
        sizes.append(size)
    return sizes


def test_masks_are_handed_out_as_they_are_found(
    varied_predictor: Predictor, disks: np.ndarray
) -> None:
    for fast in (False, True):
        options = replace(FREE, points_per_batch=4, fast=fast)
        heard: list[MaskRecord] = []
        states: list[tuple[int, int, int]] = []
        records = list(
            generate(
                varied_predictor,
                disks,
                options,
                progress=lambda done, total: states.append((done, total, len(heard))),  # noqa: B023
                found=heard.append,
            )
        )
        assert [total for _, total, _ in states] == [16] * len(states)
        done = [state[0] for state in states]
        assert done == sorted(done)
        assert done[-1] == 16
        assert 0 < states[0][2] < len(heard)  # some after the first batch, more later
        masks = [record.rle for record in heard]
        assert sum(record.rle in masks for record in records) >= 0.5 * len(records)
        assert as_plain(records) == as_plain(list(generate(varied_predictor, disks, options)))


def test_a_run_can_be_cancelled(varied_predictor: Predictor, disks: np.ndarray) -> None:
    done: list[int] = []
    for fast in (False, True):
        done.clear()
        run = generate(
            varied_predictor,
            disks,
            replace(FREE, points_per_batch=4, fast=fast),
            progress=lambda points, _: done.append(points),
            cancelled=lambda: len(done) == 2,
        )
        with pytest.raises(EverythingCancelled, match=r"after \d+ of 16 points"):
            next(run)
        assert len(done) == 2
        assert list(run) == []
    with pytest.raises(EverythingCancelled, match="after 0 of 16"):
        list(generate(varied_predictor, disks, FREE, cancelled=lambda: True))


def test_an_embedding_is_as_good_as_its_picture(
    varied_predictor: Predictor, small_predictor: Predictor, disks: np.ndarray
) -> None:
    embedding = varied_predictor.encode(disks)
    from_photo = list(generate(varied_predictor, Image.fromarray(disks), FREE))
    from_embedding = list(generate(varied_predictor, embedding, FREE))
    assert as_plain(from_photo) == as_plain(from_embedding)
    with pytest.raises(ValueError, match="same model"):
        generate(small_predictor, embedding, FREE)
    with pytest.raises(ValueError, match="crop_n_layers the picture itself is needed"):
        generate(varied_predictor, embedding, replace(FREE, crop_n_layers=1))


def test_the_embedded_model_finds_the_disk(embedded: Predictor) -> None:
    photo, truth = disk_photo(180, 240, (90, 110), 50)
    for fast in (False, True):
        options = EverythingOptions.for_model(embedded.model, points_per_side=6, fast=fast)
        records = list(generate(embedded, photo, options))
        assert max(mask_iou(record.mask(), truth) for record in records) > 0.8


def test_the_fast_search_finds_the_same_with_fewer_points(
    embedded: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    decode = CropSearch.decode
    monkeypatch.setattr(
        CropSearch, "decode", lambda self, p: asked.append(len(p)) or decode(self, p)
    )
    photo, _ = disk_photo(180, 240, (90, 110), 70)
    options = EverythingOptions.for_model(embedded.model, points_per_side=8)
    exact = list(generate(embedded, photo, options))
    assert sum(asked) == 64
    asked.clear()
    fast = list(generate(embedded, photo, replace(options, fast=True)))
    assert 0 < sum(asked) < 64
    for record in exact:
        assert max(mask_iou(record.mask(), other.mask()) for other in fast) > 0.8


def test_a_fast_search_without_skipping_scores_at_low_resolution(
    varied_predictor: Predictor, disks: np.ndarray
) -> None:
    sparse = replace(FREE, points_per_side=None, point_grids=[point_grid(2)], box_nms_thresh=0.9)
    by_place = [
        {(one.point_coords, round(one.predicted_iou, 4)): one for one in records}
        for records in (
            generate(varied_predictor, disks, sparse),
            generate(varied_predictor, disks, replace(sparse, fast=True)),
        )
    ]
    exact, fast = by_place
    common = exact.keys() & fast.keys()
    assert exact and len(common) >= 0.5 * len(exact)
    for key in common:
        assert mask_iou(exact[key].mask(), fast[key].mask()) > 0.98
        assert exact[key].stability_score == pytest.approx(fast[key].stability_score, abs=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
@pytest.mark.parametrize("fast", [False, True])
def test_tiny_pictures(varied_predictor: Predictor, size: tuple[int, int], fast: bool) -> None:
    options = replace(FREE, points_per_side=2, crop_n_layers=1, fast=fast, box_nms_thresh=0.9)
    heard: list[MaskRecord] = []
    photo = np.full((*size, 3), 90, np.uint8)
    records = list(generate(varied_predictor, photo, options, found=heard.append))
    for record in records:
        assert record.mask().shape == size
        assert record.area == np.count_nonzero(record.mask())
    if size == (1, 1):  # its box has no area, and yet there is but one
        assert len(records) == len(heard) == 1


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("threshold", ["pred_iou_thresh", "stability_score_thresh"])
def test_thresholds_that_nothing_reaches(
    varied_predictor: Predictor, fast: bool, threshold: str
) -> None:
    grey = np.full((60, 80, 3), 128, np.uint8)
    options = replace(FREE, **{threshold: 1e9}, fast=fast, min_mask_region_area=10)
    assert list(generate(varied_predictor, grey, options)) == []
    generator = SamAutomaticMaskGenerator(varied_predictor.model, **{threshold: 1e9})
    assert getattr(generator, threshold) == 1e9


def test_memory_does_not_grow_with_the_grid(
    varied_predictor: Predictor, disks: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mask at full size at a time, and the low-res masks of eight points."""
    regions: list[weakref.ref] = []
    low_res: list[weakref.ref] = []
    most = {"regions": 0, "low_res": 0}
    cut_out = FullSize.region

    def counted(self: FullSize, logits: torch.Tensor, *words: float) -> Region:
        most["regions"] = max(most["regions"], sum(ref() is not None for ref in regions))
        region = cut_out(self, logits, *words)
        regions.append(weakref.ref(region))
        return region

    class Counted(everything_search.Decoded):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            low_res.append(weakref.ref(self))
            most["low_res"] = max(most["low_res"], sum(ref() is not None for ref in low_res))

    monkeypatch.setattr(FullSize, "region", counted)
    monkeypatch.setattr(everything_search, "Decoded", Counted)
    assert len(list(generate(varied_predictor, disks, replace(FREE, points_per_side=8)))) > 100
    assert len(regions) == len(low_res) == 3 * 64
    assert most["regions"] <= 1  # the one before, while the next is made
    assert most["low_res"] <= 2 * 3 * PROMPTS_AT_A_TIME

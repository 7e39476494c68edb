"""The validation measure, against numbers worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shards import write_shards
from validation_stubs import Answer, Masks, Photos, Scripted, half, row

from mobilesam.modeling import Sam
from mobilesam.training.evaluate import (
    by_size,
    calibration,
    counted_masks,
    evaluate_photos,
    measure_photo,
    summarise,
)
from mobilesam.training.sources import open_source


def test_a_mask_is_prompted_as_the_protocol_says() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:30, 10:30] = True
    left, none = truth & half(40, 40, left=True), np.zeros_like(truth)

    def answer(prompt: dict[str, Any]) -> Answer:
        if prompt.get("box"):
            return [truth], [0.75]
        if prompt["multimask_output"]:
            return [none, left, truth], [0.1, 0.9, 0.5]  # it believes in the wrong one
        return [left if len(prompt["points"]) < 5 else truth], [0.3]

    predictor = Scripted(answer)
    source = Photos({"set-1": Masks([truth])}, (40, 40))
    sample = source.samples[0]
    ((measured, boxed),) = measure_photo(predictor, None, sample, source.objects(sample))
    assert (boxed == truth).all()
    assert measured.iou == {
        "box": 1.0,
        "click_1": 0.5,
        "click_1_oracle": 1.0,
        "click_3": 0.5,
        "click_5": 1.0,
        "box_itself": 1.0,
    }
    assert measured.predicted_iou == {"click_1": 0.9, "box": 0.75}
    assert (measured.key, measured.set_name, measured.share) == ("set-1", "set", 400 / 1600)

    box, *clicks = predictor.prompts
    assert box["box"] == (10, 10, 30, 30) and not box["multimask_output"]
    assert [len(click["points"]) for click in clicks] == [1, 2, 3, 4, 5]
    assert all(20 <= x < 30 for x, _ in clicks[-1]["points"][1:])  # the half that was missing
    assert clicks[-1]["labels"] == [1, 1, 1, 1, 1]
    fed_back = [click["mask_input"].item() for click in clicks[1:]]
    assert fed_back == [2, 3, 4, 5]  # each time the logits of the prompt before


def test_what_is_to_be_ignored_does_not_count() -> None:
    truth = half(20, 20, left=True)
    everything, valid = np.ones((20, 20), bool), np.ones((20, 20), bool)
    valid[:, 15:] = False  # of the right half, 5 columns remain
    predictor = Scripted(
        lambda prompt: ([everything] * (3 if prompt["multimask_output"] else 1), [0.5] * 3)
    )
    source = Photos({"set-1": Masks([truth], valid)}, (20, 20))
    sample = source.samples[0]
    ((measured, _),) = measure_photo(predictor, None, sample, source.objects(sample))
    assert measured.iou["box"] == 10 / 15
    assert measured.iou["click_5"] == 10 / 15


def test_masks_up_to_a_five_hundredth_of_the_picture_are_not_counted() -> None:
    masks = Masks([np.ones((1, area), bool) for area in (19, 20, 21, 5000)])
    assert counted_masks(masks, (100, 100)) == [2, 3]


def test_every_mask_of_a_split_is_measured_once(small_model: Sam, tmp_path: Path) -> None:
    source = open_source(write_shards(tmp_path, "val", photos=3), "val")
    rows = [*chain(*evaluate_photos(small_model, source, source.samples[:2]))]
    assert [(r.key, r.index) for r in rows] == [
        (f"{key}-{number:08x}", index)
        for number, key in enumerate(("disks", "bars"))
        for index in range(3)
    ]
    y, x = np.mgrid[-14:15, -14:15]
    disk = np.count_nonzero(x**2 + y**2 <= 14**2)
    assert rows[0].share == disk / (96 * 128)
    assert rows[0].iou["box_itself"] == disk / 29**2
    assert rows[1].iou["box_itself"] == 1  # the bar is its own box
    for measured in rows:
        assert measured.iou["click_1_oracle"] >= measured.iou["click_1"]
        assert all(0 <= iou <= 1 for iou in measured.iou.values())


def test_a_photo_that_cannot_be_read_is_left_out(small_model: Sam) -> None:
    mask = half(96, 128, left=True)
    photos = {"a-1": Masks([mask]), "a-2": None, "a-3": Masks([mask, ~mask]), "a-4": Masks([])}
    source = Photos(photos, (96, 128))
    rows = [*chain(*evaluate_photos(small_model, source, source.samples))]
    assert [(r.key, r.index) for r in rows] == [("a-1", 0), ("a-3", 0), ("a-3", 1)]


def test_threads_measure_the_same_in_the_same_order(small_model: Sam, tmp_path: Path) -> None:
    source = open_source(write_shards(tmp_path, "val", photos=5), "val")
    alone = list(evaluate_photos(small_model, source, source.samples))
    together = list(evaluate_photos(small_model, source, source.samples, threads=3))
    assert len(alone) == 5 and all(alone)
    for one, other in zip(chain(*alone), chain(*together), strict=True):
        assert (one.key, one.index) == (other.key, other.index)
        assert one.iou == pytest.approx(other.iou, abs=0.01)


def test_the_summary_counts_each_mask_once() -> None:
    rows = [
        row("a-1", box=0.5, predicted=0.7),
        row("b-1", box=1.0, click_1=1.0, predicted=0.9),
        row("b-2", box=0.0, click_1=0.0, predicted=0.1),
    ]
    summary = summarise(rows)
    assert list(summary) == ["overall", "a", "b"]
    assert summary["overall"]["box"] == 0.5
    assert summary["b"]["masks"] == 2
    assert summary["overall"]["predicted_iou_error"] == pytest.approx(0.4 / 3)
    assert summary["b"]["box_predicted_iou_error"] == pytest.approx(0.1)


def test_no_mask_at_all_is_said() -> None:
    with pytest.raises(ValueError, match="at least one mask measured; got no row"):
        summarise([])


def test_sizes_are_told_apart_by_their_share() -> None:
    shares = (0.0021, 0.005, 0.0051, 0.03, 0.2, 1.0)
    rows = [row(share=share, box=number / 10) for number, share in enumerate(shares)]
    classes = by_size(rows)
    assert [values["masks"] for values in classes] == [2, 1, 1, 0, 2]
    assert classes[0]["above"] == 0.002 and classes[-1]["up_to"] == 1
    assert classes[0]["box"] == pytest.approx(0.05)
    assert classes[-1]["box"] == pytest.approx(0.45)
    assert "box" not in classes[3]


def test_calibration_by_hand() -> None:
    pairs = ((0.85, 0.6), (0.81, 0.9), (0.35, 0.25), (1.04, 1.0))
    rows = [row(predicted=predicted, box=true) for predicted, true in pairs]
    measured = calibration(rows, "box")
    assert measured.mean_absolute_error == pytest.approx((0.25 + 0.09 + 0.1 + 0.04) / 4)
    # bins: two masks at mean 0.83 and 0.75, one at 0.35 and 0.25, one at 1.04 and 1
    assert measured.expected_calibration_error == pytest.approx((2 * 0.08 + 0.1 + 0.04) / 4)
    assert [item.masks for item in measured.bins] == [0, 0, 0, 1, 0, 0, 0, 0, 2, 1]
    assert measured.bins[8].predicted == pytest.approx(0.83)
    assert measured.bins[8].true == pytest.approx(0.75)
    assert measured.bins[0].true is None


def test_training_needs_no_plots_to_validate() -> None:
    heavy = "{'matplotlib', 'scipy', 'gradio', 'onnx'}"
    code = f"import sys, mobilesam.training.evaluate; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"

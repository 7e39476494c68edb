"""The TinyViT student that ships: real weights in MobileSAM's own architecture."""

from __future__ import annotations

import pytest

from mobilesam import Predictor, load_model
from mobilesam.masks import mask_iou
from tests.processes import ROOT


@pytest.fixture(scope="module")
def student() -> Predictor:
    return Predictor(load_model("embedded_student"))


@pytest.mark.parametrize(
    ("example", "boxes"),
    [
        ("coffee.jpg", [(75, 15, 482, 388), (325, 225, 408, 330)]),
        ("temple.jpg", [(70, 25, 360, 390)]),
        ("astronaut.jpg", [(135, 340, 208, 425)]),
    ],
)
def test_with_a_box_it_finds_what_its_teacher_finds(
    student: Predictor, embedded: Predictor, example: str, boxes: list[tuple[int, ...]]
) -> None:
    answers = []
    for predictor in (embedded, student):
        embedding = predictor.encode(ROOT / "examples" / example)
        answers.append(predictor.predict(embedding, boxes=boxes).masks[:, 0])
    for taught, learnt in zip(*answers, strict=True):
        assert mask_iou(taught, learnt) > 0.7


def test_it_has_its_teachers_ways(student: Predictor, embedded: Predictor) -> None:
    assert student.model.encoder_name == "tiny_vit"
    assert student.model.metadata["teacher"] == "embedded"
    for attribute in ("pads_to_square", "draws_prompts"):
        assert getattr(student.model, attribute) == getattr(embedded.model, attribute)

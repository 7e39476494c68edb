"""What the page may send, hostile messages included."""

from __future__ import annotations

import math

import pytest

from mobilesam.ui.messages import (
    DEFAULT_COLOR,
    MAX_POINTS,
    PromptError,
    parse_color,
    parse_file_name,
    parse_name,
    parse_opacity,
    parse_prompts,
)

SIZE = (300, 400)  # height, width


def test_points_and_box_arrive_as_arguments_for_the_predictor():
    message = {"points": [[10, 20, 1], [30.5, 40, 0]], "box": [0, 1, 400, 300]}
    assert parse_prompts(message, SIZE).as_arguments() == {
        "points": [(10.0, 20.0), (30.5, 40.0)],
        "labels": [1, 0],
        "box": (0.0, 1.0, 400.0, 300.0),
    }


def test_a_box_alone_has_no_points():
    arguments = parse_prompts({"points": [], "box": [1, 2, 3, 4]}, SIZE).as_arguments()
    assert arguments["points"] is None
    assert arguments["labels"] is None


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"points": [], "box": None},
        {"points": "1,2,1"},
        {"points": {"x": 1}},
        {"points": 7},
        {"points": [[1, 2]]},
        {"points": [[1, 2, 1, 1]]},
        {"points": [5]},
        {"points": [[1, 2, 2]]},
        {"points": [[1, 2, -1]]},
        {"points": [[1, 2, True]]},
        {"points": [[1, 2, None]]},
        {"points": [[1, 2, "1"]]},
        {"points": [[1, 2, [1]]]},
        {"points": [["1", 2, 1]]},
        {"points": [[None, 2, 1]]},
        {"points": [[True, 2, 1]]},
        {"points": [[math.nan, 2, 1]]},
        {"points": [[math.inf, 2, 1]]},
        {"points": [[1e308, 2, 1]]},
        {"points": [[10**400, 2, 1]]},
        {"points": [[-0.5, 2, 1]]},
        {"points": [[401, 2, 1]]},
        {"points": [[2, 301, 1]]},
        {"points": [[1, 2, 1]] * (MAX_POINTS + 1)},
        {"points": [[1, 2, 1]] * 100_000},
        {"box": [1, 2, 3]},
        {"box": "box"},
        {"box": {"x0": 1}},
        {"box": [3, 2, 1, 4]},
        {"box": [1, 4, 3, 2]},
        {"box": [1, 2, 1, 4]},
        {"box": [math.nan, 2, 3, 4]},
        {"box": [1, 2, 3, 1e308]},
        {"box": [-1, 2, 3, 4]},
        {"points": [[1, 2, 1]], "box": [1, 2, 500, 4]},
    ],
)
def test_hostile_messages_get_one_sentence(message):
    with pytest.raises(PromptError) as caught:
        parse_prompts(message, SIZE)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 200


def test_as_many_points_as_allowed_are_taken():
    prompts = parse_prompts({"points": [[1, 2, 1]] * MAX_POINTS}, SIZE)
    assert len(prompts.points) == MAX_POINTS


@pytest.mark.parametrize(
    ("raw", "rgb"),
    [("#ff8000", (255, 128, 0)), ("#FF8000", (255, 128, 0))]
    + [
        (raw, DEFAULT_COLOR)
        for raw in (None, 3, "red", "#ff80", "#ff8000;x", "#gg0000", ["#ff8000"])
    ],
)
def test_color(raw, rgb):
    assert parse_color(raw) == rgb


@pytest.mark.parametrize(
    ("raw", "opacity"),
    [(0.3, 0.3), (0, 0.0), (7, 1.0), (-1, 0.0), (math.nan, 0.5), ("x", 0.5), (None, 0.5)],
)
def test_opacity(raw, opacity):
    assert parse_opacity(raw) == opacity


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Left  cup", "Left cup"),
        ("a\0b\nc", "a b c"),
        ("</title><script>", "</title><script>"),
        ("x" * 400, "x" * 80),
        ("a\ud800", "a"),
        ("", "object"),
        (None, "object"),
        (3, "3"),
    ],
)
def test_names_of_objects(raw, name):
    assert parse_name(raw) == name


@pytest.mark.parametrize(
    ("raw_name", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\cat.png", "cat.png"),
        ("a\0b\nc.png", "abc.png"),
        ("a\ud800.p\ud800ng", "a.png"),
        ("", "photo"),
        (None, "None"),
        ("x" * 400 + ".jpeg", "x" * 150 + ".jpeg"),
        ("é" * 100 + ".png", "é" * 75 + ".png"),
        ("a." + "b" * 300, "a." + "b" * 148),
    ],
)
def test_file_names_can_be_written_to_any_disk(raw_name, name):
    assert parse_file_name(raw_name) == name

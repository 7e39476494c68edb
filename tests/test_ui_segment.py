"""Opening, encoding and clicking, without Gradio and without a browser."""

from __future__ import annotations

import base64
import io
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mobilesam.ui import saving, segment
from mobilesam.ui.sessions import Session
from mobilesam.ui.trouble import OUT_OF_MEMORY, TROUBLE
from tests.ui_stubs import ask, make_photo, make_studio, opened, save, upload


@pytest.fixture
def studio(tmp_path):
    return make_studio(tmp_path)


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path)


def test_a_photo_is_shown_before_it_is_encoded(studio, photo):
    session = Session()
    picture = segment.open_picture(studio, session, upload(photo, token=7))["picture"]
    assert (picture["width"], picture["height"], picture["token"]) == (80, 50, 7)
    assert picture["title"] == "photo.png"
    with Image.open(picture["file"]["path"]) as shown:
        assert shown.size == (80, 50)
    assert studio.models.predictor().encoded == []


def test_encoding_says_so_first_and_last(studio, photo):
    session = Session()
    segment.open_picture(studio, session, upload(photo))
    states = [step["progress"] for step in segment.encode_picture(studio, session, {"encoding": 3})]
    assert [state["state"] for state in states] == ["encoding", "ready"]
    assert {state["encoding"] for state in states} == {3}
    assert states[-1]["encode_ms"] == 5.0
    again = list(segment.encode_picture(studio, session, {}))
    assert [step["progress"]["state"] for step in again] == ["ready"]
    assert len(studio.models.predictor().encoded) == 1


def alpha_of(mask):
    data = base64.b64decode(mask["png"].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]


def test_a_click_is_answered_with_masks_for_the_browser(studio, photo):
    session, picture = opened(studio, photo)
    answer = segment.answer_prompts(studio, session, ask(picture, [[10, 20, 1]], rev=4))["answer"]
    assert (answer["status"], answer["rev"], answer["model"]) == ("ok", 4, "stub")
    (found,) = answer["objects"]
    assert (found["id"], found["status"], found["best"]) == (1, "ok", 1)
    assert [mask["area"] for mask in found["masks"]] == [2000, 2000, 4000]
    boxes = [[0, 0, 40, 50], [0, 0, 80, 25], [0, 0, 80, 50]]
    assert [mask["box"] for mask in found["masks"]] == boxes
    assert [mask["score"] for mask in found["masks"]] == pytest.approx([0.5, 0.9, 0.7])
    assert [mask["stability"] for mask in found["masks"]] == pytest.approx([0.8, 0.95, 0])
    alpha = alpha_of(found["masks"][0])
    assert (alpha[:, :40] == 255).all()
    assert (alpha[:, 40:] == 0).all()
    assert studio.models.predictor().asked[-1]["points"] == [(10.0, 20.0)]


def test_prompts_for_another_photo_are_not_answered(studio, photo):
    session, _ = opened(studio, photo)
    answer = segment.answer_prompts(studio, session, ask({"id": "old"}))
    assert answer["answer"]["status"] == "stale"
    assert studio.models.predictor().asked == []


@pytest.mark.parametrize("points", [[[1, 1, 5]], [[1e308, 1, 1]], [[1, 1, 1]] * 65, "x", []])
def test_hostile_prompts_get_a_sentence(studio, photo, points):
    session, picture = opened(studio, photo)
    message = ask(picture, object={"points": points})
    (answer,) = segment.answer_prompts(studio, session, message)["answer"]["objects"]
    assert answer["status"] == "refused"
    assert answer["text"].endswith(".")


@pytest.mark.parametrize(
    "hostile",
    [
        {"steps": [1, 2]},
        {"steps": [True]},
        {"steps": "1"},
        {"steps": [0, 1]},
        {"choices": [7]},
        {"choices": [0.5]},
        {"choices": [None] * 99},
        {"refine": 3},
        {"refine": {"area": -1}},
        {"refine": {"smooth": float("nan")}},
        {"refine": {"feather": 1e308}},
        {"refine": {"feather": "1"}},
    ],
)
def test_hostile_objects_get_a_sentence_and_the_others_their_masks(studio, photo, hostile):
    session, picture = opened(studio, photo)
    message = ask(picture, object=hostile)
    message["objects"].append({"id": 2, "points": [[2, 2, 1]]})
    message["wanted"] = [1, 2]
    bad, good = segment.answer_prompts(studio, session, message)["answer"]["objects"]
    assert (bad["id"], bad["status"]) == (1, "refused")
    assert bad["text"].endswith(".")
    assert (good["id"], good["status"]) == (2, "ok")


@pytest.mark.parametrize("objects", [None, 3, "x", [3], {"id": 1}, [{"id": 1}] * 51])
def test_hostile_lists_of_objects_get_a_sentence(studio, photo, objects):
    session, picture = opened(studio, photo)
    message = ask(picture) | {"objects": objects}
    answer = segment.answer_prompts(studio, session, message)["answer"]
    assert answer["status"] == "refused"
    assert answer["text"].endswith(".")


def test_only_the_objects_asked_about_are_decoded(studio, photo):
    session, picture = opened(studio, photo)
    message = ask(picture)
    message["objects"].append({"id": 2, "points": [[2, 2, 1]]})
    message["wanted"] = [2, 9, [1], 2]
    found = segment.answer_prompts(studio, session, message)["answer"]["objects"]
    assert [entry["id"] for entry in found] == [2]
    assert len(studio.models.predictor().asked) == 1


def test_one_request_is_answered_for_a_few_objects(studio, photo):
    session, picture = opened(studio, photo)
    message = ask(picture)
    message["objects"] = [{"id": index, "points": [[2, 2, 1]]} for index in range(50)]
    message["wanted"] = list(range(50))
    found = segment.answer_prompts(studio, session, message)["answer"]["objects"]
    assert [entry["id"] for entry in found] == list(range(segment.OBJECTS_AT_ONCE))


def test_a_further_click_starts_from_the_mask_before(studio, photo):
    session, picture = opened(studio, photo)
    segment.answer_prompts(studio, session, ask(picture, [[1, 1, 1]]))
    segment.answer_prompts(studio, session, ask(picture, [[1, 1, 1], [5, 5, 0]]))
    first, second = studio.models.predictor().asked  # one decode for each click
    assert first["mask_input"] is None
    assert second["mask_input"] is not None
    assert session.nbytes > 10  # what was kept for it counts


def test_a_feathered_mask_comes_with_a_soft_edge(studio, photo):
    session, picture = opened(studio, photo)
    message = ask(picture, object={"refine": {"feather": 2}})
    (found,) = segment.answer_prompts(studio, session, message)["answer"]["objects"]
    row = alpha_of(found["masks"][0])[25]
    assert (row[0], row[79]) == (255, 0)
    assert 0 < row[38] < 255


def test_an_examples_embedding_is_taken_where_it_is_ready(studio):
    embedding = studio.models.predictor().encode(np.zeros((40, 60, 3), np.uint8))
    ready = SimpleNamespace(embedding=lambda name, predictor: embedding)
    studio = replace(studio, ready=ready)
    session = Session()
    segment.open_picture(studio, session, {"example": "example.jpg", "token": 1})
    (step,) = segment.encode_picture(studio, session, {})
    assert step["progress"]["state"] == "ready"
    assert session.snapshot().embedding is embedding
    session.pixels = None
    assert session.nbytes == 0  # it is everybody's


def test_an_empty_session_asks_for_its_photo(studio):
    assert segment.answer_prompts(studio, Session(), {})["answer"]["status"] == "lost"
    assert (
        saving.save_result(studio, Session(), save({"id": "x"}, "mask"))["saved"]["status"]
        == "lost"
    )
    steps = list(segment.encode_picture(studio, Session(), {}))
    assert steps[-1]["progress"]["state"] == "lost"


def test_a_cleared_embedding_is_encoded_again_from_the_file(studio, photo):
    session, picture = opened(studio, photo)
    session.release()
    message = ask(picture)
    assert segment.answer_prompts(studio, session, message)["answer"]["status"] == "encode"
    *_, last = segment.encode_picture(studio, session, {})
    assert last["progress"]["state"] == "ready"
    assert segment.answer_prompts(studio, session, message)["answer"]["status"] == "ok"


def test_a_cleared_embedding_whose_file_is_gone_asks_for_the_photo(studio, photo):
    session, _ = opened(studio, photo)
    session.release()
    photo.unlink()
    *_, last = segment.encode_picture(studio, session, {})
    assert last["progress"]["state"] == "lost"


def test_another_model_needs_an_embedding_of_its_own(studio, photo):
    session, picture = opened(studio, photo)
    message = ask(picture, model="other")
    assert segment.answer_prompts(studio, session, message)["answer"]["status"] == "encode"
    list(segment.encode_picture(studio, session, {"model": "other"}))
    assert segment.answer_prompts(studio, session, message)["answer"]["status"] == "ok"


def test_errors_of_the_model_become_a_sentence(studio, photo):
    session, picture = opened(studio, photo)
    message = ask(picture)
    exploded = RuntimeError("CUDA exploded at /secret/path")
    for error, text in ((exploded, TROUBLE), (MemoryError(), OUT_OF_MEMORY)):
        studio.models.predictor().error = error
        (answer,) = segment.answer_prompts(studio, session, message)["answer"]["objects"]
        assert (answer["status"], answer["text"]) == ("failed", text)
    studio.models.predictor().error = None
    (answer,) = segment.answer_prompts(studio, session, message)["answer"]["objects"]
    assert answer["status"] == "ok"


def test_one_photo_is_read_at_a_time(studio, photo, monkeypatch):
    reading, most = [], []
    read_image = segment.read_image

    def slow_read(source):
        reading.append(source)
        most.append(len(reading))
        time.sleep(0.02)
        reading.pop()
        return read_image(source)

    monkeypatch.setattr(segment, "read_image", slow_read)
    threads = [
        threading.Thread(target=segment.open_picture, args=(studio, Session(), upload(photo)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_another_photo_opened_during_the_encoding_is_not_mixed_in(studio, photo):
    session = Session()
    first = segment.open_picture(studio, session, upload(photo))["picture"]
    steps = segment.encode_picture(studio, session, {})
    assert next(steps)["progress"]["state"] == "encoding"
    second = segment.open_picture(studio, session, {"example": "example.jpg", "token": 2})
    assert next(steps)["progress"]["picture"] == first["id"]
    assert studio.models.predictor().encoded == [(50, 80, 3)]
    assert session.picture_id == second["picture"]["id"]
    assert session.embedding is None


def bad_files(folder):
    good = io.BytesIO()
    Image.effect_noise((300, 200), 40).save(good, "JPEG")
    bomb = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    contents = {
        "text.png": b"this is no picture",
        "truncated.jpg": good.getvalue()[: len(good.getvalue()) // 2],
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "empty.png": b"",
        "bomb.png": bomb.getvalue(),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return sorted(contents)


def test_bad_files_leave_the_photo_before_as_it_is(studio, photo, tmp_path):
    session, picture = opened(studio, photo)
    for name in bad_files(tmp_path):
        start = time.process_time()
        answer = segment.open_picture(studio, session, upload(tmp_path / name, token=name))
        text = answer["notice"]["text"]
        assert answer["notice"]["token"] == name
        assert text.endswith((".", "picture.", "!"))
        assert str(tmp_path) not in text
        assert time.process_time() - start < 2
        assert session.picture_id == picture["id"]
        assert session.embedding is not None


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"image": "photo.png"},
        {"image": {"path": ""}},
        {"image": {"path": "/nowhere/photo.png"}},
        {"example": "../../etc/passwd"},
        {"example": 3},
        {"example": ["example.jpg"]},
    ],
)
def test_odd_requests_to_open_get_a_sentence(studio, message):
    session = Session()
    answer = segment.open_picture(studio, session, message | {"token": 1})
    assert answer["notice"]["text"]
    assert "/nowhere" not in answer["notice"]["text"]
    assert session.picture_id == ""


def odd_pictures(folder):
    grey = Image.linear_gradient("L").resize((90, 60))
    Image.merge("CMYK", [grey] * 4).save(folder / "cmyk.jpg")
    wide = (np.arange(60 * 90, dtype=np.uint16) * 12).reshape(60, 90)
    Image.fromarray(wide).save(folder / "sixteen.png")
    grey.save(folder / "grey.png")
    Image.merge("RGBA", [grey] * 4).save(folder / "rgba.png")
    frames = [Image.new("P", (90, 60), color) for color in (1, 2, 3)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    turned = Image.new("RGB", (60, 90), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    return ["cmyk.jpg", "sixteen.png", "grey.png", "rgba.png", "animated.gif", "turned.jpg"]


def test_odd_pictures_are_shown_upright_and_in_rgb(studio, tmp_path):
    for name in odd_pictures(tmp_path):
        session = Session()
        picture = segment.open_picture(studio, session, upload(tmp_path / name))["picture"]
        assert (picture["width"], picture["height"]) == (90, 60), name
        with Image.open(picture["file"]["path"]) as shown:
            assert (shown.mode, shown.size) == ("RGB", (90, 60)), name
            assert 0x0112 not in shown.getexif()


def test_a_very_narrow_photo_keeps_a_pixel(studio, tmp_path):
    path = tmp_path / "narrow.png"
    Image.new("RGB", (1, 5000), "white").save(path)
    picture = segment.open_picture(studio, Session(), upload(path))["picture"]
    assert (picture["width"], picture["height"]) == (1, 5000)
    with Image.open(picture["file"]["path"]) as shown:
        assert shown.size == (1, segment.DISPLAY_SIDE)


def test_the_title_is_a_file_name_and_nothing_else(studio, photo):
    message = upload(photo, name="../../etc/pass<wd>.png")
    assert segment.open_picture(studio, Session(), message)["picture"]["title"] == "pass<wd>.png"

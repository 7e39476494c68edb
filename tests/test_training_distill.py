"""Decoupled distillation: the cache of embeddings, and a student that learns them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mobilesam import Predictor, load_model
from mobilesam.modeling import build_model
from mobilesam.training import embedding_cache
from mobilesam.training.checkpointing import load_state, save_model
from mobilesam.training.config import DistillConfig
from mobilesam.training.distill import DistillRun, DistillStep, fill_outside
from mobilesam.training.embedding_cache import CacheIndex, EmbeddingCache
from mobilesam.training.initialise import initialise_decoder
from mobilesam.training.sources import open_source
from tests.conftest import disk_photo
from tests.shards import write_shards
from tests.training_runs import rows_of, small_config, untimed

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shards(tmp_path_factory.mktemp("data"), "train")
    return write_shards(folder, "val", photos=2)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Teachers with random weights at 64 px: one pads to a square, the other does not."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teachers")
    paths = {name: folder / f"{name}.safetensors" for name in ("square", "fitting")}
    for name, path in paths.items():
        square = name == "square"
        model = build_model("deit_tiny", 64, pads_to_square=square, draws_prompts=not square)
        initialise_decoder(model)
        save_model(model, path, {})
    return paths


@pytest.fixture(params=["square", "fitting"])
def each_teacher(request: pytest.FixtureRequest, teachers: dict[str, Path]) -> Path:
    return teachers[request.param]


@pytest.fixture
def teacher(teachers: dict[str, Path]) -> Path:
    return teachers["fitting"]


def config_for(data: Path, out: Path, teacher: Path, **changes: object) -> DistillConfig:
    options = {"teacher": str(teacher), "cache": str(out / "cache"), **changes}
    return small_config(DistillConfig, data, out, **options)


def test_the_cache_holds_what_the_teacher_says_of_each_photo(
    data: Path, each_teacher: Path, tmp_path: Path
) -> None:
    DistillRun(config_for(data, tmp_path, each_teacher))  # fills it before the first step
    stored = load_file(tmp_path / "cache/shard-00000.safetensors")
    source = open_source(data, "train")
    assert len(stored) == len(source.samples) == 6
    model = load_model(each_teacher)
    for sample in source.samples:
        photo = source.photo(sample)
        embedding = stored[str(sample.index)]
        assert embedding.dtype == torch.float16
        if model.pads_to_square:  # the very path of a photo that somebody segments
            expected = Predictor(model).encode(photo).features[0]
            assert embedding.shape == (256, 4, 4)
            torch.testing.assert_close(embedding.float(), expected, rtol=2e-3, atol=2e-3)
        else:  # 96 x 128 px are shown at 64 x 64, the nearest multiple of 32
            squeezed = np.array(photo.resize((64, 64), Image.Resampling.BILINEAR))
            expected = Predictor(model).encode(squeezed).features[0]
            torch.testing.assert_close(embedding.float(), expected, rtol=2e-3, atol=2e-3)


def test_the_cache_is_filled_in_the_precision_of_the_run(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    stored = {}
    for precision in ("fp32", "bf16"):
        cache = tmp_path / precision
        DistillRun(config_for(data, tmp_path, teacher, cache=str(cache), precision=precision))
        stored[precision] = load_file(cache / "shard-00000.safetensors")["0"].float()
    off = (stored["bf16"] - stored["fp32"]).norm() / stored["fp32"].norm()
    assert 1e-4 < off < 0.05  # bf16 keeps 8 bits of a number
    with pytest.raises(ValueError, match="in precision; name another cache"):
        cache = str(tmp_path / "fp32")
        DistillRun(config_for(data, tmp_path, teacher, cache=cache, precision="bf16"))


@pytest.mark.parametrize("encoder", ["deit_tiny", "tiny_vit", "sam_vit_b"])
def test_a_step_uses_the_whole_student(encoder: str) -> None:
    """Hence several processes need not look for parameters without a gradient."""
    student = build_model(encoder, 64)
    loss, _ = DistillStep(student, "fp32")(torch.rand(1, 3, 64, 64) * 255, torch.rand(1, 256, 4, 4))
    loss.backward()
    named = student.image_encoder.named_parameters()
    assert not [name for name, parameter in named if parameter.grad is None]


def test_a_student_learns_and_takes_over_the_decoder(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    changes = {"steps": 16, "log_steps": 4, "warmup_steps": 4, "val_photos": 1}
    DistillRun(config_for(data, tmp_path, teacher, **changes)).run()
    rows = rows_of(tmp_path / "log.csv")
    assert rows[-1]["mse"] < 0.9 * rows[0]["mse"]
    assert rows[-1]["cosine"] > rows[0]["cosine"]
    (validated,) = rows_of(tmp_path / "val.csv")
    assert 0 <= validated["click_1"] <= 1
    student, original = load_model(tmp_path / "model.safetensors"), load_model(teacher)
    assert student.encoder_name == "tiny_vit"
    for attribute in ("image_size", "pads_to_square", "draws_prompts"):
        assert getattr(student, attribute) == getattr(original, attribute)
    for part in ("prompt_encoder", "mask_decoder"):
        had = getattr(original, part).state_dict()
        for name, tensor in getattr(student, part).state_dict().items():
            torch.testing.assert_close(tensor, had[name], rtol=0, atol=0)
    metadata = load_model(tmp_path / "model.safetensors").metadata
    assert (metadata["stage"], metadata["teacher"]) == ("distill", teacher.stem)


def test_a_teacher_that_is_its_own_student_has_no_loss(
    data: Path, each_teacher: Path, tmp_path: Path
) -> None:
    """Cached targets must belong to the very photos of the batch."""
    for cache in (str(tmp_path / "cache"), None):
        changes = {"student": "deit_tiny", "cache": cache}
        run = DistillRun(config_for(data, tmp_path, each_teacher, **changes))
        weights = load_file(each_teacher)
        run.model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        run.model.eval()
        for _, batch in zip(range(3), run.batches(0), strict=False):
            with torch.no_grad():
                _, logged = run.module(*run.step_arguments(batch))
            assert logged["mse"] < 1e-5
            assert logged["cosine"] > 0.999


def test_a_student_goes_on_at_another_size(data: Path, teacher: Path, tmp_path: Path) -> None:
    """A ViT's positions are resampled, and a convolutional encoder takes any size."""
    smaller = {"student": "deit_tiny", "steps": 2, "cache": None}
    DistillRun(config_for(data, tmp_path / "64", teacher, **smaller)).run()
    assert not (tmp_path / "cache").exists()
    init = tmp_path / "64/model.safetensors"
    changes = {**smaller, "image_size": 96, "init": str(init)}
    run = DistillRun(config_for(data, tmp_path / "96", teacher, **changes))
    assert (run.model.image_size, run.teacher.image_size) == (96, 96)
    had, has = load_file(init), run.model.image_encoder.state_dict()
    for name, tensor in has.items():
        before = had[f"image_encoder.{name}"].float()
        if name == "backbone.pos_embed":
            assert tensor.shape == (1, 1 + 6 * 6, 192)
            assert before.shape == (1, 1 + 4 * 4, 192)
            torch.testing.assert_close(tensor[:, :1], before[:, :1])  # the class token's
        else:
            torch.testing.assert_close(tensor, before, rtol=0, atol=0)
    run.run()
    assert load_model(tmp_path / "96/model.safetensors").image_size == 96
    metadata = load_model(tmp_path / "96/model.safetensors").metadata
    assert (metadata["teacher"], metadata["init"]) == (teacher.stem, "64")


def test_a_student_cannot_begin_with_another_kind_of_encoder(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    message = f"image encoder is tiny_vit, that of {teacher} is deit_tiny; name a model of the same"
    with pytest.raises(ValueError, match=re.escape(message)):
        DistillRun(config_for(data, tmp_path, teacher, init=str(teacher)))
    with pytest.raises(ValueError, match="both init 'a' and backbone 'b'; leave out one"):
        DistillConfig(teacher="embedded", init="a", backbone="b")


class CutOff(DistillRun):
    """Breaks off after the third step, one after its last checkpoint."""

    def step_arguments(self, batch):
        if self.step == 3:
            raise KeyboardInterrupt
        return super().step_arguments(batch)


def test_a_cut_run_goes_on_to_the_weights_of_an_unbroken_one(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    changes = {"checkpoint_steps": 2, "log_steps": 1, "student": "deit_tiny"}
    cached = [config_for(data, tmp_path / name, teacher, **changes) for name in ("whole", "cut")]
    DistillRun(cached[0]).run()
    with pytest.raises(KeyboardInterrupt):
        CutOff(cached[1]).run()
    DistillRun(cached[1]).run()
    whole, cut = (load_state(tmp_path / name / "state.pt") for name in ("whole", "cut"))
    for part in ("model", "ema", "optimizer"):
        torch.testing.assert_close(cut[part], whole[part], rtol=0, atol=0)
    assert untimed(tmp_path / "cut/log.csv") == untimed(tmp_path / "whole/log.csv")


def test_a_cache_is_filled_shard_by_shard(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_cache, "PHOTOS_PER_SHARD", 2)
    DistillRun(config_for(data, tmp_path, teacher))
    folder = tmp_path / "cache"
    names = [f"shard-0000{number}.safetensors" for number in range(3)]
    assert sorted(path.name for path in folder.glob("shard*")) == names
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    first = load_file(folder / names[1])
    (folder / names[1]).unlink()
    (folder / "shard-00001.safetensors.part").write_bytes(b"cut off")
    DistillRun(config_for(data, tmp_path, teacher))
    for name, tensor in load_file(folder / names[1]).items():
        torch.testing.assert_close(tensor, first[name])
    for name in (names[0], names[2]):
        assert (folder / name).stat().st_mtime_ns == before[name]
    assert not list(folder.glob("*.part"))


def index_of(**changes: object) -> CacheIndex:
    return CacheIndex(
        **{
            "teacher": "one",
            "teacher_sha256": "ab",
            "image_size": 64,
            "square": True,
            "precision": "bf16",
            "photos": ["a", "b"],
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"teacher_sha256": "cd"}, "teacher_sha256"),
        ({"photos": ["a"]}, "photos"),
        ({"precision": "fp32"}, "precision"),
        ({"image_size": 128, "square": False}, "image_size, square"),
    ],
)
def test_a_cache_of_something_else_is_refused(tmp_path: Path, changes: dict, named: str) -> None:
    EmbeddingCache(tmp_path, index_of())
    EmbeddingCache(tmp_path, index_of(teacher="the same by another name"))
    message = f"by 'one' at 64 px of 2 photos, which differ .* in {named}; name another"
    with pytest.raises(ValueError, match=message):
        EmbeddingCache(tmp_path, index_of(**changes))
    assert json.loads((tmp_path / "index.json").read_text())["teacher_sha256"] == "ab"


def test_a_cache_may_move_within_a_run_but_not_go(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    config = config_for(data, tmp_path, teacher, steps=1)
    DistillRun(config).run()
    (tmp_path / "cache").rename(tmp_path / "moved")
    moved = replace(config, steps=2, cache=str(tmp_path / "moved"))
    DistillRun(moved).run()
    assert load_state(tmp_path / "state.pt")["step"] == 2
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match="other settings of cache"):
        DistillRun(replace(config, cache=None))


def test_a_damaged_cache_says_what_to_do(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, index_of())
    (tmp_path / "shard-00000.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"shard-00000.safetensors has no .* remove that file"):
        cache.read([0])
    for text in ("{", "[]", '{"photos": 3}'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(ValueError, match="is no index of embeddings; name another cache"):
            EmbeddingCache(tmp_path, index_of())


def test_photos_without_masks_in_sa1bs_layout_are_enough(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos/sa_000000"
    folder.mkdir(parents=True)
    photo, _ = disk_photo(96, 128, (40, 50), 20)
    for number in range(3):
        Image.fromarray(photo).save(folder / f"sa_{number}.jpg")
    (folder / "sa_3.jpg").write_bytes((folder / "sa_2.jpg").read_bytes()[:700])  # cut off
    config = config_for(tmp_path / "photos", tmp_path, teacher, student="deit_tiny", steps=3)
    DistillRun(config).run()
    assert load_state(tmp_path / "state.pt")["step"] == 3
    assert load_file(tmp_path / "cache/shard-00000.safetensors").keys() == {"0", "1", "2"}
    assert load_model(tmp_path / "model.safetensors").metadata["training_data"] == "sa1b"


def test_a_full_disk_is_noticed_before_the_work(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 2 * 256 * (64 // 16) ** 2 * 5  # bytes, for five of six photos

    monkeypatch.setattr(embedding_cache.shutil, "disk_usage", lambda _: Full)
    with pytest.raises(ValueError, match=r"need 0\.0 GB in .* name a cache on another disk"):
        DistillRun(config_for(data, tmp_path, teacher))


def test_outside_the_picture_normalised_pixels_are_zero() -> None:
    model = build_model("deit_tiny", 64)
    pixels = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    pixels[0, :, :48] = torch.randint(0, 255, (3, 48, 64), dtype=torch.uint8)
    pixels[1] = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    sizes = torch.tensor([[48, 64], [64, 64]])
    filled = fill_outside(pixels, sizes, model.pixel_mean)
    expected = model.preprocess(pixels[:1, :, :48].float())  # padded after normalising
    torch.testing.assert_close(model.preprocess(filled)[:1], expected, rtol=0, atol=0)
    torch.testing.assert_close(filled[1], pixels[1].float())


def test_the_teacher_must_be_named() -> None:
    with pytest.raises(TypeError, match="teacher"):
        DistillConfig()

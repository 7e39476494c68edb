"""The pages in docs/: their examples run, their options exist, what they promise comes out."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilesam import EverythingOptions, Predictor
from mobilesam.checkpoints import read_checkpoint
from mobilesam.everything import OWN_THRESHOLDS
from mobilesam.masks import mask_iou
from mobilesam.modeling import Sam, prepare_for_training
from mobilesam.registry import model_from_state_dict
from mobilesam.simple_api import EverythingSettings
from tests.conftest import EMBEDDED_FILE, Run
from tests.pages import Block, anchors, blocks, execute, links, prose, sections

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
THEIRS = re.compile(r"^from (?:segment_anything|mobile_sam|ultralytics) import", re.MULTILINE)
STATUS = re.compile(r"\s+# exit status (\d+)$")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")

pytestmark = pytest.mark.usefixtures("empty_machine")


def as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the project's, to work and write in."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("tools"))
    monkeypatch.chdir(folder)
    return folder


def test_the_python_page(
    workplace: Path,
    subtests: pytest.Subtests,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    embedded: Predictor,
) -> None:
    names: dict[str, Any] = {}
    checked = 0
    for block in blocks(DOCS / "python.md"):
        if block.language != "python":
            continue
        needs = [package for package in block.notes.get("needs", "").split(",") if package]
        with subtests.test(msg=block.place):
            missing = [package for package in needs if find_spec(package) is None]
            if missing:
                pytest.skip(f"the optional packages {', '.join(missing)} are not installed")
            if needs:
                borrow_exports(request, monkeypatch)
            checked += execute(block, names)
    assert checked > 20
    written = {path.name for path in (workplace / "out").iterdir()}
    assert {"mask.png", "cutout.png", "annotations.json", "raccoon.json", "raccoon.txt"} <= written
    if "decoder" in names:  # the masks of ONNX Runtime are PyTorch's
        embedding = embedded.encode(workplace / "examples" / "raccoon.jpg")
        expected = embedded.candidates(embedding, points=[(620, 300)])
        assert mask_iou(names["mask"], expected.mask(expected.best)) > 0.99


def borrow_exports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page have what other tests have exported: it takes long, and is tested there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(request.getfixturevalue("exported_encoders")))
    exported = request.getfixturevalue("exported_onnx")

    def export(model: Sam, folder: str) -> list[Path]:
        Path(folder).mkdir()
        names = [f"{model.name}.{part}.onnx" for part in ("encoder", "decoder")]
        return [Path(shutil.copy(exported / name, folder)) for name in names]

    monkeypatch.setattr("mobilesam.onnx_export.export", export)


def program_lines(page: Path) -> Iterator[tuple[Block, str]]:
    """Find the command lines of a page that call this program."""
    for block in blocks(page):
        if block.language == "sh":
            yield from ((block, line) for line in block.lines if "-m mobilesam" in line)


def options_of(run: Run, *command: str) -> set[str]:
    """Return the options that a command's help names."""
    status, stdout, _ = run(*command, "--help")
    assert status == 0
    return set(OPTION.findall(stdout)) - {"-h", "--help", "-m"}


def named_options(text: str) -> set[str]:
    """Return the options that a page's prose, in backticks, names."""
    codes = re.findall(r"`([^`]+)`", prose(text))
    return {option for code in codes for option in OPTION.findall(code)} - {"-m", "--help"}


@pytest.fixture
def wide_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of a help text is broken within an option."""
    monkeypatch.setenv("COLUMNS", "1000")


def test_the_commands_of_the_cli_page_run(workplace: Path, run: Run) -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    lines = 0
    for block in blocks(DOCS / "cli.md"):
        if block.language == "csv":
            (name,) = block.notes
            (workplace / name).write_text(block.text, encoding="utf-8")
        if block.language != "sh" or "run" not in block.notes:
            continue
        for line in block.lines:
            ending = STATUS.search(line)
            words = shlex.split(STATUS.sub("", line))
            assert words[:3] == ["python", "-m", "mobilesam"], block.place
            status, stdout, stderr = run(*words[3:])
            assert status == int(ending[1] if ending else 0), f"{block.place}: {line}\n{stderr}"
            lines += 1
            if stdout.startswith(("{", "[")):
                said = json.loads(stdout)
                keys = said[0] if isinstance(said, list) else said
                assert [key for key in keys if f"`{key}`" not in text] == []
    assert lines > 10
    for name in (
        *("raccoon.mask.png", "raccoon.cutout.png", "raccoon.overlay.png"),
        *("clicked.cutout.png", "clicked.svg"),
        *("found/cat.png", "found/coffee.png", "found-coco/annotations.json"),
        *("found-labelme/examples/raccoon.json", "found-labelme/examples/cat.json"),
        *("found-yolo/examples/raccoon.txt", "found-yolo/classes.txt"),
        *("found-cutouts/examples/raccoon.cutouts/2.png", "found-cutouts/examples/cat.png"),
        *("some/cat.png", "all/coffee.png", "all-coco/annotations.json"),
    ):
        assert (workplace / name).is_file(), name
    assert not (workplace / "none").exists()
    coco = json.loads((workplace / "found-coco" / "annotations.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["thing"]
    assert len(coco["images"]) == len(list((workplace / "examples").glob("c*.jpg")))


@pytest.mark.usefixtures("wide_help")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_options_in_command_lines_exist(page: Path, run: Run) -> None:
    for block, line in program_lines(page):
        words = shlex.split(line.partition("-m mobilesam")[2], comments=True)
        command = words[: 2 if words[0] == "train" else 1]
        given = {word.partition("=")[0] for word in words if OPTION.fullmatch(word)}
        assert given <= options_of(run, *command) | {"--help"}, block.place


@pytest.mark.usefixtures("wide_help")
def test_the_options_of_the_cli_page_are_those_there_are(run: Run) -> None:
    parts = sections(DOCS / "cli.md")
    assert options_of(run) <= named_options(parts[""])
    commands = [name for name in parts if name]
    listed = ("segment", "everything", "compare", "export", "models", "download", "train", "val")
    assert commands == list(listed)
    for command in commands:
        if command == "train":  # has stages
            continue
        assert named_options(parts[command]) == options_of(run, command), command


@pytest.mark.usefixtures("wide_help")
def test_the_options_of_the_training_page_exist(run: Run) -> None:
    stages = ("teacher", "coupled", "distill", "finetune")
    known = set().union(*(options_of(run, "train", stage) for stage in stages))
    known |= options_of(run, "val")
    named = named_options((DOCS / "training.md").read_text(encoding="utf-8"))
    assert named - known == set()
    assert {"--data", "--teacher", "--init", "--against"} <= named


def test_the_thresholds_of_own_models_are_told() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    for name, value in OWN_THRESHOLDS.items():
        (row,) = re.findall(rf"^\| `{as_option(name)}` .+$", text, flags=re.MULTILINE)
        assert f"; {value} for this project's own models |" in row


@pytest.mark.parametrize(("page", "spelled"), [("python.md", str), ("cli.md", as_option)])
def test_defaults_in_tables_are_the_librarys(page: str, spelled: Callable[[str], str]) -> None:
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \|", (DOCS / page).read_text(), flags=re.MULTILINE)
    told = {}
    for names, defaults in rows:
        for name, default in zip(names.split(", "), defaults.split(", "), strict=False):
            told[name.strip("`")] = default
    for entry in dataclasses.fields(EverythingOptions):
        if spelled(entry.name) in told:
            default = told.pop(spelled(entry.name))
            shown = {"no": "False", "512/1500": str(512 / 1500)}.get(default, default)
            if shown in ("None", "False"):
                assert str(entry.default) == shown, entry.name
            else:
                assert float(shown) == pytest.approx(entry.default, abs=5e-5), entry.name
        else:
            assert entry.name == "point_grids", entry.name


def test_the_settings_of_ultralytics_are_told() -> None:
    text = sections(DOCS / "migrating-from-sam.md")["Ultralytics"]
    assert [name for name in EverythingSettings.__annotations__ if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def check_same(theirs: Any, ours: Any, place: str) -> None:
    """Compare two arrays, tensors or lists of numbers; masks by their overlap."""
    a, b = np.asarray(theirs), np.asarray(ours)
    assert (a.shape, a.dtype) == (b.shape, b.dtype), place
    assert a.size, place
    if a.dtype != bool:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3, err_msg=place)
        return
    masks = [each.reshape(-1, *a.shape[-2:]) for each in (a, b)]
    for one, other in zip(*masks, strict=True):
        assert 0 < np.count_nonzero(one) < one.size, place
        assert mask_iou(one, other) > 0.999, place


def trainable(checkpoint: Path) -> Sam:
    """Build as the registry does, whatever the architecture."""
    return prepare_for_training(model_from_state_dict(*read_checkpoint(checkpoint), "mobile_sam"))


@pytest.mark.filterwarnings("error")
def test_the_migration_page(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "examples" / "raccoon.jpg", "photo.jpg")
    shutil.copy(EMBEDDED_FILE, "mobile_sam.pt")  # real weights, whatever their architecture
    builders = {"vit_t": lambda checkpoint: trainable(Path(checkpoint))}
    monkeypatch.setattr("mobilesam.sam_api.sam_model_registry", builders)
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    imports, compared = 0, 0
    for block in blocks(DOCS / "migrating-from-sam.md"):
        if "theirs" in block.notes:
            text, changed = THEIRS.subn("from mobilesam import", block.text)
            exec(compile("\n" * (block.line - 1) + text, str(block.page), "exec"), theirs)
            imports += changed
        elif "ours" in block.notes:
            execute(block, ours)
            for name in filter(None, block.notes["ours"].split(",")):
                check_same(theirs[name], ours[name], f"{block.place}: {name}")
                compared += 1
    assert imports == 4
    assert compared == 21

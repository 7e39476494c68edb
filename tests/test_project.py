"""The files around the package: pins agree, the README configures a Space, sources are named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))
NO_TYPES = shutil.ignore_patterns("*.pyi", "__pycache__", "weights")
KIB, MIB = 2**10, 2**20
MAX_FILE_BYTES = 1 * MIB
MAX_EMBEDDED_BYTES = 24_000_000
MAX_EXAMPLE_BYTES = 300 * KIB
MAX_EXAMPLE_SIDE = 1280  # px
BELOW_GRADIO = {"fastapi", "starlette", "uvicorn", "pydantic"}
SPACE_COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# Put together here, so that this file does not contain them. PyTorch's CPU index has its one place.
REGISTRY_HOSTS = [
    "pypi." + "org",
    "files.python" + "hosted.org",
    "registry.npm" + "js.org",
    "download.py" + "torch.org",
]


def project_files() -> list[Path]:
    """List what a clone would hold; without git, everything but caches."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skipped = (".venv", ".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache")
        files = [path for path in ROOT.rglob("*") if not set(skipped) & set(path.parts)]
    return [path for path in files if path.is_file()]


def test_types_hold(tmp_path: Path) -> None:
    # Of a copy: beside the component Gradio writes a stub, which mypy would read instead.
    ours = shutil.copytree(ROOT / "mobilesam", tmp_path / "mobilesam", ignore=NO_TYPES)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(command, cwd=ours.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def requirements(name: str) -> dict[str, Requirement]:
    lines = [line.split(" #")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    parsed = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pin(requirement: Requirement) -> Version:
    specifiers = list(requirement.specifier)
    assert [s.operator for s in specifiers] == ["=="], f"{requirement} is not pinned"
    return Version(specifiers[0].version)


@pytest.fixture(scope="module")
def front_matter() -> dict:
    text = (ROOT / "README.md").read_text()
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_front_matter_configures_a_gradio_space(front_matter: dict) -> None:
    assert front_matter["sdk"] == "gradio"
    assert (ROOT / front_matter["app_file"]).is_file()
    assert front_matter["license"] == "apache-2.0"
    assert front_matter["suggested_hardware"] == "cpu-basic"
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= SPACE_COLORS
    assert len(front_matter["short_description"]) <= 60
    assert isinstance(front_matter["python_version"], str)
    assert front_matter["preload_from_hub"] == ["dhkim2810/MobileSAM mobile_sam.pt"]
    assert front_matter["models"] == ["dhkim2810/MobileSAM"]
    assert {"title", "emoji", "tags", "thumbnail"} <= front_matter.keys()


def test_space_runs_the_gradio_that_is_pinned(front_matter: dict) -> None:
    assert Version(front_matter["sdk_version"]) == pin(requirements("requirements.txt")["gradio"])


def test_every_requirement_is_pinned() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "pre-requirements.txt"):
        for requirement in requirements(name).values():
            pin(requirement)


def test_space_takes_the_same_torch_as_everyone() -> None:
    pinned = requirements("requirements.txt")
    early = requirements("pre-requirements.txt")
    assert early.keys() == {"torch", "torchvision"}
    for name, requirement in early.items():
        assert pin(requirement).local == "cpu"
        assert pin(requirement).public == str(pin(pinned[name]))


def test_package_metadata_admits_the_pins(pyproject: dict) -> None:
    project = pyproject["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    pinned = requirements("requirements.txt")
    for requirement in map(Requirement, declared):
        assert pin(pinned[canonicalize_name(requirement.name)]) in requirement.specifier
    names = {canonicalize_name(Requirement(text).name) for text in declared}
    assert names == pinned.keys() - {"torchvision"} - BELOW_GRADIO  # timm brings the first


def test_package_data_covers_what_the_package_reads(pyproject: dict) -> None:
    patterns = pyproject["tool"]["setuptools"]["package-data"]["mobilesam"]
    package = ROOT / "mobilesam"
    covered = {path for pattern in patterns for path in package.glob(pattern)}
    inside = {path for path in project_files() if package in path.parents}
    assert {path for path in inside if path.suffix not in (".py", ".pyi")} <= covered
    assert package / "py.typed" in covered  # else type checkers take all of it for Any


def test_readme_names_the_paper() -> None:
    text = (ROOT / "README.md").read_text()
    assert "@article{" in text and "arXiv:2306.14289" in text


def test_every_example_has_a_source_and_every_source_an_example() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", (ROOT / "examples/SOURCES.md").read_text(), re.M)
    cells = {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in rows}
    assert len(EXAMPLES) >= 6
    assert sorted(cells) == [path.name for path in EXAMPLES]
    described = json.loads((ROOT / "examples/prompts.json").read_text())
    for name, (shows, author, licence, source, change) in cells.items():
        assert all((shows, author, source, change)), name
        assert "public domain" in licence or "CC" in licence, name
        by, terms = described[name]["credit"].split(", ")  # as the page says it
        assert by in author and terms in licence, name
        if "CC BY" in licence:
            assert described[name]["source"] in author, name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_opens_and_is_small(path: Path) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*\.jpg", path.name)
    assert path.stat().st_size <= MAX_EXAMPLE_BYTES
    with Image.open(path) as image:
        image.load()
        assert image.format == "JPEG"
        assert max(image.size) <= MAX_EXAMPLE_SIDE


def test_no_large_files() -> None:
    for path in project_files():
        limit = MAX_EMBEDDED_BYTES if path.parent.name == "weights" else MAX_FILE_BYTES
        assert path.stat().st_size <= limit, f"{path.relative_to(ROOT)} is too large"


def test_no_registry_hosts() -> None:
    for path in project_files():
        content = path.read_bytes()
        for host in REGISTRY_HOSTS:
            if path.name == "pre-requirements.txt" and "torch" in host:
                continue
            assert host.encode() not in content, f"{path.relative_to(ROOT)} names {host}"


def test_importing_the_package_stays_light() -> None:
    heavy = "{'gradio', 'matplotlib'}"
    code = f"import sys; from mobilesam import *; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]\n" and run.stderr == ""


def test_ci_runs_what_a_user_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"

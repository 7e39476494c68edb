"""How many cores may be used: the machine's, a container's share of them, a Space's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobilesam import machine

ROOT = Path(__file__).resolve().parent.parent
V1_QUOTA, V1_PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of sixteen cores, in a container whose bounds lie in ``tmp_path``."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    for variable in ("CPU_CORES", machine.THREADS_VARIABLE):
        monkeypatch.setenv(variable, "")  # so that it is put back
        del os.environ[variable]
    monkeypatch.setenv("SPACE_ID", "owner/space")


@pytest.mark.parametrize(
    ("files", "space", "expected"),
    [
        ({}, None, 16),
        ({"cpu.max": "200000 100000\n"}, None, 2),
        ({"cpu.max": "150000 100000\n"}, None, 2),
        ({"cpu.max": "50000 100000\n"}, None, 1),
        ({"cpu.max": "max 100000\n"}, None, 16),
        ({"cpu.max": "6400000 100000\n"}, None, 16),  # of 64 cores, 16 of which are ours
        ({"cpu.max": "as it likes"}, None, 16),
        ({V1_QUOTA: "400000\n", V1_PERIOD: "100000\n"}, None, 4),
        ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, None, 16),
        ({V1_QUOTA: "400000\n", V1_PERIOD: "0\n"}, None, 16),
        ({}, "2", 2),
        ({}, "1.5", 2),
        ({"cpu.max": "400000 100000\n"}, "8", 4),
        ({}, "many", 16),
        ({}, "0", 16),
        ({}, "nan", 16),
    ],
)
def test_a_container_s_share_bounds_the_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    space: str | None,
    expected: int,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    if space is not None:
        monkeypatch.setenv("CPU_CORES", space)
    assert machine.usable_cores() == expected


def test_a_variable_of_that_name_means_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID")
    monkeypatch.setenv("CPU_CORES", "2")
    assert machine.usable_cores() == 16


def test_threads_are_bounded_where_a_container_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.bound_threads()
    assert machine.THREADS_VARIABLE not in os.environ
    monkeypatch.setenv("CPU_CORES", "2")
    machine.bound_threads()
    assert os.environ[machine.THREADS_VARIABLE] == "2"
    monkeypatch.setenv(machine.THREADS_VARIABLE, "5")
    machine.bound_threads()
    assert os.environ[machine.THREADS_VARIABLE] == "5"


@pytest.mark.parametrize("program", ["app", "mobilesam.cli"])
def test_programs_set_the_bound_before_pytorch_is_imported(program: str) -> None:
    code = (
        f"import os, sys, {program} as program\n"
        "from mobilesam import machine\n"
        "machine._own_cores = lambda: 16\n"
        "sys.argv[1:] = ['--help']\n"
        "try: program.main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['OMP_NUM_THREADS'], 'torch' in sys.modules)"
    )
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**variables, "SPACE_ID": "owner/space", "CPU_CORES": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 False"

"""The runner for a GPU that is at hand for minutes goes through all its stages, small and on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SLOT = Path(__file__).parent.parent / "benchmarks" / "cifar10" / "slot.py"


def call(*arguments):
    return subprocess.run([sys.executable, SLOT, *arguments], capture_output=True, text=True, timeout=1200)


@pytest.fixture
def packed():
    root = os.environ.get("SYNAPRUNE_DATA")
    folder = Path(root or ".", "cifar10")
    if not root or not (folder / "data_batch_1.bin.delta.xz").exists():
        pytest.skip("SYNAPRUNE_DATA does not name a folder with the packed CIFAR-10")
    return folder


@pytest.mark.slow
def test_all_stages_in_two_calls(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    half = tmp_path / "half"  # as much as may travel at a time
    half.mkdir()
    for path in sorted(packed.iterdir())[:3]:
        (half / path.name).symlink_to(path)
    state, out = tmp_path / "state", tmp_path / "out"
    first = call("run", state, out, "--carry", half, "--minutes=2", "--tiny")
    assert first.returncode == 1
    assert "stage data: still without data_batch_4.bin.delta.xz, data_batch_5.bin.delta.xz, test_batch" in first.stdout
    cut = call("run", state, out, "--carry", packed, "--minutes=1", "--tiny")
    assert (cut.returncode, "install …" in cut.stdout) == (0, False)
    assert "the minutes are over in stage " in cut.stdout
    last = call("run", state, out, "--carry", packed, "--minutes=15", "--tiny")
    assert last.returncode == 0, (out / "log.txt").read_text()
    assert "everything is measured\n" in last.stdout

    assert len(list(out.iterdir())) <= 8
    assert "connectivity 0.049" in json.loads((out / "records.json").read_text())["check"]
    kept = call("keep", out, "--results", tmp_path / "kept")
    assert "samples per second" in kept.stdout
    found = sorted(path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").glob("*/*.json"))
    assert {name.partition("/")[0] for name in found} == {"tune", "curve", "descent"}
    assert "curve/grad_r-sparsity-0.9927-seed0.json" in found
    assert "descent/descent-tail-0.986-seed0.json" in found
    again = call("run", state, out, "--carry", packed, "--minutes=1", "--tiny")
    assert "everything is measured\n" in again.stdout
    assert "check …" not in again.stdout


def test_a_package_that_is_nowhere_is_named(tmp_path):
    """An interpreter that finds no packages, as a bare machine's."""
    command = [sys.executable, "-I", "-S", SLOT, "run", tmp_path / "state", tmp_path / "out", "--carry", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "stage install: no wheel of torch, numpy, safetensors, spikingjelly, loguru, " in done.stdout
    assert "run `slot.py pack` with --wheels torch numpy " in done.stdout


def test_results_of_something_else_are_refused(tmp_path):
    (tmp_path / "records.json").write_text(json.dumps({"results": {"../x/y.json": {}}}))
    done = call("keep", tmp_path, "--results", tmp_path / "kept")
    assert done.returncode == 2
    assert done.stderr == "slot.py: '../x/y.json' is no result of a sweep of this runner\n"
    assert not (tmp_path / "kept").exists()

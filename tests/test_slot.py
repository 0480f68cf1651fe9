"""The runner for a GPU that is at hand for minutes goes through all its stages, small and on the CPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SLOT = Path(__file__).parent.parent / "benchmarks" / "cifar10" / "slot.py"


def call(*arguments):
    return subprocess.run([sys.executable, SLOT, *arguments], capture_output=True, text=True, timeout=1200)


@pytest.fixture
def packed(real_data):
    if not (real_data / "cifar10" / "data_batch_1.bin.delta.xz").exists():
        pytest.skip("the real data sets hold no packed CIFAR-10")
    return real_data / "cifar10"


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
    assert (
        "stage data has failed: still without data_batch_4.bin.delta.xz, data_batch_5.bin.delta.xz, test_batch"
        in first.stdout
    )
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
    assert "25 results, 6 networks in " in kept.stdout
    assert (tmp_path / "kept" / "curve" / "grad_r-sparsity-0.9967-seed0.safetensors").exists()  # the sparsest first
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
    assert "stage install has failed: no wheel of torch, numpy, safetensors, spikingjelly, loguru, " in done.stdout
    assert "run `slot.py pack` with --wheels torch numpy " in done.stdout


def test_a_stage_that_fails_is_left_for_the_next_call(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(SLOT.parent)
    slot = importlib.import_module("slot")
    done = []

    def fail(self):
        raise subprocess.CalledProcessError(1, ["check"])

    def sweep(self, name):
        if name == "curve" and "check" not in done:
            raise slot.Over
        done.append(name)

    for name, stage in (("check", fail), ("sweep", sweep)):
        monkeypatch.setattr(slot.Slot, name, stage)
    for name in ("install", "data", "time"):
        monkeypatch.setattr(slot.Slot, name, lambda self, name=name: done.append(name))
    call = slot.Slot(tmp_path / "state", tmp_path / "out", tmp_path, 1, True)
    assert call.run() == 1
    assert done == ["install", "data", "time", "tune"]
    assert "stage check has failed: Command '['check']' returned" in capsys.readouterr().out
    monkeypatch.setattr(slot.Slot, "check", lambda self: done.append("check"))
    assert call.run() == 0
    assert done[4:] == ["check", "curve", "descent"]
    assert "everything is measured\n" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"log.txt", "records.json"}


def test_results_of_something_else_are_refused(tmp_path):
    (tmp_path / "records.json").write_text(json.dumps({"results": {"../x/y.json": {}}}))
    done = call("keep", tmp_path, "--results", tmp_path / "kept")
    assert done.returncode == 2
    assert done.stderr == "slot.py: '../x/y.json' is no result of a sweep of this runner\n"
    assert not (tmp_path / "kept").exists()

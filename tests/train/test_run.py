"""The folder of a run: what it holds, what it refuses, and what a kill may leave in it."""

from __future__ import annotations

import json

import pytest

from synaprune.errors import UsageError
from synaprune.train.run import Run, machine, result
from synaprune.train.settings import Settings


def test_create_records_settings_versions_machine_and_command(tmp_path):
    run = Run(tmp_path / "runs" / "one")
    run.create(Settings(lr=0.5, exclude=("fc2.*",)), ["synaprune", "train", "x"])
    assert run.settings() == Settings(lr=0.5, exclude=("fc2.*",))
    header = json.loads((run.folder / "settings.json").read_text())
    assert header["command"] == ["synaprune", "train", "x"]
    assert header["machine"] == machine()
    assert set(header["versions"]) == {"synaprune", "torch", "spikingjelly", "numpy"}


def test_a_taken_folder_is_refused_an_empty_one_is_not(tmp_path):
    run = Run(tmp_path)
    run.refuse_if_taken()
    run.create(Settings())
    with pytest.raises(UsageError, match="already holds a run; resume it, or give another folder"):
        run.refuse_if_taken()


def test_a_folder_without_a_run_and_damaged_settings(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(UsageError, match=r"holds no run: there is no settings.json"):
        run.settings()
    for content, fault in (("{", "is damaged"), ("[]", "holds no settings"), ("{}", "holds no settings")):
        run.settings_path.write_text(content)
        with pytest.raises(UsageError, match=fault):
            run.settings()
    run.settings_path.write_text('{"settings": {"colour": 1}}')
    with pytest.raises(UsageError, match=r"unknown setting 'colour' in '.*settings.json'"):
        run.settings()


@pytest.mark.parametrize("tail", ["", "{", '{"epoch": 3, "loss"', '{"epoch": 3}', "\0\0\0\n"])
def test_a_half_written_line_is_cut(tmp_path, tail):
    run = Run(tmp_path)
    for epoch in (1, 2):
        run.append({"epoch": epoch, "loss": 1 / 3})
    whole = run.metrics_path.read_text()
    run.metrics_path.write_text(whole + tail)
    assert [line["epoch"] for line in run.metrics()] == [1, 2]
    run.cut(2)
    assert run.metrics_path.read_text() == whole


def test_lines_after_the_checkpoint_are_cut(tmp_path):
    run = Run(tmp_path)
    run.cut(0)
    assert run.metrics() == []
    for epoch in (1, 2, 3):
        run.append({"epoch": epoch})
    run.cut(1)
    assert run.metrics_path.read_text() == '{"epoch": 1}\n'


def test_result_sums_up(tmp_path):
    run = Run(tmp_path)
    run.create(Settings(seed=4))
    with pytest.raises(UsageError, match="has no finished epoch yet"):
        result(tmp_path)
    run.append({"epoch": 1, "seconds": 1.5})
    run.append({"epoch": 2, "seconds": 2.0, "test_accuracy": 0.5})
    found = result(tmp_path)
    assert found["settings"]["seed"] == 4
    assert found["metrics"] == {"epoch": 2, "seconds": 2.0, "test_accuracy": 0.5}
    assert found["seconds"] == 3.5
    assert found["machine"]["cores"] >= 1
    json.dumps(found)

"""The folder of a run: what it holds, what it refuses, and what a kill may leave in it."""

from __future__ import annotations

import json
import subprocess

import pytest

from synaprune.errors import UsageError
from synaprune.train import run as run_module
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


@pytest.mark.parametrize("file", ["metrics.jsonl", "checkpoint.safetensors"])
def test_a_folder_is_taken_once_an_epoch_is_finished(tmp_path, file):
    run = Run(tmp_path)
    for _ in range(2):
        run.create(Settings())
    (tmp_path / file).write_text('{"epoch": 1}\n')
    with pytest.raises(UsageError, match="already holds a run; continue it with --resume, or give another folder with"):
        run.refuse_if_taken()


def test_a_folder_in_which_another_process_trains(tmp_path):
    with Run(tmp_path).locked():
        assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]
        with pytest.raises(UsageError, match="is being trained by another process"), Run(tmp_path).locked():
            pass


def test_whoever_trains_clears_up_after_a_killed_process(tmp_path):
    for name in (".settings.json-0123456789abcdef.tmp", ".metrics.jsonl-0123456789abcdef.tmp", "mine.tmp"):
        (tmp_path / name).touch()
    with Run(tmp_path).locked():
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "mine.tmp"]


@pytest.mark.parametrize("file", [".lock", "metrics.jsonl"])
def test_planted_links_are_refused_and_what_they_lead_to_is_left_alone(file, tmp_path):
    run, victim = Run(tmp_path / "run"), tmp_path / "victim"
    victim.write_text("mine")
    run.folder.mkdir()
    (run.folder / file).symlink_to(victim)
    with pytest.raises(UsageError, match=f"{file}' is a link, which is not followed"), run.locked():
        run.append({"epoch": 1})
    assert victim.read_text() == "mine"


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


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "{}", '{"epoch": 3}', '{"epoch": "2"}'])
def test_any_other_damaged_line_is_named_and_nothing_is_cut(tmp_path, line):
    run = Run(tmp_path)
    damaged = f'{{"epoch": 1}}\n{line}\n{{"epoch": 3}}\n'
    run.metrics_path.write_text(damaged)
    for read in (run.metrics, lambda: run.cut(1)):
        with pytest.raises(UsageError, match=r"metrics.jsonl' is damaged: line 2 does not hold the metrics of epoch 2"):
            read()
    assert run.metrics_path.read_text() == damaged


def test_lines_after_the_checkpoint_are_cut(tmp_path):
    run = Run(tmp_path)
    run.cut(0)
    assert run.metrics() == []
    for epoch in (1, 2, 3):
        run.append({"epoch": epoch})
    run.cut(1)
    assert run.metrics_path.read_text() == '{"epoch": 1}\n'


def test_nothing_is_written_where_nothing_is_cut_or_lines_are_missing(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.append({"epoch": 1})
    monkeypatch.setattr(run_module, "replacing", None)
    assert run.cut(1) == [{"epoch": 1}]
    with pytest.raises(UsageError, match="ends after epoch 1, but the checkpoint is of epoch 2"):
        run.cut(2)


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


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module.synaprune, "__file__", str(tmp_path / "__init__.py"))
    assert run_module.commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "__init__.py").touch()
    assert run_module.commit() is None  # an installed package in somebody's checkout
    for command in (["add", "."], ["commit", "-q", "-m", "y"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert head.startswith(run_module.commit())
    (tmp_path / "__init__.py").write_text("# changed")
    assert run_module.commit().endswith("-dirty")


def test_an_evaluation_is_kept_for_its_epoch(tmp_path):
    run = Run(tmp_path)
    assert run.evaluation(3) is None
    run.keep_evaluation({"epoch": 3, "energy": {"total_pj": 1.5}})
    assert run.evaluation(3) == {"epoch": 3, "energy": {"total_pj": 1.5}}
    assert run.evaluation(4) is None  # the run went on
    run.evaluation_path.write_text("{")
    assert run.evaluation(3) is None

"""Running sweeps: nothing twice, nothing lost, and no process left behind.

In most tests the children only write what `synaprune train` would write; in one they train.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from synaprune import cli
from synaprune.errors import UsageError
from synaprune.train import sweep_run
from synaprune.train.run import Run
from synaprune.train.sweep import read
from synaprune.train.sweep_run import default_jobs, run, states

# In place of the command line: `warmup` is the seconds that the run takes, `lr` may be a way to fail.
FAKE = """
import fcntl, json, pathlib, signal, time
from synaprune.train import recipes
from synaprune.train.settings import Settings

def main():
    _, recipe, *flags = sys.argv[1:]
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags if "=" in flag)
    folder = pathlib.Path(given.pop("out"))
    settings = Settings.from_mapping(recipes.override(recipes.read(recipe), given))
    lock = (folder / ".lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print(*sys.argv[1:], flush=True)
    if settings.lr == 13:
        print("synaprune: the gradient is not finite; lower --lr", file=sys.stderr)
        return 2
    if settings.lr == 14:
        raise KeyError("a bug")
    if settings.lr == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    header = {"settings": settings.to_mapping(), "versions": {}, "machine": {}}
    (folder / "settings.json").write_text(json.dumps(header))
    with (folder / "metrics.jsonl").open("a+") as file:
        file.seek(0)
        for epoch in range(len(file.readlines()) + 1, settings.epochs + 1):
            time.sleep(settings.warmup / settings.epochs)
            metrics = {"epoch": epoch, "test_accuracy": 0.5, "connectivity": 0.25, "seconds": 0.125}
            print(json.dumps(metrics), file=file, flush=True)
    return 0
"""
FAKED = sweep_run.CHILD.replace("from synaprune.cli import main\n", FAKE)
HEAD = 'recipe = "digits/grad_r"\n[settings]\nepochs = 2\nthreads = 1\n'
LONG = "warmup = 60\nepochs = 120\n"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a sweep file into the current folder and reads it; its points will not really train."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep_run, "CHILD", FAKED)
    monkeypatch.setattr(sweep_run, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sweep_run, "evaluate", lambda folder, data_dir: {"operations": {"unused": [folder.name]}})

    def write(text):
        Path("mine.toml").write_text(text)
        return read("mine.toml")

    return write


def summed_up(found):
    return {state.point.name: state.state for state in found}


def refuse(*_, **__):
    raise AssertionError("a process was started")


def test_each_point_gets_one_result_and_none_is_trained_twice(written, monkeypatch):
    plan = written(HEAD + "[[points]]\nlr = [0.1, 0.2]\n")
    done = {"grad_r-lr-0.1-seed0": "done", "grad_r-lr-0.2-seed0": "done"}
    assert summed_up(run(plan, jobs=1)) == done
    assert sorted(os.listdir("results/mine")) == [f"{name}.json" for name in done]
    record = json.loads(Path("results/mine/grad_r-lr-0.2-seed0.json").read_text())
    assert (record["point"], record["sweep"], record["seconds"]) == ("grad_r-lr-0.2", "mine", 0.25)
    assert record["command"] == "synaprune train digits/grad_r --epochs=2 --threads=1 --lr=0.2 --seed=0"
    assert record["settings"] == plan.points[1].settings.to_mapping()
    assert record["metrics"]["epoch"] == 2
    assert record["metrics"]["operations"] == {"unused": ["grad_r-lr-0.2-seed0"]}  # what is measured when it is done
    assert str(Path.cwd()) not in json.dumps(record)
    before = [path.stat().st_mtime_ns for path in sorted(Path("results/mine").iterdir())]
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert summed_up(run(plan, jobs=1)) == summed_up(states(plan)) == done
    assert [path.stat().st_mtime_ns for path in sorted(Path("results/mine").iterdir())] == before


def test_jobs_run_side_by_side_and_first_seeds_first(written):
    plan = written(
        HEAD.replace("[settings]", "seeds = [0, 1]\n[settings]\nwarmup = 0.2") + "[[points]]\nlr = [0.1, 0.2]"
    )
    seen = []
    run(plan, jobs=2, report=lambda found: seen.append([state.state for state in found]))
    assert seen[0] == ["running", "running", "waiting", "waiting"]
    assert max(line.count("running") for line in seen) == 2
    assert seen[-1] == ["done"] * 4


def test_a_point_that_fails_says_why_and_stops_no_other(written):
    plan = written(HEAD + "[[points]]\nlr = [13, 14, 15, 0.1]\n")
    found = run(plan, jobs=2)
    assert [(state.state, state.fault, state.exit_code) for state in found] == [
        ("failed", "the gradient is not finite; lower --lr", 2),
        ("failed", "KeyError: 'a bug'", 1),
        ("failed", "its process was ended by signal 9 (Killed); the same command resumes it", 1),
        ("done", "", 0),
    ]
    assert os.listdir("results/mine") == ["grad_r-lr-0.1-seed0.json"]
    assert summed_up(states(plan))["grad_r-lr-13.0-seed0"] == "waiting"


def test_a_recipe_changed_meanwhile_gives_no_result(written):
    Path("own.toml").write_text("epochs = 1\n")
    plan = written('recipe = "own.toml"\n')
    Path("own.toml").write_text("epochs = 1\nwidth = 3\n")
    [state] = run(plan)
    assert state.state == "failed"
    assert "'runs/mine/grad_r-seed0' was trained with another 'width' than the sweep began with" in state.fault
    assert os.listdir("results/mine") == []


def test_what_was_trained_with_other_settings_is_refused_and_nothing_is_run(written, monkeypatch):
    plan = written(HEAD + "[[points]]\nname = 'a'\n[[points]]\nname = 'b'\n")
    run(plan, jobs=2)
    os.remove("results/mine/b-seed0.json")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for own, sentence in (
        (
            ("alpha = 1", ""),
            "'results/mine/a-seed0.json' was trained with alpha = auto, and the sweep says 1.0; move it",
        ),
        (("", "lr = 1"), "'runs/mine/b-seed0' was trained with lr = 0.02, and the sweep says 1.0; delete it, or give"),
    ):
        plan = written(HEAD + "[[points]]\nname = 'a'\n{}\n[[points]]\nname = 'b'\n{}\n".format(*own))
        for call in (run, states):
            with pytest.raises(UsageError) as raised:
                call(plan)
            assert sentence in str(raised.value)


def test_a_second_sweep_into_the_same_results_is_refused(written):
    plan = written(HEAD)
    plan.results.mkdir(parents=True)
    descriptor = os.open(plan.results, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(UsageError, match=r"another sweep fills 'results/mine'; wait for it, or name another"):
            run(plan)
    finally:
        os.close(descriptor)
    assert not Path("runs").exists()
    assert summed_up(run(plan)) == {"grad_r-seed0": "done"}


def test_a_point_that_another_process_trains_is_waited_for(written):
    plan = written(HEAD + "[[points]]\nlr = [0.1, 0.2]\n")
    seen = []
    elsewhere = Run("runs/mine/grad_r-lr-0.1-seed0").locked()
    elsewhere.__enter__()

    def report(found):
        seen.append([state.state for state in found])
        if seen[-1] == ["waiting", "done"]:
            elsewhere.__exit__(None, None, None)

    run(plan, jobs=1, report=report)
    assert seen[0] == ["waiting", "running"]
    assert seen[-1] == ["done", "done"]


def test_absent_data_is_one_sentence_before_anything_is_started(written, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(UsageError, match="there is no folder 'nowhere', named by --data-dir"):
        run(written('recipe = "mnist/best"\nseeds = [0, 1]\n'), data_dir="nowhere")


def test_an_interrupt_ends_the_children_and_the_run_is_resumed(written):
    plan = written(HEAD.replace("epochs = 2", LONG))
    log = Path("runs/mine/grad_r-seed0.log")

    def interrupt(after):
        def report(found):
            if found[0].seconds > after:
                raise KeyboardInterrupt

        return report

    for jobs, epoch in ((1, 0), (3, 1)):  # the second run goes on where the first one stopped
        with pytest.raises(KeyboardInterrupt):
            run(plan, report=interrupt(0.125 * epoch), jobs=jobs)
        with Run("runs/mine/grad_r-seed0").locked():  # by no child
            [state] = states(plan)
        assert (state.state, state.metrics["epoch"]) == ("waiting", epoch + 1)
    assert [line.endswith("--resume") for line in log.read_text().splitlines()] == [False, True]


def test_no_child_outlives_a_sweep_that_is_killed(written):
    written(HEAD.replace("epochs = 2", LONG) + "[[points]]\nlr = [0.1, 0.2]\n")
    code = (
        "import sys; from synaprune.train import sweep, sweep_run\n"
        "sweep_run.CHILD = sys.argv[1]; sweep_run.evaluate = lambda *_, **__: {}\n"
        "sweep_run.run(sweep.read('mine.toml'), jobs=2)"
    )
    runs = [Run(f"runs/mine/grad_r-lr-{lr}-seed0") for lr in (0.1, 0.2)]
    with subprocess.Popen([sys.executable, "-c", code, FAKED]) as parent:
        wait_for(lambda: all(run.metrics_path.exists() for run in runs))
        assert not any(map(free, runs))
        parent.kill()
    wait_for(lambda: all(map(free, runs)))


def free(run):
    try:
        with run.locked():
            return True
    except UsageError:
        return False


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("threads", "jobs"), [("[1]", 8), ("[1, 3]", 2), ("[9]", 1), ("[0, 1]", 1)])
def test_jobs_fill_the_processor(threads, jobs, written, monkeypatch):
    plan = written(f'recipe = "digits/grad_r"\n[[points]]\nthreads = {threads}\n')
    monkeypatch.setattr(sweep_run, "_cpus", lambda: 8)
    assert default_jobs(plan) == jobs
    monkeypatch.setattr(sweep_run.build, "device", lambda settings: torch.device("cuda"))
    assert default_jobs(plan) == 1


REAL = """# Two small networks
recipe = "digits/grad_r"
results = "results"
[settings]
width = 16
time_steps = 3
batch_size = 256
epochs = 40
[[points]]
alpha = 0.1
[[points]]
method = "dense"
"""


@pytest.mark.slow
def test_a_killed_sweep_ends_as_one_that_was_not(tmp_path, monkeypatch, capsys):
    results = {}
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("real.toml").write_text(REAL)
        if folder == "killed":
            command = [sys.executable, "-m", "synaprune", "sweep", "real.toml", "--jobs", "1"]
            first = Run("runs/real/grad_r-alpha-0.1-seed0")
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
                wait_for(first.checkpoint_path.exists)
                parent.send_signal(signal.SIGKILL)
            assert 1 <= len(first.metrics()) < 40
            assert os.listdir("results") == []
        assert cli.main(["sweep", "real.toml", "--jobs", "1" if folder == "killed" else "2"]) == 0
        results[folder] = {path.name: json.loads(path.read_text()) for path in Path("results").iterdir()}
        out, err = capsys.readouterr()
        assert sorted(line.split()[0] for line in err.splitlines()) == ["dense-seed0", "grad_r-alpha-0.1-seed0"]
        assert "Two small networks" in out
        assert [line.split()[-1] for line in out.splitlines() if " % " in line] == ["1", "1"]
    whole, killed = results.values()
    assert whole.keys() == killed.keys() == {"grad_r-alpha-0.1-seed0.json", "dense-seed0.json"}
    for name, record in whole.items():
        record["metrics"].pop("seconds")
        killed[name]["metrics"].pop("seconds")
        assert record["metrics"] == killed[name]["metrics"]
        assert record["settings"] == killed[name]["settings"]
        assert record["command"] == killed[name]["command"]
    assert whole["grad_r-alpha-0.1-seed0.json"]["metrics"]["connectivity"] < 0.9


def test_the_tails_of_a_descent_are_results_too(tmp_path):
    file = tmp_path / "fall.toml"
    settings = "width = 16\ntime_steps = 2\nlevels = [0.5]\nsparsity = 0.8\ntail = 1\nwarmup = 0\n"
    file.write_text(f"{HEAD}{settings}[[points]]\nname = 'fall'\n")
    folders = [f"--runs={tmp_path / 'runs'}", f"--results={tmp_path / 'results'}"]
    command(file, *folders)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "fall-seed0.json",
        "fall-tail-0.5-seed0.json",
        "fall-tail-0.8-seed0.json",
    ]
    rows = [line.split("|")[1:4] for line in command(file, *folders, "--table").splitlines()[2:]]
    assert [row[0].strip() for row in rows] == ["fall", "fall-tail-0.5", "fall-tail-0.8"]
    assert [row[2].strip() for row in rows] == ["20.02 %", "50.00 %", "20.02 %"]


def command(file, *arguments):
    """What `synaprune sweep` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "synaprune", "sweep", file, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

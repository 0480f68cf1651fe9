"""Two processes train as one does, stay equal, and lose nothing when one of them is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from synaprune import cli
from synaprune.errors import UsageError
from synaprune.train import checkpoint, parallel
from synaprune.train.loop import evaluate, train
from synaprune.train.parallel import Team
from synaprune.train.run import Run
from synaprune.train.settings import Settings

SMALL = Settings(
    width=16, time_steps=3, gain=3, method="set", sparsity=0.9, period=10, lr=0.03, lr_schedule="cosine",
    batch_size=128, epochs=12, seed=5, device="cpu", threads=1,
)  # fmt: skip
LOST = (  # whichever it hears of first: the end of the other's connection, or torchrun
    "another of the 2 processes has ended, so that this one cannot go on; all finished epochs are saved, continue with",
    "ended by torchrun, for it was interrupted itself or another process has failed; all finished epochs are saved, ",
)


def torchrun(*arguments, restarts=0):
    """Start two processes of a program."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def training(tmp_path, settings, folder, *arguments, restarts=0):
    """Start two processes of the command line."""
    recipe = tmp_path / "small.toml"
    values = {name: value for name, value in settings.to_mapping().items() if value not in (None, [])}
    recipe.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    return torchrun("-m", "synaprune", "train", recipe, "--out", folder, *arguments, restarts=restarts)


def finished(process, code=0):
    """Return what a program has printed and complained of."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, re.findall("^synaprune: (.*)$", err, re.MULTILINE)


def number_of(process, rank):
    """Return the process that torchrun has started as this rank."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(status.read_text().rpartition(")")[2].split()[1])
                if parent == process.pid and b"\0RANK=%d\0" % rank in (status.parent / "environ").read_bytes():
                    return int(status.parent.name)
            except OSError:
                pass  # it has ended meanwhile
        time.sleep(0.002)
    raise AssertionError(f"there is no process {rank}")


def wait_for(folder, epochs):
    """Wait until so many epochs are finished."""
    deadline = time.monotonic() + 120
    while len(Run(folder).metrics()) < epochs and time.monotonic() < deadline:
        time.sleep(0.002)


def kill(process, rank, folder, epochs):
    """Kill a process when so many epochs are finished."""
    wait_for(folder, epochs)
    os.kill(number_of(process, rank), signal.SIGKILL)


def tensors(run):
    """Return all tensors of the checkpoint by name."""
    return checkpoint.pack(checkpoint.load(run.checkpoint_path))[1]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(SMALL, folder)
    return Run(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same run of two processes, and what they said."""
    folder = tmp_path_factory.mktemp("pair")
    said = finished(training(folder, SMALL, folder / "run"))
    return Run(folder / "run"), said


@pytest.mark.slow
def test_two_processes_follow_one(alone, pair):
    # Halves of a sum are added in another order, so single roundings differ; a spike that flips by one of them, or a
    # synapse that is dropped for another, would be seen in accuracy and connectivity.
    run, _ = pair
    theirs = tensors(run)
    for name, tensor in tensors(alone).items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-5)
    for mine, line in zip(alone.metrics(), run.metrics(), strict=True):
        assert line["loss"] == pytest.approx(mine["loss"], rel=1e-5)
        assert line["train_accuracy"] == mine["train_accuracy"]
        assert line["test_accuracy"] == mine["test_accuracy"]
        assert line["neurons"] == mine["neurons"]
        assert line["layers"] == mine["layers"]


@pytest.mark.slow
def test_the_first_process_alone_speaks_and_writes(pair):
    run, (out, complaints) = pair
    assert complaints == []
    assert out.count("test accuracy") == 1
    assert len(list(run.tensorboard_path.iterdir())) == 1
    header = run.header()
    assert header["command"][:4] == ["torchrun", "--nproc-per-node=2", "-m", "synaprune"]
    assert header["torchrun"]["processes"] == 2
    assert evaluate(run.folder)["test_accuracy"] == run.metrics()[-1]["test_accuracy"]


@pytest.mark.slow
def test_torchrun_restarts_after_a_kill_and_ends_with_the_same_weights(pair, tmp_path):
    process = training(tmp_path, SMALL, tmp_path / "run", restarts=1)
    kill(process, 1, tmp_path / "run", 3)
    finished(process)
    run, whole = Run(tmp_path / "run"), pair[0]
    assert len(list(run.tensorboard_path.iterdir())) == 2
    theirs = tensors(whole)
    for name, tensor in tensors(run).items():
        assert torch.equal(tensor, theirs[name]), name
    assert [line["loss"] for line in run.metrics()] == [line["loss"] for line in whole.metrics()]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_job_with_a_sentence_and_one_process_goes_on(rank, alone, tmp_path):
    process = training(tmp_path, SMALL, tmp_path / "run")
    kill(process, rank, tmp_path / "run", 3)
    begin = time.monotonic()
    _, complaints = finished(process, 1)
    assert time.monotonic() - begin < 20
    assert len(complaints) == 1
    assert complaints[0].startswith(LOST)
    assert 2 <= checkpoint.load(Run(tmp_path / "run").checkpoint_path)["epoch"] < SMALL.epochs
    metrics = train(SMALL, tmp_path / "run", resume=True)
    assert metrics["test_accuracy"] == alone.metrics()[-1]["test_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_for_a_killed_one_in_vain_ends_with_a_sentence(rank, tmp_path):
    process = training(tmp_path, SMALL, tmp_path / "run")
    victim = number_of(process, rank)
    os.kill(victim, signal.SIGSTOP)  # before they have met
    other = Path("/proc", str(number_of(process, 1 - rank)), "status")
    deadline = time.monotonic() + 60
    while "State:\tS" not in other.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(5)
    os.kill(victim, signal.SIGKILL)
    begin = time.monotonic()
    _, complaints = finished(process, 1)
    assert time.monotonic() - begin < 20
    assert complaints == [
        "ended by torchrun, for it was interrupted itself or another process has failed; no epoch is finished, give the"
        " same command again"
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_first_process_killed_after_the_last_epoch_is_missed_too(tmp_path):
    process = training(tmp_path, SMALL, tmp_path / "run")
    kill(process, 0, tmp_path / "run", SMALL.epochs)
    _, complaints = finished(process, 1)
    assert len(complaints) == 1
    assert complaints[0].startswith(LOST)
    out, complaints = finished(training(tmp_path, SMALL, tmp_path / "run", "--resume"))
    assert complaints == []
    assert "page: " in out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_torchrun_is_one_sentence(number, tmp_path):
    process = training(tmp_path, SMALL, tmp_path / "run")
    wait_for(tmp_path / "run", 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    complaints = re.findall("^synaprune: (.*)$", err, re.MULTILINE)
    assert len(complaints) == 1
    assert "all finished epochs are saved, continue with" in complaints[0]


def test_one_of_those_that_are_left_speaks(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    assert not parallel.speaks()  # before they have met
    assert parallel.speaks(unasked=True)
    monkeypatch.setattr(parallel._Torchrun, "store", dist.HashStore())
    answers = []
    for _ in range(3):
        monkeypatch.setattr(parallel._Torchrun, "speaks", None)
        answers.append((parallel.speaks(), parallel.speaks(), parallel.speaks(unasked=True)))
    assert answers == [(True,) * 3, (False,) * 3, (False,) * 3]


def test_without_torchrun_nobody_is_waited_for():
    parallel.finish()


@pytest.mark.slow
def test_a_taken_folder_is_one_sentence_and_a_restart_does_not_resume_it(alone, tmp_path):
    before = alone.checkpoint_path.read_bytes()
    _, complaints = finished(training(tmp_path, SMALL, alone.folder, restarts=1), 1)
    refusal = f"'{alone.folder}' already holds a run; continue it with --resume, or give another folder with --out"
    assert complaints == [refusal, refusal]  # once in each attempt
    assert alone.checkpoint_path.read_bytes() == before


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the two processes of `replicas.py` have found."""
    folder = tmp_path_factory.mktemp("replicas")
    finished(torchrun(Path(__file__).with_name("replicas.py"), folder))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grad_r", "set", "rigl", "granet", "static", "deep_r", "soft_deep_r", "str"])
def test_replicas_are_equal_over_1000_steps(method, answers):
    mine, theirs = (answer[method] for answer in answers)
    assert mine == theirs
    assert len(set(mine)) == 4  # it does train


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_refused_by_all(answers):
    assert [answer["not_finite"] for answer in answers] == ["refused", "refused"]


@pytest.mark.slow
def test_normalisation_sees_all_images_also_with_uneven_and_empty_shares(answers):
    assert max(error for answer in answers for error in answer["normalisation"]) < 1e-14


@pytest.mark.slow
def test_replicas_that_drift_apart_are_noticed(answers):
    assert [answer["drifted"] for answer in answers] == [
        ["equal", "the replicas of the network have drifted apart"]
    ] * 2


@given(st.integers(1, 300), st.integers(1, 9))
def test_shares_are_all_images_once_and_weigh_as_many_as_they_are(count, size):
    shares = [Team(rank, size).share(count) for rank in range(size)]
    assert [i for share, _ in shares for i in range(count)[share]] == list(range(count))
    for share, weight in shares:
        assert weight * count == pytest.approx((share.stop - share.start) * size)


def test_normalisation_of_one_process_is_that_of_torch(tmp_path):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        mine, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for _ in range(2):
            x = torch.randn(4, 3, 5, 5)
            torch.testing.assert_close(parallel._normalised(mine, mine.forward, x), theirs(x))
        for name, buffer in theirs.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], buffer)
        mine.eval()
        assert torch.equal(parallel._normalised(mine, mine.forward, x), mine(x))
    finally:
        dist.destroy_process_group()


@pytest.fixture
def launched(monkeypatch):
    """The environment of the third of four processes of torchrun."""
    numbers = {"RANK": 2, "LOCAL_RANK": 2, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4, "TORCHELASTIC_RESTART_COUNT": 0}
    for name, value in {**numbers, "TORCHELASTIC_RUN_ID": "job"}.items():
        monkeypatch.setenv(name, str(value))
    return monkeypatch


@pytest.mark.parametrize(
    ("settings", "device", "said"),
    [
        ({"batch_size": 6}, "cpu", r"'batch_size' \(6\) is that of all 4 processes together.*; give --batch-size 4 or"),
        ({"batch_size": 3}, "cpu", "give --batch-size 4 or another multiple of 4"),
        ({}, "cuda:1", "4 processes cannot share device 'cuda:1'; give --device cuda, or cpu"),
        ({}, "mps", "4 processes cannot share device 'mps'"),
        ({}, "cuda", "there are 3 GPUs for 4 processes, and each needs its own; lower --nproc-per-node"),
    ],
)
def test_processes_that_cannot_share(settings, device, said, launched):
    launched.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(UsageError, match=said):
        parallel.place(dataclasses.replace(SMALL, **settings), torch.device(device))


def test_each_process_has_its_gpu(launched):
    launched.setattr(torch.cuda, "device_count", lambda: 4)
    assert parallel.place(SMALL, torch.device("cuda")) == torch.device("cuda", 2)
    assert parallel.place(SMALL, torch.device("cpu")) == torch.device("cpu")
    launched.delenv("TORCHELASTIC_RUN_ID")
    assert parallel.place(SMALL, torch.device("cuda")) == torch.device("cuda")


def test_a_restart_knows_the_run_that_its_own_job_began(launched):
    header = parallel.record()
    assert not parallel.restarted(header)
    launched.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert parallel.restarted(header)
    assert not parallel.restarted({})
    launched.setenv("TORCHELASTIC_RUN_ID", "another")
    assert not parallel.restarted(header)


def test_only_the_first_says_what_all_know_and_only_train_is_shared_out(launched, capsys):
    for rank, lines in ((2, 0), (0, 1)):
        launched.setenv("RANK", str(rank))
        assert cli.main(["recipes"]) == 2
        assert capsys.readouterr().err.count("only train can be shared out by torchrun") == lines

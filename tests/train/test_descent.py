"""A run that comes down in levels: each tail ends at its own budget, and the trunk does not feel it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from synaprune.optim import GradR
from synaprune.report.records import gather
from synaprune.train import checkpoint, descent
from synaprune.train.loop import train
from synaprune.train.run import Run
from synaprune.train.schedule import stops
from synaprune.train.settings import Settings

TRUNK = Settings(
    width=16, time_steps=3, gain=3, sparsity=0.9, levels=(0.5, 0.8), schedule_flat=0.4, lr=0.03, batch_size=256,
    epochs=6, seed=5, device="cpu", threads=1,
)  # fmt: skip
WITH_TAILS = dataclasses.replace(TRUNK, tail=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run with tails."""
    folder = tmp_path_factory.mktemp("descent") / "run"
    train(WITH_TAILS, folder)
    return Run(folder)


def weights(run):
    state = checkpoint.load(run.checkpoint_path)["model"]
    return {name: tensor for name, tensor in state.items() if name.endswith("weight")}


def left(run):
    return [sum(layer["left"] for layer in line["layers"].values()) for line in run.metrics()]


def test_levels_are_reached_and_kept_to_the_synapse(whole):
    assert left(whole)[1::2] == [592, 236, 118]  # of 1,184, as shares of the whole change
    for sparsity, count in (("0.5", 592), ("0.8", 237), ("0.9", 118)):
        assert left(Run(whole.folder / "tails" / sparsity)) == [count, count]


def test_the_trunk_does_not_feel_its_tails(whole, tmp_path):
    train(TRUNK, tmp_path)
    plain = weights(Run(tmp_path))
    assert all(torch.equal(plain[name], tensor) for name, tensor in weights(whole).items())


def test_a_tail_is_a_run_whose_learning_rate_falls(whole):
    for sparsity in (0.5, 0.8, 0.9):
        tail = Run(whole.folder / "tails" / f"{sparsity:g}")
        settings = tail.settings()
        assert (settings.epochs, settings.sparsity, settings.levels, settings.lr) == (2, sparsity, None, 0.03)
        assert tail.metrics()[-1]["lr"] < 0.03 / 2
    records, missing = gather([whole.folder / "tails"])
    assert missing == []
    assert len({record.series for record in records}) == 1  # one curve


def test_a_tail_that_was_interrupted_is_made_anew(whole, tmp_path, monkeypatch):
    real, calls = GradR.step, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 2 * 6 + 8:  # in the second epoch of the first tail
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(GradR, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(WITH_TAILS, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "tails").exists()
    assert len(Run(tmp_path).metrics()) == 2
    train(WITH_TAILS, tmp_path, resume=True)
    for there, here in [(whole, Run(tmp_path))] + [
        (Run(whole.folder / "tails" / name), Run(tmp_path / "tails" / name)) for name in ("0.5", "0.8", "0.9")
    ]:
        expected = weights(there)
        assert all(torch.equal(expected[name], tensor) for name, tensor in weights(here).items())


def test_a_finished_tail_is_not_trained_again(whole, monkeypatch):
    monkeypatch.setattr(descent, "train_epoch", lambda *_, **__: pytest.fail("trained again"))
    train(WITH_TAILS, whole.folder, resume=True)


def test_without_tails_nothing_branches_off():
    assert stops(TRUNK) == {}
    assert stops(WITH_TAILS) == {2: 0.5, 4: 0.8, 6: 0.9}

"""From a run to a sparse file and back: the same network, in PyTorch and in the engine."""

from __future__ import annotations

import pytest
import torch

from synaprune import GradR, connectivity
from synaprune.data import normalize
from synaprune.engine import compile, to_torch
from synaprune.errors import UsageError
from synaprune.export import provenance, read
from synaprune.train import build
from synaprune.train.export import export
from synaprune.train.loop import evaluate, train
from synaprune.train.run import Run
from synaprune.train.settings import Settings


def trained(folder, **settings):
    """A small run in `folder`."""
    defaults = {"task": "digits", "method": "magnitude", "sparsity": 0.8, "width": 16, "time_steps": 4, "epochs": 1}
    train(Settings(**{**defaults, "gain": 3.0, "lr": 0.03, "threads": 1, **settings}), folder)
    return Run(folder)


def network_of(run):
    """The data and the network of a run's checkpoint."""
    settings, data = run.settings(), build.dataset(run.settings(), None, torch.device("cpu"))
    network = build.model(settings, data)
    network.load_state_dict(run.state()["model"])
    return data, network.eval()


def test_the_file_holds_the_run(tmp_path):
    run = trained(tmp_path / "run")
    file = export(run.folder)
    figures = evaluate(run.folder)
    assert file.path == run.folder / "sparse-fp32.safetensors"
    assert file.size == file.path.stat().st_size
    assert file.synapses == sum(layer["left"] for layer in figures["layers"].values())
    assert (file.part, file.accuracy, file.before) == ("test", figures["test_accuracy"], figures["test_accuracy"])
    origin = provenance(file.path)
    assert origin["settings"] == run.settings().to_mapping()
    assert (origin["epoch"], origin["input"]["shape"]) == (1, [1, 8, 8])


def test_accuracy_is_of_the_validation_part_of_a_run_with_holdout(tmp_path):
    file = export(trained(tmp_path / "run", holdout=200).folder, tmp_path / "file", values="int8")
    assert file.part == "validation"
    assert file.path == tmp_path / "file"
    assert file.accuracy == pytest.approx(file.before, abs=0.03)


def test_grad_r_goes_on_from_a_file(tmp_path):
    run = trained(tmp_path / "run")
    _, network = network_of(run)
    model = to_torch(read(export(run.folder).path))
    here, there = (dict(each.named_parameters()) for each in (model, network))
    assert [tuple(p.shape) for p in here.values()] == [tuple(p.shape) for p in there.values()]
    assert all(torch.equal(a, b) for a, b in zip(here.values(), there.values()))
    optimizer = GradR(model, lr=1e-3, alpha=0.0)
    assert optimizer.connectivity() == connectivity(network)
    x = torch.randn(50, 1, 8, 8)
    before = model(x).current
    before.sum().backward()
    optimizer.step()
    assert not torch.equal(model(x).current, before)


def test_a_convolutional_run(tmp_path):
    run = trained(tmp_path / "run", model="cnn", width=8, sparsity=0.3, batch_size=32, lr=0.01, dropout=0.0)
    data, network = network_of(run)
    file = export(run.folder)
    x = normalize(data.test_images[:100], data.mean, data.std)
    with torch.no_grad():
        expected, found = network(x).rate, to_torch(read(file.path)).eval()(x).rate
    assert expected.count_nonzero() > 0
    # Normalisation folded into the weights rounds elsewhere: a potential at the threshold may fall to its other side.
    for answer in (found, torch.from_numpy(compile(file.path)(x))):
        assert torch.isclose(answer, expected, atol=1e-6).float().mean() > 0.99
    assert file.accuracy == pytest.approx(file.before, abs=0.02)


def test_a_run_without_the_line_of_its_checkpoint(tmp_path):
    run = trained(tmp_path / "run")
    run.metrics_path.write_text("")
    with pytest.raises(UsageError, match="has no line of epoch 1, of which the checkpoint is; restore it"):
        export(run.folder)

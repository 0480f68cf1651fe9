"""One epoch: what the loss is, what is random, what is counted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from synaprune.data import Dataset, normalize
from synaprune.measure import connectivity
from synaprune.models import Readout
from synaprune.train import build
from synaprune.train import epoch as epochs
from synaprune.train.settings import Settings

SETTINGS = Settings(width=12, time_steps=3, gain=3, alpha=0.1, lr=0.02, batch_size=256, epochs=4, device="cpu")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_random_numbers():
    with torch.random.fork_rng(devices=[]):
        yield


def make(settings=SETTINGS):
    data = build.dataset(settings, None, CPU)
    network = build.model(settings, data)
    return data, network, build.optimizer(settings, network, 100)


def run(settings, data, network, optimizer, epoch, report=None):
    return epochs.train_epoch(settings, data, network, network, optimizer, epoch, report)


@pytest.mark.parametrize(("loss", "value"), [("mse", 0.07), ("ce", 0.6931471805599453), ("mse+ce", 0.7631471805599453)])
def test_objective(loss, value):
    output = Readout(rate=torch.tensor([[0.7, 0.1], [0.4, 1.0]]), current=torch.tensor([[3.0, 3.0], [-1.0, -1.0]]))
    settings = Settings(loss=loss)
    # mse: (0.3² + 0.1² + 0.4² + 0²)/4 = 0.065; labels 0 and 1
    expected = value - 0.005 if "mse" in loss else value
    assert epochs.objective(settings, output, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-6)


def test_an_epoch_depends_on_its_number_and_the_state_alone():
    data, network, optimizer = make()
    run(SETTINGS, data, network, optimizer, 1)
    weights, state = ({k: v.clone() for k, v in network.state_dict().items()}, optimizer.state_dict())
    ends = []
    for spoil in (0, 1):
        data, network, optimizer = make()
        network.load_state_dict(weights)
        optimizer.load_state_dict(state)
        torch.rand(7 * spoil)  # where the global generator stands must not matter
        metrics = run(SETTINGS, data, network, optimizer, 2)
        ends.append((metrics, network.state_dict()))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(ends[0][1][name], ends[1][1][name]) for name in weights)


def test_seed_and_epoch_and_stream_give_different_numbers():
    seeds = {build.seed(Settings(seed=s), e, n) for s in range(3) for e in range(3) for n in range(3)}
    assert len(seeds) == 27
    assert build.seed(Settings(seed=1), 2, 0) == 15529898885419721899


def test_loss_and_accuracy_are_means_over_the_images_also_with_a_partial_batch():
    settings = dataclasses.replace(SETTINGS, lr=1e-30, alpha=0.0, batch_size=1000)
    data, network, optimizer = make(settings)
    metrics = run(settings, data, network, optimizer, 1)
    with torch.no_grad():
        output = network(normalize(data.train_images, data.mean, data.std))
    assert metrics["loss"] == pytest.approx(epochs.objective(settings, output, data.train_labels).item(), rel=1e-5)
    assert metrics["train_accuracy"] == (output.rate.argmax(1) == data.train_labels).double().mean().item()


def test_learning_rate_reaches_every_group_and_is_reported():
    settings = dataclasses.replace(SETTINGS, lr_schedule="cosine", epochs=1)
    data, network, optimizer = make(settings)
    metrics = run(settings, data, network, optimizer, 1)
    assert {group["lr"] for group in optimizer.param_groups} == {metrics["lr"]}
    assert 0 < metrics["lr"] < 0.3 * settings.lr


def test_clipping_bounds_the_gradient():
    settings = dataclasses.replace(SETTINGS, clip_grad=1e-3)
    data, network, optimizer = make(settings)
    norms = []
    step = optimizer.step
    optimizer.step = lambda: (norms.append(nn.utils.get_total_norm([p.grad for p in network.parameters()])), step())
    run(settings, data, network, optimizer, 1)
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_augmentation_gets_images_strength_and_a_seeded_generator(monkeypatch):
    calls = []

    def augment(images, strength, generator):
        calls.append((images.dtype, strength, torch.rand(1, generator=generator).item()))
        return images

    monkeypatch.setitem(epochs.AUGMENTATIONS, "mnist", augment)
    settings = dataclasses.replace(SETTINGS, task="mnist", augment=1.0, augment_end=0.0, epochs=1)
    digits = build.dataset(SETTINGS, None, CPU)
    data = dataclasses.replace(digits, name="mnist")
    for _ in range(2):
        network = build.model(settings, data)
        run(settings, data, network, build.optimizer(settings, network, 100), 1)
    half = len(calls) // 2
    assert calls[:half] == calls[half:]
    assert {dtype for dtype, *_ in calls} == {torch.uint8}
    assert [strength for _, strength, _ in calls[:half]] == pytest.approx([1 - i / half for i in range(half)])


def test_reports_while_it_runs(monkeypatch):
    monkeypatch.setattr(epochs, "REPORT_SECONDS", -1.0)
    data, network, optimizer = make()
    reports = []
    metrics = run(SETTINGS, data, network, optimizer, 1, reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert {report.steps for report in reports} == {6}
    assert reports[-1].loss == metrics["loss"]
    assert reports[-1].accuracy == metrics["train_accuracy"]
    assert reports[-1].connectivity == connectivity(network)
    assert reports[-1].metrics is None


def test_evaluation_counts_in_batches_as_at_once(monkeypatch):
    data, network, optimizer = make()
    run(SETTINGS, data, network, optimizer, 1)
    whole = epochs.evaluate_network(SETTINGS, data, network)
    monkeypatch.setitem(epochs.TEST_BATCH, "mlp", 7)
    pieces = epochs.evaluate_network(SETTINGS, data, network)
    assert pieces["test_accuracy"] == whole["test_accuracy"]
    for name, figures in whole["neurons"].items():
        assert pieces["neurons"][name] == pytest.approx(figures)
    with torch.no_grad():
        answers = network(normalize(data.test_images, data.mean, data.std)).rate.argmax(1)
    assert whole["test_accuracy"] == (answers == data.test_labels).double().mean().item()
    assert [figures["neurons"] for figures in whole["neurons"].values()] == [12, 10]


def test_holdout_never_touches_the_test_images(monkeypatch):
    digits = build.dataset(SETTINGS, None, CPU)

    class Poison(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            raise AssertionError("the test set was touched")

    poison = torch.zeros(3).as_subclass(Poison)
    poisoned: Dataset = dataclasses.replace(digits, test_images=poison, test_labels=poison)
    monkeypatch.setattr(build, "load", lambda *_: poisoned)
    settings = dataclasses.replace(SETTINGS, holdout=100)
    data, network, optimizer = make(settings)
    assert len(data.train_labels) == 1337
    run(settings, data, network, optimizer, 1)
    figures = epochs.evaluate_network(settings, data, network)
    assert "test_accuracy" not in figures
    assert 0 < figures["validation_accuracy"] * 100 == pytest.approx(round(figures["validation_accuracy"] * 100))
    assert torch.equal(data.test_labels, digits.train_labels[-100:])
    with pytest.raises(AssertionError, match="touched"):  # the poison works
        epochs.evaluate_network(SETTINGS, poisoned, network)


def test_topology_adds_up():
    data, network, optimizer = make()
    optimizer.turnover()
    before = epochs.topology(network)
    run(SETTINGS, data, network, optimizer, 1)
    after = epochs.topology(network, optimizer)
    assert list(after["layers"]) == list(before["layers"])
    for name, layer in after["layers"].items():
        assert layer["left"] == before["layers"][name]["left"] - layer["pruned"] + layer["regrown"]
        assert layer["connectivity"] == layer["left"] / layer["synapses"]
    assert after["pruned"] == sum(layer["pruned"] for layer in after["layers"].values()) > 0
    assert after["connectivity"] == connectivity(network) == optimizer.connectivity()


@pytest.mark.parametrize(
    ("settings", "still"),
    [
        (Settings(method="dense", width=12), {"fc1.weight", "fc2.weight"}),
        (dataclasses.replace(SETTINGS, exclude=("fc2.*",)), {"fc2.weight"}),
    ],
)
def test_layers_that_are_not_rewired_lose_nothing_and_count(settings, still):
    data, network, optimizer = make(settings)
    optimizer.turnover()
    run(settings, data, network, optimizer, 1)
    for name, layer in epochs.topology(network, optimizer)["layers"].items():
        assert ((layer["pruned"], layer["left"]) == (0, layer["synapses"])) == (name in still)


def test_bf16_computes_in_bfloat16_and_keeps_float32_weights():
    settings = dataclasses.replace(SETTINGS, precision="bf16")
    data, network, optimizer = make(settings)
    kinds = set()
    network.fc1.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    metrics = run(settings, data, network, optimizer, 1)
    epochs.evaluate_network(settings, data, network)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert metrics["train_accuracy"] > 0.15

"""The benchmarks run and print the ratio they are there for; how large it is belongs to a quiet machine."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synaprune.optim import METHODS
from synaprune.train.loop import train
from synaprune.train.settings import Settings

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


def run(name, *arguments):
    command = [sys.executable, BENCHMARKS / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_optimizer_step():
    assert re.search(
        r"Grad R +[\d.]+ ms +[\d.]+ x fused Adam", run("optimizer_step.py", "--network=mnist", "--repeats=3")
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--steps=20"], ["--small", "--steps=20"]])
def test_optimizer_step_of_every_method(arguments):
    printed = run("optimizer_step.py", "--methods", "--repeats=1", *arguments)
    named = re.findall(r"\| (\w+).*? \| [\d.]+ \| [\d.]+ \| [\d.]+", printed)
    assert set(named) == METHODS.keys() - {"dense"}


def test_ranking(tmp_path):
    points = {
        "set": ([0.90, 0.92], [0.80]),
        "stds": ([0.91, 0.94], [0.85]),
        "rigl": ([0.50, 0.51], [0.84]),
        "soft_deep_r": ([0.99], [0.99]),
    }
    for method, budgets in points.items():
        for sparsity, accuracies in zip((0.9, 0.95), budgets):
            for seed, accuracy in enumerate(accuracies):
                settings = {"method": method, "sparsity": sparsity, "holdout": 0, "lr": 0.1, "seed": seed}
                left = 1 - sparsity if method != "soft_deep_r" else 0.3
                metrics = {"test_accuracy": accuracy, "connectivity": left}
                record = {"point": method, "settings": settings, "metrics": metrics, "seconds": 1}
                (tmp_path / f"{method}-{sparsity}-{seed}.json").write_text(json.dumps(record))
    settings |= {"method": "rigl", "sparsity": 0.95, "lr": 0.2}
    record |= {"settings": settings, "metrics": {"test_accuracy": 0.7, "connectivity": 0.05}}
    (tmp_path / "other.json").write_text(json.dumps(record))
    figure = tmp_path / "ranking.svg"
    assert run("ranking.py", tmp_path, f"--figure={figure}").splitlines() == [
        "| method | 10 % | 5 % | mean rank |",
        "| --- | ---: | ---: | ---: |",
        "| STDS | **92.50 ± 19.06** | **85.00** | 1 |",
        "| RigL | 50.50 ± 6.35 | 84.00 (0.1) | 2.5 |",
        "| SET | **91.00 ± 12.71** | 80.00 | 2.5 |",
    ]
    assert figure.read_text().count("soft Deep R") == 1
    assert run("ranking.py", tmp_path, "--rates").splitlines()[:5] == [
        "| method | connectivity | 0.1 | 0.2 |",
        "| --- | ---: | ---: | ---: |",
        "| RigL | 10.00 % | **50.50** |  |",
        "| RigL | 5.00 % | **84.00** | 70.00 |",
        "| SET | 10.00 % | **91.00** |  |",
    ]


@pytest.mark.parametrize(
    ("page", "arguments"),
    [
        ("methods/README.md", ["results/mnist/published"]),
        ("methods/README.md", ["results/mnist/methods"]),
        ("mnist.md", ["results/mnist/methods_tune", "--rates"]),
    ],
)
def test_tables_in_the_docs_are_those_of_the_records(page, arguments):
    folder, *flags = arguments
    assert run("ranking.py", ROOT / folder, *flags).strip() in (ROOT / "docs" / page).read_text()


def test_every_method_has_its_result_on_its_page():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "methods").glob("[!R]*.md"))
    for folder in ("published", "methods"):
        for row in run("ranking.py", ROOT / "results" / "mnist" / folder).splitlines()[2:]:
            assert " | ".join(row.replace("*", "").split(" | ")[1:-1]) in pages


@pytest.mark.slow
def test_train_step():
    printed = run("train_step.py", "--width=50", "--batch=16", "--repeats=3")
    assert re.search(r"step by step +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+\n", printed)
    assert "parts: data" in printed


@pytest.mark.slow
def test_train_step_with_a_budget_in_bfloat16():
    options = (
        "--model=cnn --width=4 --batch=4 --time-steps=2 --repeats=3 --precision=bf16 --method=grad_r --sparsity=0.9"
    )
    printed = run("train_step.py", *options.split())
    assert re.search(r"budget [\d.]+ \([\d.]+ once in 16 steps\)", printed)
    assert re.search(r"[\d,]+ samples per second, [\d,]+ MB at the peak", printed)


@pytest.mark.slow
def test_budget():
    printed = run("budget.py", "--network=mnist", "--repeats=2")
    assert re.search(r"solution [\d.]+ ms once in 16 steps = [\d.]+%", printed)


ABLATION = ["--recipe=digits/grad_r", "--sparsity=0.95", "--lr=3e-2", "--epochs=10", "--warmup=1", "--holdout=300"]


@pytest.fixture
def ablations(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ablations")


def test_ablations(ablations, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ablations.py", *arguments, f"--out={tmp_path}"])
        ablations.main()
        return capsys.readouterr().out

    assert run(*ABLATION).count(" at 5.00%") == 2
    paths = {name: tmp_path / f"gradient-{name}-0.95-seed0.json" for name in ("redefined", "true")}
    redefined, true = (json.loads(path.read_text()) for path in paths.values())

    # It is measured without being touched: the run is that of `synaprune train`.
    plain = train(Settings.from_mapping(redefined["settings"]), tmp_path / "plain")
    for name in ("loss", "validation_accuracy", "layers"):
        assert redefined["metrics"][name] == plain[name]
    assert true["metrics"]["loss"] != plain["loss"]

    for epoch in redefined["epochs"]:
        angles = epoch["angles"]
        assert angles["redefined"]["mean"] <= angles["redefined"]["largest"] < 90
        assert all(0 < angle["mean"] < 180 for angle in angles.values())

    written = {path: path.stat().st_mtime_ns for path in paths.values()}
    run(*ABLATION)
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == written  # nothing is computed again

    figure = tmp_path / "angles.svg"
    table = run("--table", f"--figure={figure}")
    angle = redefined["epochs"][0]["angles"]["redefined"]["mean"]
    assert f"| gradient-redefined-0.95 | 0 | true and redefined gradient | {angle:.1f}° |" in table
    assert "</svg>" in figure.read_text()


def test_ablations_true_gradient(ablations):
    weight = torch.tensor([1.0, 0.0, -2.0], requires_grad=True)
    optimizer = ablations.TrueGradient([weight], lr=0.5, alpha=0.0, base=torch.optim.SGD, margin=0.1)
    before = optimizer.theta(weight)
    weight.grad = torch.tensor([1.0, 1.0, 1.0])
    optimizer.step()
    assert (optimizer.theta(weight) - before).tolist() == [-0.5, 0.0, 0.5]


def test_ablations_degrees(ablations):
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([3.0, 3.0])
    assert ablations.degrees(a, b) == pytest.approx(45.0)
    assert ablations.degrees(a, -a) == 180.0
    assert ablations.degrees(a, 0 * a) == 90.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--holdout=0"], "--holdout must be at least 1"),
        (["--lr", "1", "2", "3"], "one for each --sparsity"),
        (["--figure=angles.gif"], "must end in .png or .svg"),
        (["--table"], "holds no result of the redefined gradient"),
        (["--recipe=digits/grad_r", "--epochs=5"], "'warmup' (10.0) must not be above 'epochs' (5)"),
    ],
)
def test_ablations_bad_input(ablations, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["ablations.py", *arguments, f"--out={tmp_path}"])
    with pytest.raises(SystemExit, match="2"):
        ablations.main()
    assert words in capsys.readouterr().err


def test_ablations_refuses_other_settings(ablations, tmp_path, monkeypatch, capsys):
    settings = {"task": "mnist", "seed": 0, "sparsity": 0.95}
    metrics = {"validation_accuracy": 0.9, "connectivity": 0.05}
    record = {
        "point": "",
        "settings": settings,
        "metrics": metrics,
        "seconds": 0,
        "gradient": "redefined",
        "epochs": [],
    }
    (tmp_path / "gradient-redefined-0.95-seed0.json").write_text(json.dumps(record))
    monkeypatch.setattr(sys, "argv", ["ablations.py", *ABLATION, f"--out={tmp_path}"])
    with pytest.raises(SystemExit, match="2"):
        ablations.main()
    assert "was trained with another 'task'" in capsys.readouterr().err


def test_inference():
    printed = run("inference.py", "--network=mnist", "--repeats=3", "--batch=5")
    assert re.search(r"dense fp32 +[\d.]+ +[\d.]+ × +[\d.,]+ +[\d.]+ ×", printed)
    assert re.search(r"one, dense fp32: [\d.]+ x, limit 15: ", printed)
    assert "31,360 products with analog input" in printed


def test_break_even(tmp_path):
    figure = tmp_path / "break-even.svg"
    printed = run("inference.py", "--break-even", "--quick", f"--figure={figure}")
    assert re.search(r"2.0%: engine [\d.]+ ms, dense fp32 [\d.]+ ms = [\d.]+ x, dense bf16", printed)
    assert re.search(r"break-even connectivity with dense bf16: [\w .]+ %", printed)
    assert "PyTorch dense bf16" in figure.read_text()


def test_break_even_is_interpolated(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    crossing = importlib.import_module("inference").crossing
    assert crossing([(0.1, 4.0), (0.4, 0.25)]) == "20.00 %"
    assert crossing([(0.05, 8.0), (0.1, 2.0), (0.2, 0.5)]) == "14.14 %"
    assert crossing([(0.1, 0.9), (0.4, 0.25)]) == "below 10.00 %"
    assert crossing([(0.1, 4.0), (0.4, 1.0)]) == "above 40.00 %"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say what a process takes")
@pytest.mark.parametrize(
    ("name", "held", "peak"),
    [("alpha", 24, 24), ("budget", 24, 32), ("budget, erk", 24, 26.7), ("alpha, base not fused", 24, 28)],
)
def test_memory_of_the_optimizer_is_what_the_docs_say(name, held, peak, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    memory = importlib.import_module("optimizer_memory")
    assert memory.measured(memory.OPTIONS[name], 12_000_000) == (
        pytest.approx(held, abs=0.5),
        pytest.approx(peak, abs=0.7),
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what a process takes")
def test_memory(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    memory = importlib.import_module("memory")
    peaks = memory.peaks()
    assert list(peaks.values()) == sorted(peaks.values())
    beyond = peaks["after a batch of 32"] - peaks["with NumPy"]
    assert 5e6 < beyond < 1.15 * memory.LIMIT  # another NumPy and another allocator may take a little more

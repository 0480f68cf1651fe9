"""The benchmarks run and print the ratio they are there for; how large it is belongs to a quiet machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


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
def test_train_step():
    assert re.search(r"ratio", run("train_step.py", "--width=50", "--batch=16", "--repeats=3"))


@pytest.mark.slow
def test_inference():
    printed = run("inference.py", "--network=mnist", "--repeats=3", "--batch=5")
    assert re.search(r"dense fp32 +[\d.]+ +[\d.]+ x", printed)
    assert re.search(r"effective MACs 31,360;", printed)


def test_mnist_table():
    table = run("mnist.py", "table")
    assert table.startswith("| point |")

"""What the tests of reports share: a run that was really trained, a written page of it, and a browser."""

from __future__ import annotations

import shutil

import pytest
from browser import CHROMIUM, Browser

from synaprune.report.page import run_page
from synaprune.train.loop import evaluate, train
from synaprune.train.run import Run
from synaprune.train.settings import Settings

SMALL = Settings(
    width=16, time_steps=3, gain=3, sparsity=0.9, alpha="auto", lr=0.03, batch_size=256, epochs=6, device="cpu",
    threads=1,
)  # fmt: skip


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("trained") / "run")
    train(SMALL, run.folder, command=["synaprune", "train", "digits/grad_r", "--out", "a b"])
    run.keep_evaluation(evaluate(run.folder))
    return run


@pytest.fixture
def trained(_trained, tmp_path):
    """A trained and measured run, in a folder of the test's own."""
    return Run(shutil.copytree(_trained.folder, tmp_path / "trained"))


@pytest.fixture(scope="session")
def page(_trained, tmp_path_factory):
    """The page of that run, as a file."""
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_text(run_page(_trained.folder), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()

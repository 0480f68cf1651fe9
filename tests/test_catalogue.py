import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import synaprune
from synaprune import optim
from synaprune.budget import constant
from synaprune.catalogue import CATALOGUE, named, owners
from synaprune.optim import METHODS
from synaprune.options import OPTIONS

DOCS = Path(synaprune.__file__).parent.parent / "docs" / "methods"
STEPS = 40
BEGINS = {"dense": 1.0, "half": 0.5, "sparse": 0.25}
every_method = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)


def options_of(entry):
    signature = inspect.signature(METHODS[entry.name]).parameters
    asked = {"sparsity": 0.75} if entry.number else {}
    if asked and "schedule" in signature:
        asked |= {"schedule": constant(steps=STEPS), "period": 5}
    return asked


def test_names_are_in_order_and_their_own():
    assert list(CATALOGUE) == sorted(CATALOGUE)
    assert [entry.name for entry in CATALOGUE.values()] == list(CATALOGUE)
    assert len({entry.shown for entry in CATALOGUE.values()}) == len(CATALOGUE)
    assert (named("grad_r"), named("of another version")) == ("Grad R", "of another version")


def test_every_optimizer_has_a_row():
    assert {entry.optimizer for entry in CATALOGUE.values()} == set(optim.__all__) - {"METHODS", "Rewirer"}


@every_method
def test_a_row_says_what_the_optimizer_does(entry):
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    method = METHODS[entry.name]
    optimizer = method(model, lr=1e-3, **options_of(entry))
    assert optimizer.connectivity() == pytest.approx(BEGINS[entry.begins], abs=0.05 if entry.number == "average" else 0)
    options = [name for name in inspect.signature(method).parameters if name in OPTIONS]
    assert (method.__name__, sorted(options)) == (entry.optimizer, sorted(entry.options))
    assert entry.strength is None or entry.strength in options


@every_method
def test_a_number_is_met_exactly_where_the_row_says_so(entry):
    model = nn.Linear(64, 64, bias=False)
    optimizer = METHODS[entry.name](model, lr=1e-3, **options_of(entry))
    for _ in range(STEPS):
        (0.0 * model(torch.ones(1, 64))).sum().backward()
        optimizer.step()
    expected = {"exact": 0.25, "average": pytest.approx(0.25, abs=0.1), None: 1.0}
    assert optimizer.connectivity() == expected[entry.number]


@every_method
def test_the_page_of_a_method_names_its_optimizer(entry):
    assert re.search(rf"\b{entry.optimizer}\b", (DOCS / entry.page).read_text()) or entry.number is None


def test_the_table_of_the_documentation_has_a_line_for_every_method():
    rows = re.findall(
        r"^\| \[.*\]\((\w+\.md)\)[^|]*\| ([a-z ]*) \|.*\| ([a-z, ]+) \|$", (DOCS / "README.md").read_text(), re.M
    )
    begins = {"dense": "dense", "half": "half dense", "sparse": "sparse"}
    asked = {
        entry.page: (
            begins[entry.begins],
            "number" + " on average" * (entry.number == "average") + ", strength" * bool(entry.strength),
        )
        for entry in CATALOGUE.values()
        if entry.number
    }
    assert sorted(page for page, *_ in rows) == sorted(entry.page for entry in CATALOGUE.values() if entry.number)
    assert {(page, *said) for page, said in asked.items()} <= set(rows)


def test_owners_of_an_option():
    assert owners("gated") == ("lats", "stds")
    assert owners("of nobody") == ()
    assert {name for entry in CATALOGUE.values() for name in entry.options} == OPTIONS.keys()


def test_reading_it_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import synaprune.catalogue, synaprune.options"
    subprocess.run([sys.executable, "-c", code], check=True)

import inspect
import re
import runpy
from pathlib import Path

import pytest

import synaprune
from synaprune.optim import METHODS, Dense
from synaprune.optim.documented import with_arguments

DOCS = Path(synaprune.__file__).parent.parent / "docs" / "methods"


def function(self, params, lr, sparsity=None, drop=0.3):
    """Stand in for a method."""


def test_what_a_docstring_says_itself_comes_first():
    doc = """Do it.

    More.

    Args:
        drop: mine, on
            two lines.

    Raises:
        UsageError: never.
    """
    assert re.sub("share of(?s:.*)}`\\)", "⋯", with_arguments(doc, function)) == (
        "Do it.\n\nMore.\n\nArgs:\n"
        "    params: a module, or what any torch optimizer takes (see `Rewirer`).\n"
        "    lr: learning rate η of the base optimizer.\n"
        "    sparsity: ⋯. Group option.\n"
        "    drop: mine, on two lines.\n"
        "\nRaises:\n    UsageError: never.\n"
    )


@pytest.mark.parametrize("doc", ["Do it.", "Do it.\n\nRaises:\n    UsageError: never."])
def test_a_docstring_without_arguments_gets_them(doc):
    assert re.search(r"Do it\.\n\nArgs:\n    params: .*\n    lr: ", with_arguments(doc, function))
    assert with_arguments(doc, function).count("never") == doc.count("never")


def test_what_nobody_documents_is_passed_over():
    class Mine(Dense):
        """Do it my way."""

        def __init__(self, mine, lr=1e-3, **options):
            super().__init__(mine, lr, **options)

    assert re.findall(r"^    (\w+): ", Mine.__doc__, re.M) == ["lr"]


@pytest.mark.parametrize("method", METHODS.values())
def test_every_parameter_of_a_method_is_documented_in_order(method):
    section = re.search(r"Args:\n((?:    .*\n)*)", method.__doc__)[1]
    assert re.findall(r"^    (\w+): ", section, re.M) == list(inspect.signature(method).parameters)


def test_the_page_of_all_options_is_up_to_date():
    """Else: python docs/methods/options.py."""
    assert (DOCS / "options.md").read_text() == runpy.run_path(str(DOCS / "options.py"))["page"]()

"""The house: no layer imports from above, and a method is one short file."""

import ast
import io
import tokenize
from pathlib import Path

import pytest
from torch.optim import Optimizer

import synaprune
from synaprune.optim import METHODS, Rewirer
from synaprune.optim.rule import Rule

ROOT = Path(synaprune.__file__).parent
LAYERS = [
    {"cli"},
    {"report"},
    {"train"},
    {"engine", "export"},
    {"models", "data"},
    {"optim"},
    {"budget"},
    {"measure"},
    {"synapses"},
    {"computed"},
    {"schema"},
    {"reading"},
    {"catalogue", "files", "errors", "options", "plain", "tensorfile", "terminal"},
]


def imported(file):
    """The parts of synaprune that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        if isinstance(node, ast.Import) or names == ["synaprune"]:
            names = [f"{'synaprune.' if names else ''}{alias.name}" for alias in node.names]
        parts = [name.split(".")[1] for name in names if name.startswith("synaprune.")]
        yield from (part for part in parts if part != "__version__")


@pytest.mark.parametrize("part", sorted(set().union(*LAYERS)))
def test_no_layer_imports_from_above(part):
    level = next(i for i, layer in enumerate(LAYERS) if part in layer)
    below = set().union(*LAYERS[level:])
    files = [*ROOT.glob(f"{part}.py"), *ROOT.glob(f"{part}/**/*.py")]
    assert files
    assert {name for file in files for name in imported(file)} <= below


def test_every_part_has_a_layer():
    parts = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__", "__main__"} == set().union(*LAYERS)


def code_lines(file):
    """Count lines that hold code: neither blank, nor comments, nor documentation."""
    source = file.read_text()
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING):
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def test_a_method_is_a_short_file():
    sizes = {file.name: code_lines(file) for file in ROOT.glob("optim/**/*.py")}
    assert sizes.pop("rewirer.py") <= 350
    assert max(sizes.values()) <= 150


def test_no_tower_of_classes():
    rewirers = [method for method in METHODS.values() if Rewirer not in method.__bases__]
    assert (rewirers, Rewirer.__bases__) == ([], (Optimizer,))
    rules = [rule for rule in everything_below(Rule) if rule.__module__.startswith("synaprune.")]
    assert len(rules) > len(METHODS) - 2  # RigL and straight-through magnitude are others' with a choice
    assert max(rule.__mro__.index(Rule) for rule in rules) == 2


def everything_below(kind):
    return {kind}.union(*map(everything_below, kind.__subclasses__())) if kind.__subclasses__() else {kind}

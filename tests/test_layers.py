"""The house: no layer imports from above, and a method is one short file."""

import ast
from pathlib import Path

import pytest

import synaprune

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
    {"catalogue", "files", "errors", "plain", "tensorfile", "terminal"},
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


def test_a_method_is_a_short_file():
    assert not [file.name for file in ROOT.glob("optim/**/*.py") if len(file.read_text().splitlines()) > 250]

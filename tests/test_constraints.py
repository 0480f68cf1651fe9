"""The list of what `make` installs without asking the packages: it has to hold all that they need."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINNED = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in LINES)}
LEFT_OUT = {"torchaudio", "torchvision"}  # asked for by packages that use them in parts which nothing here imports


def unmet(requirements, extras=()):
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras))
        if not wanted or name in LEFT_OUT or name in ("setuptools", "synaprune"):  # torch pins the one
            continue
        if name not in PINNED or not requirement.specifier.contains(PINNED[name]):
            yield str(requirement)


def test_what_synaprune_asks_for_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [name for names in project["project"]["optional-dependencies"].values() for name in names]
    assert not list(unmet([*project["project"]["dependencies"], *extras, *project["build-system"]["requires"]]))


def test_what_the_pinned_packages_ask_for_is_pinned():
    asked = {}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        if name in PINNED and name != "torch":  # which brings its own, other ones for each build
            asked[name] = list(unmet(distribution.requires or []))
    assert len(asked) > len(PINNED) / 2
    assert {name: rest for name, rest in asked.items() if rest} == {}


def test_nothing_is_left_out_and_pinned():
    assert not LEFT_OUT & PINNED.keys()

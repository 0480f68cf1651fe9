"""The command line: `train`, `eval`, `report`, `watch`, `export`, `bench`, `sweep`, `recipes`."""

from synaprune.cli.main import main

__all__ = ["main"]

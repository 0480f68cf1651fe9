"""Figures of runs."""

from __future__ import annotations

from synaprune.report.figures import training_figure

__all__ = ["training_figure"]

"""Pages and figures of runs and comparisons."""

from __future__ import annotations

from synaprune.report.compare_page import comparison_page
from synaprune.report.figures import training_figure
from synaprune.report.page import run_page

__all__ = ["comparison_page", "run_page", "training_figure"]

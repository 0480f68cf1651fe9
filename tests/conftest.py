"""What all tests need."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A shell that starts the tests in the background makes them, and all that they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Where several processes test at once, each of them, and all that they start, has one core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TERM"] = "xterm"  # what is shown in one that cannot move its cursor is tested by its name


@pytest.fixture
def real_data() -> Path:
    root = os.environ.get("SYNAPRUNE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("SYNAPRUNE_DATA does not name a folder with the real data sets")
    return Path(root)

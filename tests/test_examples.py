"""The examples run as they stand and learn while they prune."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", path], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    accuracy, connectivity = map(float, re.search(r"accuracy (.*)% at (.*)% connectivity", done.stdout).groups())
    assert accuracy > 85
    assert 0 < connectivity < 50


def test_every_framework_has_one():
    assert [path.stem for path in EXAMPLES] == [
        "norse_loop",
        "recurrent_events",
        "sew_resnet",
        "snntorch_loop",
        "spikingjelly_loop",
    ]

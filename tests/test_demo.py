"""What `make demo` promises: digits at exactly 5 % connectivity, 95 % test accuracy or better, in seconds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parent.parent / "Makefile").read_text()


@pytest.mark.slow
def test_demo_keeps_its_promise(tmp_path):
    recipe = re.search(r"synaprune train (\S+) --out runs/demo", MAKEFILE).group(1)
    command = [sys.executable, "-m", "synaprune", "train", recipe, "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    final = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert final["test_accuracy"] >= 0.95
    assert final["connectivity"] == 0.05
    assert f"figure: {tmp_path}" in done.stdout
    assert done.stdout.splitlines()[-1] == f"page: {tmp_path / 'report.html'}"
    assert all(word in done.stdout for word in ("fc1", "fc2", "connectivity", "firing rate", "test accuracy"))
    epochs = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["seconds"] for line in epochs) < 60  # 4 s where nothing else runs

"""The public names: all there, and torch only when one is used."""

import subprocess
import sys

import pytest

import synaprune


def test_every_public_name_is_found():
    for name in synaprune.__all__:
        assert getattr(synaprune, name) is not None
        assert name in dir(synaprune)
    assert synaprune.__all__ == sorted(synaprune.__all__)
    assert synaprune.optim.GradR is synaprune.GradR
    assert synaprune.engine.Network.__module__ == "synaprune.engine.graph"
    with pytest.raises(AttributeError, match="has no attribute 'GradX'"):
        synaprune.GradX  # noqa: B018


def test_import_waits_with_torch_and_never_takes_spikingjelly():
    code = "import sys, synaprune; a = 'torch' in sys.modules; synaprune.GradR; print(a, 'spikingjelly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

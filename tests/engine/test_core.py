import pytest

from synaprune.engine.core import Memory
from synaprune.errors import MachineError


def test_memory_is_aligned_and_zero():
    memory = Memory(256)
    assert memory.address % 64 == 0
    assert memory.words(128, 32).tolist() == [0] * 32


def test_memory_that_is_not_there():
    with pytest.raises(MachineError, match=r"no memory for the 4,611,686,018,427,387,904 bytes that one run"):
        Memory(2**62)

"""What is said where the memory is full: what did not fit into it, and what can be lowered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synaprune.errors import MachineError

__all__ = ["memory_for"]

# What torch says where it has no memory left, and no class of its own to say it with.
NO_MEMORY = ("not enough memory", "DefaultCPUAllocator", "out of memory")


@contextmanager
def memory_for(what: str, remedy: str = "free some") -> Iterator[None]:
    """Name what the memory was too small for; the innermost of several is the one that says it.

    Raises:
        MachineError: what is done within needs more memory than there is.

    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        raise MachineError(f"not enough memory for {what}; {remedy}") from error

"""What a file of the Python version of CIFAR-10 holds, taken out of it without running it.

A pickle is a program, which may do anything to whoever loads it. Here its words are only listed, by `pickletools`: the
pixels are the one text of their length, the labels are the whole numbers that follow the text `labels`.
"""

from __future__ import annotations

import pickletools

from synaprune.errors import UsageError

__all__ = ["pixels_and_labels"]

WHOLE = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1")


def pixels_and_labels(content: bytes, size: int) -> tuple[bytes, list[int]]:
    """Return the `size` bytes of the pixels and the labels that a pickled batch holds.

    Raises:
        UsageError: it is no pickle, or holds no text of so many bytes.

    """
    pixels: bytes | None = None
    labels: list[int] = []
    follow = False
    try:
        for code, word, _ in pickletools.genops(content):
            if isinstance(word, str | bytes | bytearray):
                follow = word in ("labels", b"labels")
                if len(word) == size:
                    pixels = word.encode("latin-1") if isinstance(word, str) else bytes(word)
            elif follow and code.name in WHOLE and isinstance(word, int):
                labels.append(word)
    except ValueError as error:
        raise UsageError("is not a complete pickle") from error
    if pixels is None:
        raise UsageError(f"holds no {size:,} pixels in one piece")
    return pixels, labels

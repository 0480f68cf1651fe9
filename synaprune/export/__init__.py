"""A trained network out of PyTorch: sparse files."""

from __future__ import annotations

from synaprune.export.sparse import provenance, read, write

__all__ = ["provenance", "read", "write"]

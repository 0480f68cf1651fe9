"""`python -m synaprune` is `synaprune`."""

from __future__ import annotations

import sys

from synaprune.cli import main

if __name__ == "__main__":
    sys.exit(main())

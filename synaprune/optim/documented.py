"""What is said of each option once, in the docstrings of the methods and on a page of the documentation.

python -m synaprune.optim.documented > docs/methods/options.md
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from synaprune.options import ARGUMENTS, OPTIONS

__all__ = ["with_arguments"]

SECTION = re.compile(r"^Args:\n((?:    .*\n)*)\n*", re.M)
ENTRY = re.compile(r"^    (\w+): ((?:.*\n)(?:        .*\n)*)", re.M)
WIDTH = 116


def with_arguments(doc: str, init: Callable[..., Any]) -> str:
    """Return a docstring whose section `Args:` names all parameters of `init` in their order.

    What the docstring itself says of one comes first; of the others it says what `OPTIONS` and `ARGUMENTS` do.
    """
    doc = inspect.cleandoc(doc) + "\n"
    section = SECTION.search(doc)
    own = dict(ENTRY.findall(section[1])) if section else {}
    lines = ["Args:"]
    for name in list(inspect.signature(init).parameters)[1:]:
        option = f"{OPTIONS[name].said}. Group option." if name in OPTIONS else ""
        if not (said := own.get(name) or (f"{ARGUMENTS[name]}." if name in ARGUMENTS else option)):
            continue  # somebody's own, who says nothing of it
        lines += textwrap.wrap(
            f"{name}: {' '.join(said.split())}", WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
    begin = section.start() if section else doc.find("Raises:\n") if "Raises:\n" in doc else len(doc)
    end = section.end() if section else begin
    return "\n".join([doc[:begin].rstrip(), "", *lines, "", doc[end:]]).rstrip() + "\n"

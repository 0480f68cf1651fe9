"""Write options.md, the page of all options, from what the code says of them.

python docs/methods/options.py
"""

from __future__ import annotations

import inspect
from pathlib import Path

from synaprune.catalogue import CATALOGUE, owners
from synaprune.optim import METHODS
from synaprune.options import OPTIONS

HEAD = """# All options

What the methods can be told beside `params`, `lr`, `base`, `include`, `exclude` and the options of the base. Every
option is one of parameter groups, so that tensors can have their own. A budget is said as `sparsity`, `connectivity` or
`synapses`. The pages of the methods say more.

| option | what it does | default |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page: what each option does, and its default under each method."""
    return HEAD + "".join(f"| `{name}` | {option.said} | {defaults(name)} |\n" for name, option in OPTIONS.items())


def defaults(name: str) -> str:
    """Return the defaults of an option, each with the methods that have it."""
    found: dict[str, list[str]] = {}
    for method in owners(name):
        default = inspect.signature(METHODS[method]).parameters[name].default
        plain = "none" if default is None else ("off", "on")[default] if isinstance(default, bool) else f"`{default}`"
        found.setdefault(plain, []).append(CATALOGUE[method].optimizer)
    return ", ".join(f"{default} ({', '.join(methods)})" for default, methods in found.items())


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page())

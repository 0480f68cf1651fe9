"""The parts of a comparison's page: what is best at each budget, the reader's choices, the series by budget.

How a series looks is for the page's script to say, since it depends on what the reader has chosen; here it only has a
place, an empty swatch.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from synaprune.report.compare_figures import PUBLISHED
from synaprune.report.costs import COSTS, Cost
from synaprune.report.figure import Look, percent
from synaprune.report.html import text
from synaprune.report.pivot import Cell, Pivot
from synaprune.report.records import Record

__all__ = ["best", "by_budget", "chooser", "glyphs", "switch"]

GLYPHS = {
    "circle": "<circle cx='14' cy='6' r='4'/>",
    "square": "<path d='M10 2h8v8h-8z'/>",
    "triangle-up": "<path d='M14 1.5l5 9H9z'/>",
    "diamond": "<path d='M14 .5l4.5 5.5-4.5 5.5L9.5 6z'/>",
    "triangle-down": "<path d='M14 10.5l5-9H9z'/>",
    "cross": "<path d='M12.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z'/>",
    "triangle-right": "<path d='M19 6l-9 5V1z'/>",
    "triangle-left": "<path d='M9 6l9-5v10z'/>",
}


def glyphs() -> str:
    """Return the marks that swatches use."""
    marks = "".join(f"<g id='mark-{name}'>{shape}</g>" for name, shape in GLYPHS.items())
    return f"<svg width='0' height='0' class='glyphs' aria-hidden='true'><defs>{marks}</defs></svg>"


def best(table: Pivot) -> str:
    """Return a tile for each budget: the best series, its accuracy and cost, and which are as good."""
    tiles = []
    dense = _dense(table)
    for column, budget in enumerate(table.budgets):
        found = table.best(column)
        if found is None:
            continue
        series, cell = found
        costs = "".join(_cost(cost, cell, dense) for cost in COSTS)
        near = table.near(column)
        others = ", ".join(near[:2]) + (f" and {len(near) - 2} more" if len(near) > 2 else "")
        as_good = f'<span class="near">on a par with {text(others)}</span>' if near else ""
        tiles.append(
            f'<li><span class="unit budget">{_share(budget)} left</span>'
            f"<b>{percent(cell.accuracy.mean)}</b><strong>{_swatch(series)}{text(series)}</strong>{costs}{as_good}"
        )
    return f'<ul class="tiles best">{"".join(tiles)}</ul>' if tiles else ""


def chooser(looks: Mapping[str, Look], front: Sequence[str]) -> str:
    """Return the boxes that bring series forward, those of the others on demand."""
    others = [series for series in looks if series not in front]
    shown = "".join(_box(series, looks, True) for series in front)
    more = "".join(_box(series, looks, False) for series in others)
    behind = f'<details class="others"><summary><span></span></summary><div>{more}</div></details>' if others else ""
    return (
        '<fieldset class="legend shared"><legend>Series in colour</legend>'
        f'<div class="front">{shown}</div>{behind}'
        f'<label class="rest"><input type="checkbox" id="grey"{" checked" * bool(others)}>the rest in grey</label>'
        "</fieldset>"
    )


def switch(name: str, title: str, options: Mapping[str, str], chosen: str) -> str:
    """Return buttons of which one is pressed; nothing where there is no choice."""
    if len(options) < 2:
        return ""
    buttons = "".join(
        f'<label><input type="radio" name="{text(name)}" value="{text(value)}"{" checked" * (value == chosen)}>'
        f"{text(label)}</label>"
        for value, label in options.items()
    )
    return f'<fieldset class="switch"><legend>{text(title)}</legend>{buttons}</fieldset>'


def by_budget(table: Pivot, looks: Mapping[str, Look], front: Sequence[str], accuracy: str) -> str:
    """Return the table of series by budget, the best of each in bold; nothing where there is no budget."""
    if not table.budgets:
        return ""
    heads = "".join(f'<th scope="col">{_share(budget)}</th>' for budget in table.budgets)
    rows = []
    for series, cells in table.rows.items():
        name = _box(series, looks, series in front)
        rows.append(f'<tr><th scope="row">{name}</th>{"".join(map(_cell, cells))}')
    note = (
        "In %, ± half of the 95 % interval. Bold is the best at its budget, ≈ what cannot be told from it: Welch's"
        " t-test over the seeds at 5 %, for each pair alone. Where a series has several points at a budget, its best."
    )
    if any(cell is not None and not cell.keeps for cells in table.rows.values() for cell in cells):
        note += " Grey kept more synapses than the budget."
    if table.outside:
        count = len(table.outside)
        note += f" {count} {'points' if count > 1 else 'point'} at no budget: in the list below."
    title = f"{accuracy[:1].upper()}{accuracy[1:]} by budget"
    return (
        f'<section id="by-budget"><h2>{text(title)}</h2><p class="note">{text(note)}</p>'
        f'<div class="scroll whole" tabindex="0" role="region" aria-label="{text(title)}, table">'
        f'<table class="pivot"><thead><tr><th scope="col" class="text">series</th>{heads}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _share(budget: float) -> str:
    """Return a budget in the digits that it was given in.

    >>> _share(1 - 0.9927), _share(1 - 0.95), _share(1.0)
    ('0.73 %', '5 %', '100 %')
    """
    return f"{100 * budget:.3g} %"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td>"
    mean, half = cell.accuracy
    number = f"{100 * mean:.2f}"
    interval = "" if half is None else f" <small>±{100 * half:.2f}</small>"
    if not cell.keeps:
        return f'<td class="over">{number} <small>at {percent(cell.connectivity)}</small>'
    if cell.best:
        return f'<td class="best"><b>{number}</b>{interval}'
    return f'<td class="near">≈ {number}{interval}' if cell.near else f"<td>{number}{interval}"


def _box(series: str, looks: Mapping[str, Look], checked: bool) -> str:
    """Return a box that brings a series forward, with the names that its look follows."""
    look = looks[series]
    return (
        f'<label><input type="checkbox" class="series" data-family="{text(look.family)}"'
        f' data-sweep="{text(look.sweep)}" value="{text(series)}"{" checked" * checked}>{_swatch(series)}'
        f"<span>{text(series)}</span></label>"
    )


def _swatch(series: str) -> str:
    points = " points" * (series == PUBLISHED)
    return (
        f"<svg class='swatch{points}' data-of='{text(series)}' viewBox='0 0 28 12' aria-hidden='true'>"
        "<path d='M0 6h28'/><use href='#mark-circle'/></svg>"
    )


def _dense(table: Pivot) -> Cell | None:
    """Return the best dense network, if there is one."""
    cells = [cell for its in table.rows.values() for cell in its if cell is not None and _is_dense(cell.records)]
    return max(cells, key=lambda cell: cell.accuracy.mean, default=None)


def _is_dense(records: Sequence[Record]) -> bool:
    return records[0].settings.get("method") == "dense"


def _cost(cost: Cost, cell: Cell, dense: Cell | None) -> str:
    """Return what a cell costs in one measure, and what share that is of the dense network."""
    own, whole = (_mean(cost, one.records) if one is not None else None for one in (cell, dense))
    if own is None:
        return ""
    share = f", {100 * own / whole:.2g} % of dense" if whole and cell is not dense else ""
    number = f"{own:,.0f}" if own >= 100 else f"{own:.3g}"
    return f'<span class="unit" data-option="{text(cost.name)}">{number} {text(cost.unit)}{share}</span>'


def _mean(cost: Cost, records: Sequence[Record]) -> float | None:
    values = [value for value in map(cost.value, records) if value is not None]
    return statistics.fmean(values) if len(values) == len(records) else None

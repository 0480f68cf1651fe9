"""One HTML file that holds everything: text, style, data, and the scripts that draw.

A content security policy forbids the file every request and every script but its own, which it knows by their hashes:
whatever a name from outside may contain, nothing of it can run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from typing import Any

from synaprune.report import vega
from synaprune.report.figure import Axis, Column, Figure, Table, shown

__all__ = ["details", "document", "figure", "legend", "listing", "missing", "table", "text", "tiles"]

FILES = resources.files("synaprune.report")
SCRIPTS = ("vendor/vega.min.js", "vendor/vega-lite.min.js", "page.js")


def text(value: object) -> str:
    """Return any text as HTML that shows just that.

    >>> text('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return escape(str(value))


def document(title: str, body: Iterable[str], figures: Sequence[Figure], live: str = "") -> str:
    """Return the page; `live` is a further script, which may ask the server that the page came from."""
    scripts = [_script(name) for name in SCRIPTS] + [live] * bool(live)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in scripts
    )
    # Vega compiles its own expressions, hence unsafe-eval; no expression comes from outside.
    policy = f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
    policy += "; connect-src 'self'" if live else ""
    content = [
        {
            "key": f.key,
            "option": f.option,
            "x": _axis(f.x),
            "y": _axis(f.y, f.other_y),
            "axes": _axes(f),
            "traces": vega.data(f),
        }
        for f in figures
    ]
    # In a script element only "</" and "<!--" mean anything to the parser.
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    style = FILES.joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{text(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            *body,
            '<div id="tip" role="status" hidden></div><div id="dot" hidden></div>',
            f'<script type="application/json" id="figures">{data}</script>',
            *(f"<script>{code}</script>" for code in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def figure(f: Figure, with_legend: bool = True) -> str:
    """Return the place of a figure: heading, legend, drawing, note, and the table behind it."""
    key = text(f.key)
    kinds = {trace.kind for trace in f.traces}
    own = legend(f) if with_legend and len(f.series) > 1 else ""
    option = f' data-option="{text(f.option)}"' if f.option else ""
    return (
        f'<section id="{key}"{option} aria-labelledby="title-{key}">'
        f'<h2 id="title-{key}">{text(f.title)}</h2>{own}'
        f'<div class="draw{" map" * ("map" in kinds)}" id="draw-{key}" role="img" aria-label="{text(f.title)}:'
        f' {text(f.note)}"></div><p class="note">{text(f.note)}</p>'
        f"{details('Table', table(f.table, f.title))}</section>"
    )


def legend(f: Figure) -> str:
    """Return the boxes that switch the series of a figure."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{text(series)}" checked>{_swatch(f, series)}{text(series)}</label>'
        for series in f.series
    )
    return f'<fieldset class="legend" data-figure="{text(f.key)}"><legend>Shown</legend>{boxes}</fieldset>'


def table(t: Table, caption: str, sortable: bool = False, series: Sequence[str] = ()) -> str:
    """Return a table; with `sortable` its heads are buttons, and `series` says for each row which box hides it."""
    heads = "".join(_head(column, sortable) for column in t.columns)
    forms = [column.form for column in t.columns]
    marks = [' class="text"' if form == "text" else "" for form in forms]
    rows = []
    for index, row in enumerate(t.rows):
        own = f' data-series="{text(series[index])}"' if series else ""
        cells = "".join(f"<td{mark}>{text(shown(cell, form))}" for mark, cell, form in zip(marks, row, forms))
        rows.append(f"<tr{own}>{cells}")
    place = "scroll whole" if sortable else "scroll"
    return (
        f'<div class="{place}" tabindex="0" role="region" aria-label="{text(caption)}, table">'
        f"<table{' class=sortable' * sortable}><thead><tr>{heads}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Return content that is shown on demand."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def listing(pairs: Mapping[str, object]) -> str:
    """Return names and values."""
    return f"<dl>{''.join(f'<dt>{text(name)}<dd>{text(value)}' for name, value in pairs.items())}</dl>"


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the few figures that count: each a value, and what it is."""
    items = (f'<li><b>{text(value)}</b><span class="unit">{text(name)}</span></li>' for name, value in pairs)
    return f'<ul class="tiles">{"".join(items)}</ul>'


def missing(sentences: Sequence[str]) -> str:
    """Return what the page does not show, and how to have it shown; nothing where nothing is missing."""
    items = "".join("<li>" + re.sub("`([^`]*)`", r"<code>\1</code>", text(sentence)) for sentence in sentences)
    return f'<div class="missing"><b>Missing on this page</b><ul>{items}</ul></div>' if items else ""


def _script(name: str) -> str:
    """Return a script without the address of its source map, which a browser might ask for."""
    code = FILES.joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"//# sourceMappingURL=\S*\s*$", "", code)


def _axis(axis: Axis, other: Axis | None = None) -> dict[str, Any]:
    """Return what is said of a value on an axis; of an error also the accuracy is said."""
    axis = other if other is not None and axis.scale == "error" else axis
    return {"title": axis.title, "share": axis.share}


def _axes(f: Figure) -> list[dict[str, Any]]:
    """Return the specification for the vertical axis, and for the one that the reader may choose instead."""
    turned = [f] if f.other_y is None else [f, replace(f, y=f.other_y, other_y=f.y)]
    return [{"error": one.y.scale == "error", "spec": vega.specification(one)} for one in turned]


def _head(column: Column, sortable: bool) -> str:
    mark = ' class="text"' if column.form == "text" else ""
    title = f'<button type="button">{text(column.title)}</button>' if sortable else text(column.title)
    return f'<th scope="col"{mark}>{title}</th>'


def _swatch(f: Figure, series: str) -> str:
    """Return the line of a series, or its bar, for the legend."""
    kinds = {trace.kind for trace in f.traces if trace.series == series}
    colour, dashes = vega.colour(f, series), vega.dash(f, series)
    if kinds == {"bar"}:
        drawn = f"<path d='M9 1h10v10H9z' fill='{colour}'/>"
    else:
        dash = f" stroke-dasharray='{','.join(map(str, dashes))}'" if dashes != vega.DASHES[0] else ""
        drawn = f"<path d='M0 6h28' fill='none' stroke='{colour}' stroke-width='2.5'{dash}/>"
    return f"<svg viewBox='0 0 28 12' aria-hidden='true'>{drawn}</svg>"

"""The file that holds everything: what it is made of, and that nothing from outside can act in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

from synaprune.report import html
from synaprune.report.figure import Axis, Column, Figure, Table, Trace

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&<!--"


class Elements(HTMLParser):
    """The elements of a page, and the text within each kind."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text, self.attributes = [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        if self.found:
            self.text.setdefault(self.found[-1], []).append(data)


def document(name):
    trace = Trace(name, [1, 2], [0.1, 0.2], names=name)
    figure = Figure(
        name, name, name, Axis("x"), Axis("y"), [trace, Trace("b", [1], [1])], Table([Column(name)], [[name]])
    )
    body = [
        html.figure(figure), html.legend(figure), html.missing([name]), html.tiles([(name, name)]),
        html.listing({name: name}), html.table(figure.table, name, sortable=True, series=[name]),
    ]  # fmt: skip
    return html.document(name, body, [figure])


def test_names_from_outside_stay_text():
    evil, plain = Elements(document(EVIL)), Elements(document("name"))
    assert evil.found == plain.found
    assert evil.attributes == plain.attributes
    assert evil.found.count("script") == 4
    figures = json.loads("".join(evil.text["script"][:1]))
    assert figures[0]["traces"][0]["s"] == EVIL
    assert EVIL in "".join(evil.text["td"])


def test_the_policy_knows_every_script_and_allows_no_request():
    page = document("name")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "sourceMappingURL" not in page


def test_a_live_page_may_ask_where_it_came_from_alone():
    page = html.document("live", [], [], "poll();")
    assert "connect-src 'self'" in page
    assert "<script>poll();</script>" in page


def test_the_vendored_scripts_are_those_that_are_named():
    folder = resources.files("synaprune.report") / "vendor"
    listed = dict(re.findall(r"`([\w.-]+\.js)`.*`([0-9a-f]{64})`", (folder / "README.md").read_text()))
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(".js")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == listed


def test_tables():
    table = Table(
        [Column("run"), Column("accuracy", "share"), Column("n", "count")], [["a", 0.975, 1234], ["b", None, 5]]
    )
    page = html.table(table, "Points", sortable=True, series=["x", "y"])
    assert '<th scope="col" class="text"><button type="button">run</button></th>' in page
    assert '<tr data-series="x"><td class="text">a<td>97.50 %<td>1,234<tr' in page
    assert '<tr data-series="y"><td class="text">b<td><td>5</tbody>' in page
    assert "<button" not in html.table(table, "Points")


def test_nothing_missing_is_no_box():
    assert html.missing([]) == ""
    assert "<code>synaprune eval a</code>" in html.missing(["run `synaprune eval a` first"])

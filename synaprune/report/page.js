"use strict";
// Glue between the page and Vega: draws the figures, and serves legends, hovering and sorting.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const views = {};
  const hidden = {}; // for each figure the series that are switched off
  const tip = document.getElementById("tip");
  const dot = document.getElementById("dot");

  // Traces are kept as lists; Vega wants rows.
  const rowsOf = (traces) => {
    const rows = {};
    traces.forEach((trace, t) => {
      const all = (rows[trace.k] ??= []);
      const at = typeof trace.x === "number" ? (i) => i + 1 : (i) => trace.x[i];
      trace.y.forEach((y, i) => all.push({
        s: trace.s, t, i, x: at(i), y, l: trace.l?.[i], h: trace.h?.[i], v: trace.v?.[i],
        n: Array.isArray(trace.n) ? trace.n[i] : trace.n,
      }));
    });
    return rows;
  };

  const number = (value, axis) => {
    if (axis.share) return `${Number((100 * value).toPrecision(4))} %`;
    return typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en") : String(value);
  };

  const said = (row, figure) => {
    if (row.v !== undefined) return `row ${row.y}, column ${row.x}: ${row.v.toLocaleString("en")} synapses`;
    const lines = [row.n ? `${row.s} · ${row.n}` : row.s];
    lines.push(`${figure.x.title} ${number(row.x, figure.x)}`);
    const interval = row.l == null ? "" : ` (${number(row.l, figure.y)} to ${number(row.h, figure.y)})`;
    lines.push(`${figure.y.title} ${number(row.y, figure.y)}${interval}`);
    return lines.join("\n");
  };

  const hideTip = () => { tip.hidden = dot.hidden = true; };

  // The nearest value to the pointer: one rule for lines, points, bars and maps, with a mouse or a finger.
  const follow = (view, figure, rows, box) => {
    const all = Object.entries(rows).flatMap(([kind, list]) => (kind === "level" ? [] : list));
    const place = (name, value) => {
      const scale = view.scale(name);
      return scale(value) + (scale.bandwidth ? scale.bandwidth() / 2 : 0);
    };
    const moved = (event) => {
      const svg = box.querySelector("svg").getBoundingClientRect();
      const [left, top] = view.origin();
      const shrink = svg.width / box.querySelector("svg").width.baseVal.value;
      const toX = (row) => svg.left + shrink * (left + place("x", row.x));
      const toY = (row) => svg.top + shrink * (top + place("y", row.y));
      let best = null;
      let least = 60 ** 2;
      for (const row of all) {
        if (row.y == null || row.x == null || hidden[figure.key].includes(row.s)) continue;
        const distance = (toX(row) - event.clientX) ** 2 + (toY(row) - event.clientY) ** 2;
        if (distance < least) [best, least] = [row, distance];
      }
      if (!best) return hideTip();
      tip.textContent = said(best, figure);
      tip.hidden = dot.hidden = false;
      const x = toX(best);
      const y = toY(best);
      dot.style.transform = `translate(${x}px, ${y}px)`;
      const right = Math.min(x + 12, document.documentElement.clientWidth - tip.offsetWidth - 4);
      tip.style.transform = `translate(${Math.max(4, right)}px, ${Math.max(4, y - tip.offsetHeight - 12)}px)`;
    };
    box.addEventListener("pointermove", moved);
    box.addEventListener("pointerdown", moved);
    box.addEventListener("pointerleave", hideTip);
  };

  const draw = async (figure) => {
    const box = document.getElementById(`draw-${figure.key}`);
    const rows = rowsOf(figure.traces);
    const spec = vegaLite.compile({ ...figure.spec, datasets: rows }).spec;
    const view = new vega.View(vega.parse(spec), { renderer: "svg", container: box, hover: false });
    view.tooltip(() => {});
    await view.runAsync();
    views[figure.key] = view;
    hidden[figure.key] = [];
    follow(view, figure, rows, box);
  };

  // Legends: each box switches one series in the figures that it names, and the rows of tables that carry it.
  document.querySelectorAll("fieldset.legend input").forEach((input) => {
    input.addEventListener("change", () => {
      const legend = input.closest("fieldset");
      const off = [...legend.querySelectorAll("input:not(:checked)")].map((other) => other.value);
      const shared = "shared" in legend.dataset;
      for (const key of shared ? Object.keys(views) : [legend.dataset.figure]) {
        hidden[key] = off;
        views[key].signal("hidden", off).runAsync();
      }
      if (shared) {
        for (const row of document.querySelectorAll("tr[data-series]")) row.hidden = off.includes(row.dataset.series);
      }
      hideTip();
    });
  });

  // Tables: a button in each head sorts; numbers by value, the rest by letter, empty cells last.
  document.querySelectorAll("table.sortable th button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const up = head.getAttribute("aria-sort") !== "ascending";
      head.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const text = row.cells[head.cellIndex].textContent;
        const figure = parseFloat(text.replaceAll(",", ""));
        return [text === "", Number.isNaN(figure) ? text : figure];
      };
      const sorted = [...body.rows].map((row) => [value(row), row]).sort(([[emptyA, a]], [[emptyB, b]]) => {
        if (emptyA || emptyB) return emptyA - emptyB;
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
        return up ? order : -order;
      });
      body.append(...sorted.map(([, row]) => row));
    });
  });

  // On paper two figures stand side by side; a drawing made for the screen would be shrunk, words and all.
  addEventListener("beforeprint", () => {
    const width = figures.length > 1 ? 340 : 680;
    for (const figure of figures) {
      if (figure.spec.width === "container") views[figure.key]?.width(width).run();
    }
  });
  addEventListener("afterprint", () => dispatchEvent(new Event("resize")));

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  document.addEventListener("scroll", hideTip, { passive: true });

  (async () => {
    for (const figure of figures) await draw(figure);
    document.documentElement.dataset.drawn = figures.length + 1; // for tests: true also of a page without figures
    performance.mark("drawn");
  })();
})();

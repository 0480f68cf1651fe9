"use strict";
// Glue between the page and Vega: draws the figures, and serves legends, choices, hovering and sorting.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const views = {}; // by figure what is drawn: its view, its rows, whether its axis is of errors, and whether it stands
  const hidden = {}; // for each figure the series that are switched off
  const tip = document.getElementById("tip");
  const dot = document.getElementById("dot");
  const all = (selector) => [...document.querySelectorAll(selector)];

  // Traces are kept as lists; Vega wants rows.
  const rowsOf = (traces) => {
    const rows = {};
    traces.forEach((trace, t) => {
      const list = (rows[trace.k] ??= []);
      const at = typeof trace.x === "number" ? (i) => i + 1 : (i) => trace.x[i];
      trace.y.forEach((y, i) => list.push({
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

  // ---- Series of a comparison: some are in front, each with a look of its own, the others behind in grey.

  const boxes = all("input.series");
  const grey = document.getElementById("grey");
  const known = new Map(boxes.map((box) => [box.value, box.dataset]));
  const sweeps = [...new Set([...known.values()].map((one) => one.sweep).filter(Boolean))];
  const front = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const slots = new Map(); // of the families in front: each keeps the colour that was free when it came
  let looks = new Map();

  const COLOURS = 8;
  const DASHES = [[1, 0], [7, 3], [2, 2], [9, 2, 2, 2]];
  const SHAPES = [
    "circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left",
  ];

  const findLooks = () => {
    const families = [...front].map((series) => known.get(series).family);
    for (const family of [...slots.keys()]) if (!families.includes(family)) slots.delete(family);
    for (const family of families) {
      const taken = [...slots.values()];
      if (!slots.has(family)) slots.set(family, families.findIndex((_, slot) => !taken.includes(slot)));
    }
    looks = new Map([...front].map((series) => {
      const { family, sweep } = known.get(series);
      const slot = slots.get(family);
      const turn = Math.max(0, sweeps.indexOf(sweep));
      const paint = `var(--c${(slot % COLOURS) + 1})`;
      const shape = SHAPES[(slot + Math.floor(slot / COLOURS)) % SHAPES.length];
      return [series, { paint, fill: turn ? "var(--page)" : paint, dash: DASHES[turn % DASHES.length], shape }];
    }));
  };

  const absent = () => (grey?.checked ? [] : [...known.keys()].filter((series) => !front.has(series)));

  const setLooks = (key) => {
    if (!known.size) return;
    const { view } = views[key];
    const list = [...looks.values()];
    view.signal("front", [...looks.keys()]).signal("grey", grey.checked);
    for (const [name, one] of [["paints", "paint"], ["fills", "fill"], ["dashes", "dash"], ["shapes", "shape"]]) {
      view.signal(name, list.map((look) => look[one]));
    }
    hidden[key] = absent();
  };

  // Places at least a line apart and in order, as near as can be to those wanted, which are sorted: least squares, by
  // pooling neighbours that would come too close.
  const apart = (wanted, line, low, high) => {
    const step = Math.min(line, (high - low) / Math.max(1, wanted.length - 1));
    const pools = [];
    wanted.forEach((place, i) => {
      pools.push({ sum: place - i * step, count: 1 });
      for (;;) {
        const [before, last] = pools.slice(-2);
        if (!last || before.sum / before.count <= last.sum / last.count) break;
        pools.splice(-2, 2, { sum: before.sum + last.sum, count: before.count + last.count });
      }
    });
    const most = high - step * (wanted.length - 1);
    return pools.flatMap(({ sum, count }) => Array(count).fill(Math.max(low, Math.min(most, sum / count))))
      .map((place, i) => place + i * step);
  };

  // Names beside the ends of the curves in front, apart from each other and from the name of the level.
  const pen = document.createElement("canvas").getContext("2d");
  const label = (key) => {
    if (!known.size || !views[key]?.ready) return;
    const { view, rows, error, height } = views[key];
    pen.font = "12px system-ui, sans-serif";
    const [x, y] = [view.scale("x"), view.scale("y")];
    const level = rows.level?.[0];
    const ends = new Map();
    for (const row of rows.mean ?? rows.line ?? []) {
      if (!looks.has(row.s) || row.s === level?.s || row.x == null || row.y == null) continue;
      const end = { series: row.s, x: x(row.x), y: y(height(row.y)), accuracy: row.y };
      const other = ends.get(row.s);
      const further = !other || end.x > other.x || (end.x === other.x && end.accuracy > other.accuracy);
      if (Number.isFinite(end.y) && further) ends.set(row.s, end);
    }
    const names = [...ends.values()].map((end) => {
      const width = pen.measureText(end.series).width;
      const left = Math.max(0, Math.min(end.x + 10, view.width() - width));
      return { series: end.series, left, right: left + width, y: left === end.x + 10 ? end.y : end.y - 12 };
    });
    // Those above each other are moved together.
    const groups = [];
    for (const name of names.sort((a, b) => a.left - b.left)) {
      const last = groups.at(-1);
      if (last && name.left < last.right) {
        last.names.push(name);
        last.right = Math.max(last.right, name.right);
      } else groups.push({ names: [name], left: name.left, right: name.right });
    }
    const placed = groups.flatMap((group) => {
      let [low, high] = [6, view.height() - 6];
      if (level && group.left < pen.measureText(level.n).width + 6) {
        if (error) high = y(height(level.y)) - 9; else low = y(height(level.y)) + 9;
      }
      group.names.sort((a, b) => a.y - b.y);
      const places = apart(group.names.map((name) => name.y), 15, low, Math.max(low, high));
      return group.names.map(({ series, left }, i) => (
        { px: left, py: places[i], text: series, paints: looks.get(series).paint }
      ));
    });
    view.data("label", placed).run();
  };

  const showLooks = async () => {
    findLooks();
    for (const swatch of all("svg.swatch")) {
      const look = looks.get(swatch.dataset.of);
      swatch.style.setProperty("--paint", look?.paint ?? "var(--faint)");
      swatch.style.setProperty("--fill", look?.fill ?? "var(--faint)");
      swatch.querySelector("path").setAttribute("stroke-dasharray", look ? look.dash.join(" ") : "1 0");
      swatch.querySelector("use").setAttribute("href", `#mark-${look?.shape ?? "circle"}`);
    }
    const off = absent();
    if (grey) grey.closest("label").hidden = front.size === known.size;
    for (const row of all("tr[data-series]")) row.hidden = off.includes(row.dataset.series);
    const others = document.querySelector(".others");
    if (others) {
      const count = others.querySelectorAll("label").length;
      others.hidden = count === 0;
      others.querySelector("summary span").textContent = `${count} more: choose here, or touch a line`;
    }
    hideTip();
    for (const key of Object.keys(views)) {
      setLooks(key);
      await views[key].view.runAsync();
      label(key);
    }
  };

  const bring = (series, on) => {
    if (on) front.add(series); else front.delete(series);
    for (const box of boxes.filter((one) => one.value === series)) {
      box.checked = on;
      const name = box.closest("label");
      if (on && name.closest(".others")) {
        const focused = document.activeElement === box;
        document.querySelector(".front").append(name);
        if (focused) box.focus();
      }
    }
    return showLooks();
  };

  for (const box of boxes) box.addEventListener("change", () => bring(box.value, box.checked));
  grey?.addEventListener("change", showLooks);

  // ---- Hovering: the nearest value to the pointer, one rule for lines, points, bars and maps, with mouse or finger.

  const hideTip = () => { tip.hidden = dot.hidden = true; };

  const said = (row, figure) => {
    if (row.v !== undefined) return `row ${row.y}, column ${row.x}: ${row.v.toLocaleString("en")} synapses`;
    const lines = [row.n ? `${row.s} · ${row.n}` : row.s];
    lines.push(`${figure.x.title} ${number(row.x, figure.x)}`);
    const interval = row.l == null ? "" : ` (${number(row.l, figure.y)} to ${number(row.h, figure.y)})`;
    const error = figure.axes.length > 1 ? `, error ${number(1 - row.y, figure.y)}` : "";
    lines.push(`${figure.y.title} ${number(row.y, figure.y)}${interval}${error}`);
    if (known.size && !front.has(row.s)) lines.push("click to bring it forward");
    return lines.join("\n");
  };

  const nearest = (figure, box, event) => {
    const { view, rows, height } = views[figure.key];
    const drawn = box.querySelector("svg");
    const svg = drawn.getBoundingClientRect();
    const [left, top] = [view.origin()[0] + view.padding().left, view.origin()[1] + view.padding().top];
    const shrink = svg.width / drawn.width.baseVal.value;
    const place = (name, value) => {
      const scale = view.scale(name);
      return scale(value) + (scale.bandwidth ? scale.bandwidth() / 2 : 0);
    };
    let best = null;
    let least = 60 ** 2;
    for (const [kind, list] of Object.entries(rows)) {
      for (const row of kind === "level" || kind === "label" ? [] : list) {
        if (row.y == null || row.x == null || hidden[figure.key].includes(row.s)) continue;
        if (known.size && kind === "point" && !front.has(row.s)) continue; // runs are drawn of what is in front
        const x = svg.left + shrink * (left + place("x", row.x));
        const y = svg.top + shrink * (top + place("y", height(row.y)));
        const distance = (x - event.clientX) ** 2 + (y - event.clientY) ** 2;
        if (distance < least) [best, least] = [{ row, x, y }, distance];
      }
    }
    return best;
  };

  const follow = (figure, box) => {
    const moved = (event) => {
      const best = views[figure.key]?.ready && nearest(figure, box, event);
      if (!best) return hideTip();
      tip.textContent = said(best.row, figure);
      tip.hidden = dot.hidden = false;
      dot.style.transform = `translate(${best.x}px, ${best.y}px)`;
      const right = Math.min(best.x + 12, document.documentElement.clientWidth - tip.offsetWidth - 4);
      tip.style.transform = `translate(${Math.max(4, right)}px, ${Math.max(4, best.y - tip.offsetHeight - 12)}px)`;
    };
    box.addEventListener("pointermove", moved);
    box.addEventListener("pointerdown", moved);
    box.addEventListener("pointerleave", hideTip);
    if (known.size) {
      box.addEventListener("click", (event) => {
        const best = views[figure.key]?.ready && nearest(figure, box, event);
        if (best && known.has(best.row.s) && !front.has(best.row.s)) bring(best.row.s, true);
      });
    }
  };

  // ---- Drawing, and what the reader may choose of a figure.

  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;

  const draw = async (figure) => {
    const box = document.getElementById(`draw-${figure.key}`);
    const rows = { ...rowsOf(figure.traces), label: [] };
    const wanted = chosen("axis") === "error";
    const axis = figure.axes.find(({ error }) => error === wanted) ?? figure.axes[0];
    const spec = vegaLite.compile({ ...axis.spec, datasets: rows }).spec;
    views[figure.key]?.view.finalize();
    const view = new vega.View(vega.parse(spec), { renderer: "svg", container: box, hover: false });
    view.tooltip(() => {});
    const drawn = { view, rows, error: axis.error, height: axis.error ? (y) => 1 - y : (y) => y, ready: false };
    views[figure.key] = drawn;
    hidden[figure.key] ??= [];
    setLooks(figure.key);
    await view.runAsync();
    drawn.ready = true;
    label(figure.key);
    if (known.size) view.addSignalListener("width", () => view.runAfter(() => label(figure.key)));
  };

  // Of several figures in one place the chosen one is shown; it is drawn when it is first seen.
  const showOption = async () => {
    const option = chosen("option") ?? figures.find((figure) => figure.option)?.option;
    for (const one of all("[data-option]")) one.hidden = one.dataset.option !== option;
    for (const figure of figures) {
      if ((!figure.option || figure.option === option) && !views[figure.key]) await draw(figure);
    }
  };

  for (const input of all('input[name="option"]')) input.addEventListener("change", showOption);
  for (const input of all('input[name="axis"]')) {
    input.addEventListener("change", async () => {
      hideTip();
      for (const figure of figures.filter(({ axes }) => axes.length > 1)) {
        if (!views[figure.key]) continue;
        if (document.getElementById(figure.key).hidden) {
          views[figure.key].view.finalize();
          delete views[figure.key];
        } else await draw(figure);
      }
    });
  }

  // The legend of a single figure: each box switches one series.
  for (const input of all("fieldset[data-figure] input")) {
    input.addEventListener("change", () => {
      const legend = input.closest("fieldset");
      const key = legend.dataset.figure;
      hidden[key] = [...legend.querySelectorAll("input:not(:checked)")].map((other) => other.value);
      views[key].view.signal("hidden", hidden[key]).runAsync();
      hideTip();
    });
  }

  // Tables: a button in each head sorts; numbers by value, the rest by letter, empty cells last.
  for (const button of all("table.sortable th button")) {
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
  }

  // On paper two figures stand side by side; a drawing made for the screen would be shrunk, words and all.
  addEventListener("beforeprint", () => {
    const width = figures.length > 1 ? 340 : 680;
    for (const { key, axes } of figures) {
      if (axes[0].spec.width === "container") views[key]?.view.width(width).run();
    }
  });
  addEventListener("afterprint", () => dispatchEvent(new Event("resize")));

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  document.addEventListener("scroll", hideTip, { passive: true });

  (async () => {
    if (known.size) await showLooks();
    await showOption();
    for (const figure of figures) follow(figure, document.getElementById(`draw-${figure.key}`));
    document.documentElement.dataset.drawn = figures.length + 1; // for tests: true also of a page without figures
    performance.mark("drawn");
  })();
})();

// The page's own script: everything can be read without it. It asks for nothing, and writes text as text only.
(() => {
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const numbers = (text) => (text ? text.split(" ").map(Number) : []);

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
function make(tag, text = "", attributes = {}) {
  const element = set(document.createElement(tag), attributes);
  element.textContent = text;
  return element;
}
function draw(tag, attributes, parent) {
  const element = set(document.createElementNS(SVG, tag), attributes);
  parent.append(element);
  return element;
}
function button(text, action, attributes = {}) {
  const element = make("button", text, { type: "button", ...attributes });
  element.addEventListener("click", () => action(element));
  return element;
}
function save(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  make("a", "", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
const fileName = (text) => text.trim().toLowerCase().replace(/[^\w.-]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "undying";
const written = (value) => String(Number(value.toPrecision(4))).replace(/-/g, "\u2212");

// What the reader has set, kept when the page is loaded again.
const KEY = "undying " + location.pathname;
let kept = {};
try { kept = JSON.parse(sessionStorage.getItem(KEY)) || {}; } catch { /* nothing is kept */ }
const keep = (name, value) => { kept[name] = value; };
const KEEPERS = [];
function keepAll() {
  for (const keeper of KEEPERS) keeper();
  try { sessionStorage.setItem(KEY, JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ }
}

// ---- Contents: the link of the section in view.
function follow() {
  const links = all("nav.contents a");
  const targets = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  let current = null;
  const look = () => {
    let at = -1;
    targets.forEach((target, index) => { if (target && target.getBoundingClientRect().top < innerHeight * 0.35) at = index; });
    if (innerHeight + scrollY >= document.documentElement.scrollHeight - 2) at = links.length - 1;
    if (current === links[at]) return;
    current?.removeAttribute("aria-current");
    current = links[at];
    if (!current) return;
    current.setAttribute("aria-current", "true");
    const list = current.closest("ol");
    if (list.scrollWidth > list.clientWidth) list.scrollLeft = current.offsetLeft - list.clientWidth / 3;
  };
  addEventListener("scroll", look, { passive: true });
  addEventListener("resize", look);
  look();
}

// ---- Tables: sort, filter, CSV, LaTeX.
function headOf(table) {
  // The cells of the head by column, with spans followed.
  const grid = all("tr", table.tHead).map(() => []);
  all("tr", table.tHead).forEach((row, r) => {
    let c = 0;
    for (const cell of row.cells) {
      while (grid[r][c]) c++;
      for (let down = 0; down < cell.rowSpan; down++) for (let right = 0; right < cell.colSpan; right++) grid[r + down][c + right] = cell;
      c += cell.colSpan;
    }
  });
  return grid[grid.length - 1].map((leaf, c) => ({ leaf, above: [...new Set(grid.map((row) => row[c]))] }));
}
function cellAt(row, column) {
  let c = 0;
  for (const cell of row.cells) { if (column < c + cell.colSpan) return cell; c += cell.colSpan; }
  return null;
}
function main(cell) {
  // Its text without what stands small below it.
  const copy = cell.cloneNode(true);
  all("small, a ~ .sort", copy).forEach((small) => small.remove());
  return copy.textContent.replace(/[\u2068\u2069]/g, "").replace(/\s+/g, " ").trim(); // without the isolates of names
}
const plainNumber = (text) => text.replace(/\u2212/g, "-").replace(/(\d),(?=\d{3})/g, "$1").replace(/^\+/, "");
function sortValue(text) {
  const found = plainNumber(text).match(/^(<\s*)?([-+]?[\d.]+(?:e[-+]?\d+)?)/i);
  return found ? Number(found[2]) - (found[1] ? 1e-9 : 0) : null;
}
function sortBy(table, column, way) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => {
    const cell = cellAt(row, column);
    const text = !cell || cell.classList.contains("none") ? "" : cell.querySelector("span small") ? cell.textContent.trim() : main(cell);
    const [value, next = 0] = cell?.dataset.exact?.split(" ").map(Number) || [cell?.tagName === "TH" && !/^\d/.test(text) ? null : sortValue(text)];
    return { row, text, value, next, order: Number(row.dataset.order) };
  });
  const numeric = rows.filter((each) => each.value !== null).length * 2 > rows.length;
  const lost = (each) => (numeric ? each.value === null : each.text === "");
  rows.sort((a, b) => {
    if (!way) return a.order - b.order;
    if (lost(a) !== lost(b)) return lost(a) ? 1 : -1; // what is not known comes last, either way
    const found = numeric && !lost(a) ? a.value - b.value || a.next - b.next : a.text.localeCompare(b.text);
    return way * found || a.order - b.order;
  });
  body.append(...rows.map((each) => each.row));
}
function cells(table, exact = false) {
  // Rows of text: an interval, and a small number with a name of its own, become columns.
  const columns = headOf(table);
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const heads = [], parts = [];
  columns.forEach(({ above }, c) => {
    const own = rows.map((row) => cellAt(row, c)).map((cell) => (cell?.classList.contains("none") ? null : cell));
    const unit = exact && own.map((cell) => cell?.dataset.exact && main(cell).match(/[%\u00d7]$/)?.[0]).find(Boolean);
    const title = above.map(main).filter(Boolean).join(" ") + (unit ? ` (${unit})` : "");
    heads.push(title);
    const full = own.map((cell) => (exact && cell?.dataset.exact?.split(" ")) || []);
    parts.push(own.map((cell, r) => (cell ? full[r][0] ?? main(cell) : "")));
    const small = own.map((cell) => (cell ? all("small", cell).filter((s) => !s.closest("span")).map((s) => s.textContent.trim()) : []));
    const ends = small.map((said) => said.map((s) => s.match(/^\[(.*), (.*)\]$/)).find(Boolean));
    if (ends.some(Boolean)) {
      heads.push(title + " low", title + " high");
      parts.push(...[1, 2].map((end) => ends.map((e, r) => (e ? full[r][end] ?? e[end] : ""))));
    }
    const others = small.map((said) => said.filter((s) => !/^\[.*\]$/.test(s)).join("; "));
    if (others.some(Boolean)) {
      const raw = others.every((said) => !said || said.startsWith("raw "));
      heads.push(title + (raw ? " raw" : " note"));
      parts.push(raw ? others.map((said, r) => (said && full[r][1]) || said.slice(4)) : others);
    }
  });
  return [heads, ...rows.map((_, r) => parts.map((part) => part[r]))];
}
function csv(table) {
  const written = (text) => {
    const number = plainNumber(text);
    if (/^-?[\d.]+(e[-+]?\d+)?( ?%|\u00d7)?$/.test(number)) return number.replace(/[ %\u00d7]/g, "");
    const safe = /^[=+\-@\t\n]/.test(text) ? "'" + text : text; // a spreadsheet would run it
    return /[",\n]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
  };
  return cells(table, true).map((row) => row.map(written).join(",")).join("\n") + "\n";
}
const TEX = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "\u2212": "$-$", "\u00d7": "$\\times$", "\u2013": "--", "\u2019": "'", "\u2026": "\\ldots{}" };
function latex(table) {
  const [heads, ...rows] = cells(table).map((row) => row.map((text) => text.replace(/[\\&%$#_{}~^<>|\u2212\u00d7\u2013\u2019\u2026]/g, (sign) => TEX[sign])).join(" & ") + " \\\\");
  const columns = "l" + "r".repeat(cells(table)[0].length - 1);
  return ["% Needs \\usepackage{booktabs}.", `\\begin{tabular}{${columns}}`, "\\toprule", heads, "\\midrule", ...rows, "\\bottomrule", "\\end{tabular}", ""].join("\n");
}
function equip(table) {
  const frame = table.closest(".scroll");
  const labelled = frame.getAttribute("aria-labelledby");
  const title = frame.getAttribute("aria-label") || (labelled && document.getElementById(labelled)?.textContent) || "table";
  const name = "table " + title;
  [...table.tBodies[0].rows].forEach((row, order) => { row.dataset.order = order; });
  const columns = headOf(table);
  const sort = (column, way) => {
    columns.forEach(({ leaf }, c) => leaf.setAttribute("aria-sort", c === column && way ? (way > 0 ? "ascending" : "descending") : "none"));
    sortBy(table, column, way);
    keep(name + " sort", [column, way]);
  };
  columns.forEach(({ leaf }, column) => {
    // First click: the largest number first, or names from A; a third one: the order as it was.
    const pressed = button("", () => {
      const steps = column ? [-1, 1, 0] : [1, -1, 0];
      const now = { ascending: 1, descending: -1 }[leaf.getAttribute("aria-sort")] || 0;
      sort(column, steps[(steps.indexOf(now) + 1) % 3]);
    }, { class: "sort" });
    if (leaf.querySelector("a")) { // which goes elsewhere, so it stays beside the button
      pressed.textContent = "\u21c5";
      pressed.setAttribute("aria-label", `Sort by ${main(leaf)}`);
    } else pressed.append(...leaf.childNodes);
    leaf.append(pressed);
  });
  const tools = make("div", "", { class: "tools" });
  const filter = make("input", "", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows: ${title}` });
  const sift = () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) row.hidden = !wanted.every((word) => row.textContent.toLowerCase().includes(word));
    keep(name + " filter", filter.value);
  };
  filter.addEventListener("input", sift);
  if (table.tBodies[0].rows.length > 3) tools.append(filter);
  tools.append(
    button("CSV", () => save(fileName(title) + ".csv", csv(table), "text/csv"), { "aria-label": `CSV of ${title}` }),
    button("LaTeX", () => save(fileName(title) + ".tex", latex(table), "text/plain"), { "aria-label": `LaTeX of ${title}` }),
  );
  frame.before(tools);
  if (kept[name + " sort"]?.[1] && columns[kept[name + " sort"][0]]) sort(...kept[name + " sort"]);
  if (kept[name + " filter"]) { filter.value = kept[name + " filter"]; sift(); }
}

// ---- Arms: their names, and which are shown.
const LEGENDS = all(".arms");
const NAMES = [];
for (const legend of LEGENDS) for (const each of all("button", legend)) NAMES[each.dataset.arm] = each.textContent.trim();
const off = new Set();
function armOf(element) {
  const own = Number(element.dataset.arm), map = element.closest("[data-arms]")?.dataset.arms;
  return map ? Number(map.split(" ")[own]) : own;
}
function showArms() {
  for (const legend of LEGENDS) for (const each of all("button", legend)) each.setAttribute("aria-pressed", String(!off.has(Number(each.dataset.arm))));
  for (const part of all("figure [data-arm]")) part.classList.toggle("off", off.has(armOf(part)));
  for (const figure of FIGURES) figure.changed();
  keep("off", [...off].map((arm) => NAMES[arm]));
}
function equipArms() {
  for (const legend of LEGENDS) {
    legend.hidden = false;
    legend.addEventListener("click", (event) => {
      const arm = Number(event.target.closest("button[data-arm]")?.dataset.arm ?? NaN);
      if (Number.isNaN(arm)) return;
      if (event.altKey || event.shiftKey) { // this one alone, or all again
        const alone = off.size === NAMES.length - 1 && !off.has(arm);
        NAMES.forEach((_, other) => (alone || other === arm ? off.delete(other) : off.add(other)));
      } else if (!off.delete(arm)) off.add(arm);
      showArms();
    });
  }
  for (const name of kept.off || []) if (NAMES.includes(name)) off.add(NAMES.indexOf(name));
}

// ---- The tip beside the pointer.
const tip = make("div", "", { id: "tip", role: "status", hidden: "" });
function showTip(event, title, rows = []) {
  tip.replaceChildren(make("b", title));
  for (const [colour, text] of rows) {
    const line = make("span", text);
    if (colour) { line.classList.add("swatch"); line.style.setProperty("--arm", colour); }
    tip.append(line);
  }
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, event.clientX + 16 + box.width > innerWidth ? event.clientX - box.width - 12 : event.clientX + 16) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 6)) + "px";
}

// ---- Axes: from numbers to places, ticks, and back.
class Axes {
  constructor(group) {
    this.group = group;
    [this.left, this.top, this.right, this.bottom] = numbers(group.dataset.box);
    this.xlim = numbers(group.dataset.xlim);
    this.ylim = this.shown = numbers(group.dataset.ylim);
    this.log = this.logShown = group.dataset.scale === "log";
    this.lines = all("[data-y]", group).map((line) => ({
      group: line, arm: line.dataset.arm,
      x: numbers(line.dataset.x), y: numbers(line.dataset.y), low: numbers(line.dataset.low), high: numbers(line.dataset.high),
      band: all("[data-band]", group).find((band) => band.dataset.arm === line.dataset.arm),
    }));
    this.ticks = group.querySelector("[data-ticks]");
  }
  visible() { return this.lines.filter((line) => !line.group.classList.contains("off") && line.x.length); }
  x(value) { return this.left + ((value - this.xlim[0]) / (this.xlim[1] - this.xlim[0])) * (this.right - this.left); }
  y(value) {
    const map = this.logShown ? Math.log : Number, [low, high] = this.shown.map(map);
    return this.bottom - ((map(value) - low) / (high - low)) * (this.bottom - this.top);
  }
  holds(x, y) { return x >= this.left - 4 && x <= this.right + 4 && y >= this.top && y <= this.bottom; }
  redraw(limits, log) {
    this.shown = limits;
    this.logShown = log;
    const same = limits === this.ylim && log === this.log;
    const place = (value) => (this.logShown && value <= 0 ? this.bottom + 50 : this.y(value)).toFixed(2);
    const points = (line, values) => line.x.map((x, i) => `${this.x(x).toFixed(2)} ${place(values[i])}`);
    for (const line of this.lines) {
      if (!line.x.length) continue;
      const path = all("path", line.group).find((each) => !each.closest("defs"));
      if (path) this.put(path, "d", same, "M" + points(line, line.y).join("L"));
      all("use", line.group).forEach((use, i) => this.put(use, "y", same, place(line.y[i])));
      const band = line.band?.querySelector("path"), use = line.band?.querySelector("use");
      if (!band || !line.low.length) continue;
      const shift = use ? Number(use.getAttribute("y")) : 0; // the band is drawn from the figure's lower edge
      const shifted = (point) => { const [x, y] = point.split(" "); return `${x} ${(y - shift).toFixed(2)}`; };
      this.put(band, "d", same, "M" + [...points(line, line.low), ...points(line, line.high).reverse()].map(shifted).join("L") + "z");
    }
    this.label(same);
  }
  put(element, name, same, value) {
    element.was ??= {};
    element.was[name] ??= element.getAttribute(name);
    element.setAttribute(name, same ? element.was[name] : value);
  }
  label(same) {
    this.own?.remove();
    if (!this.ticks) return;
    this.ticks.style.display = same ? "" : "none";
    if (same) return;
    const text = this.ticks.querySelector("text"), rule = this.ticks.querySelector("path");
    this.own = draw("g", { class: "ticks" }, this.group);
    this.group.prepend(this.own);
    for (const value of ticks(...this.shown, this.logShown)) {
      const y = this.y(value).toFixed(2);
      if (rule) draw("path", { d: `M${this.left} ${y}L${this.right} ${y}`, style: rule.getAttribute("style") }, this.own);
      if (text) draw("text", { x: text.getAttribute("x"), y: Number(y) + 3.5, style: text.getAttribute("style") }, this.own).textContent = written(value);
    }
  }
}
function ticks(low, high, log) {
  const found = [];
  if (log && high / low > 5) {
    const fine = high / low > 200 ? [1] : high / low > 30 ? [1, 3] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) for (const step of fine) found.push(step * 10 ** power);
  } else {
    const rough = (high - low) / 4, size = 10 ** Math.floor(Math.log10(rough));
    const step = size * ([1, 2, 2.5, 5, 10].find((each) => each * size >= rough) || 10);
    for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(at * step);
  }
  return found.filter((value) => value >= low && value <= high);
}

// ---- Figures.
class Figure {
  constructor(element) {
    this.element = element;
    this.svg = element.querySelector("svg");
    const title = this.svg.querySelector("title"), about = this.svg.querySelector("desc");
    this.title = title.textContent;
    this.about = about.textContent;
    this.name = title.id.replace(/-title$/, "");
    // A title inside would be shown by the browser over every tip.
    this.svg.removeAttribute("aria-labelledby");
    this.svg.setAttribute("aria-label", `${this.title}. ${this.about}`);
    title.remove();
    about.remove();
    this.data = JSON.parse(element.querySelector("script[type='application/json']")?.textContent || "null");
    this.axes = all("[data-box]", this.svg).map((group) => new Axes(group)).filter((axes) => axes.lines.length);
    this.dots = all("[data-notes]", this.svg).flatMap((group) => {
      const notes = group.dataset.notes.split("|");
      return all("use", group).map((use, i) => ({ group, note: notes[i], x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")) }));
    });
    this.maps = all("[data-columns]", this.svg);
    this.log = this.zoom = false;
    this.bar = make("div", "", { class: "tools" });
    if (this.axes.length) this.views();
    this.bar.append(...["SVG", "PNG", "PDF"].map((kind) => button(kind, () => this.download(kind), { "aria-label": `${kind} of ${this.title}` })));
    this.below = make("div", "", { class: "below" });
    this.below.append(this.bar);
    element.append(this.below);
    if (this.data?.arms && this.maps.length) this.slide();
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerdown", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
  }
  views() {
    const able = this.axes.some((axes) => axes.lines.every((line) => line.y.every((y) => y > 0)));
    this.buttons = [["log", this.axes.every((axes) => axes.log) ? "Linear" : "Log"], ["zoom", "Zoom to the data"]].map(([view, text]) =>
      button(text, () => { this[view] = !this[view]; this.changed(); }, {
        "aria-pressed": "false", "data-view": view, "aria-label": `${view === "log" ? text + " axis" : "Zoom to the second half of the curves"}: ${this.title}`,
        ...(view === "log" && !able ? { disabled: "", title: "It holds a number that is not above 0" } : {}),
      }));
    this.bar.append(...this.buttons);
    [this.log, this.zoom] = kept["view " + this.name] || [false, false];
  }
  changed() {
    if (this.update) this.update();
    if (!this.axes.length) return;
    keep("view " + this.name, [this.log, this.zoom]);
    this.buttons.forEach((each) => each.setAttribute("aria-pressed", String(this[each.dataset.view])));
    // Panels that share their axis go on sharing it.
    const shared = new Set(this.axes.map((axes) => axes.group.dataset.ylim)).size === 1;
    const limits = this.axes.map((axes) => this.limits(shared ? this.axes : [axes]));
    this.axes.forEach((axes, i) => axes.redraw(...(limits[i] || [axes.ylim, axes.log])));
  }
  limits(sharing) {
    const [first] = sharing;
    const log = (this.log ? !this.axes.every((axes) => axes.log) : first.log) && sharing.every((axes) => axes.lines.every((line) => line.y.every((y) => y > 0)));
    if (log === first.log && !this.zoom) return null;
    const found = [];
    for (const axes of sharing) for (const line of axes.visible()) {
      const middle = (line.x[0] + line.x[line.x.length - 1]) / 2;
      line.x.forEach((x, i) => { if (!this.zoom || x >= middle) found.push(line.y[i], ...(line.low.length ? [line.low[i], line.high[i]] : [])); });
    }
    const usable = found.filter((value) => Number.isFinite(value) && (!log || value > 0));
    if (!usable.length) return null;
    let low = Math.min(...usable), high = Math.max(...usable);
    if (low === high) { low -= Math.abs(low) * 0.05 || 0.5; high += Math.abs(high) * 0.05 || 0.5; }
    const pad = log ? (high / low) ** 0.05 : 0.06 * (high - low);
    return log ? [[low / pad, high * pad], true] : [[low - pad, high + pad], false];
  }
  hover(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const axes = this.axes.find((each) => each.holds(at.x, at.y));
    if (axes) return this.readCurves(event, axes, at.x);
    if (this.maps.length) return this.readMap(event);
    let best = null, least = 10;
    for (const dot of this.dots) {
      const far = Math.hypot(dot.x - at.x, dot.y - at.y);
      if (far < least && !dot.group.classList.contains("off")) [best, least] = [dot, far];
    }
    if (!best) return this.leave();
    showTip(event, NAMES[armOf(best.group)], [["", best.note]]);
  }
  readCurves(event, axes, x) {
    const lines = axes.visible();
    let nearest = null;
    for (const line of lines) for (const value of line.x) if (nearest === null || Math.abs(axes.x(value) - x) < Math.abs(axes.x(nearest) - x)) nearest = value;
    if (nearest === null) return this.leave();
    this.cross ??= draw("line", { class: "cross" }, this.svg);
    const place = axes.x(nearest).toFixed(2);
    set(this.cross, { x1: place, x2: place, y1: axes.top, y2: axes.bottom });
    const rows = lines.filter((line) => line.x.includes(nearest)).map((line) => {
      const i = line.x.indexOf(nearest), band = line.low.length ? ` [${written(line.low[i])}, ${written(line.high[i])}]` : "";
      return { y: line.y[i], colour: line.group.querySelector("path")?.style.stroke, text: `${NAMES[armOf(line.group)] ?? ""} ${written(line.y[i])}${band}` };
    });
    rows.sort((a, b) => b.y - a.y);
    showTip(event, `${axes.group.dataset.over} ${written(nearest)}`, rows.map((row) => [row.colour, row.text]));
  }
  readMap(event) {
    for (const map of this.maps) {
      if (map.classList.contains("off")) continue;
      const box = map.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * map.dataset.columns), row = Math.floor(((event.clientY - box.top) / box.height) * map.dataset.rows);
      const arm = this.data?.arms.find((each) => String(each.arm) === map.dataset.arm);
      if (!arm || column < 0 || row < 0 || column >= map.dataset.columns || row >= map.dataset.rows) continue;
      const at = counted(arm.count[row], column), asked = at === column ? "" : `; epoch ${column} was not counted`;
      return showTip(event, NAMES[armOf(map)], [["", at < 0 ? `${arm.sites[row]}, epoch ${column}: unknown` : `${arm.sites[row]}, epoch ${at}: ${share(arm, row, at)}${asked}`]]);
    }
    this.leave();
  }
  leave() { tip.hidden = true; this.cross?.remove(); this.cross = null; }

  // The slider: the epochs at which units were counted, in numbers.
  slide() {
    const rows = this.data.arms.flatMap((arm) => arm.count), last = Math.max(...rows.map((row) => row.length)) - 1;
    const epochs = [...Array(last + 1).keys()].filter((epoch) => rows.some((row) => (row[epoch] ?? null) !== null));
    if (epochs.length < 2) return;
    const label = make("label", "Epoch ", { class: "slide" });
    const before = epochs.findLastIndex((epoch) => epoch <= (kept["epoch " + this.name] ?? last));
    const slider = make("input", "", { type: "range", min: 0, max: epochs.length - 1, value: Math.max(before, 0), "aria-label": `Epoch: ${this.title}` });
    const shown = make("output");
    label.append(slider, shown);
    const frame = make("div", "", { class: "scroll tall", role: "region", tabindex: 0, "aria-label": `${this.title}, at one epoch` });
    const note = make("p", "", { class: "note" });
    this.below.append(label, note, frame);
    this.update = () => {
      const place = Number(slider.value), epoch = epochs[place], since = epochs[place - 1];
      shown.textContent = `${epoch} of ${last}`;
      slider.setAttribute("aria-valuetext", shown.textContent);
      keep("epoch " + this.name, epoch);
      all(".now", this.svg).forEach((old) => old.remove());
      for (const map of this.maps) {
        if (map.classList.contains("off") || epoch >= map.dataset.columns) continue;
        const { a, d, e, f } = map.transform.baseVal.consolidate().matrix, until = Math.min(epochs[place + 1] ?? epoch + 1, map.dataset.columns);
        draw("rect", { class: "now", x: e + a * epoch, y: Math.min(f, f + d * map.dataset.rows), width: Math.abs(a) * (until - epoch), height: Math.abs(d) * map.dataset.rows }, this.svg);
      }
      const arms = this.data.arms.filter((arm) => !off.has(this.armOf(arm)));
      const exact = arms.some((arm) => arm.died);
      frame.replaceChildren(this.reading(arms, epoch, exact));
      note.textContent = `Epoch ${epoch}, mean over the runs.` + (since === undefined ? "" : exact
        ? ` Below each share: units that died (+) and revived (\u2212) since epoch ${since}.`
        : ` Below each share: how many more or fewer units are ${this.data.kind} than at epoch ${since}. Which died and which revived was not recorded.`);
    };
    slider.addEventListener("input", this.update);
    this.update();
  }
  armOf(arm) { return armOf(this.maps.find((map) => map.dataset.arm === String(arm.arm)) || this.maps[0]); }
  reading(arms, epoch, exact) {
    const table = make("table", "", { class: "layers" }), head = table.createTHead().insertRow(), body = table.createTBody();
    const named = (text, scope) => { const cell = make("th", "", { scope }); cell.append(make("span", text)); return cell; };
    head.append(named("Layer", "col"), ...arms.map((arm) => named(NAMES[this.armOf(arm)], "col")));
    for (const site of new Set(arms.flatMap((arm) => arm.sites))) {
      const row = body.insertRow();
      row.append(named(site, "row"));
      for (const arm of arms) {
        const place = arm.sites.indexOf(site), cell = row.insertCell(), at = place < 0 ? -1 : counted(arm.count[place], epoch);
        cell.textContent = place < 0 ? "\u2013" : share(arm, place, at);
        if (at < 0) continue;
        cell.style.setProperty("--share", (100 * arm.count[place][at]) / arm.units[place] + "%");
        cell.append(make("small", (exact ? events : net)(arm, place, at)));
        if (at !== epoch) cell.append(make("small", `at epoch ${at}`));
      }
    }
    return table;
  }

  // Files: in light colours on white, with what is shown now.
  copy() {
    const light = [...document.styleSheets[0].cssRules].find((rule) => rule.selectorText === ":root").style;
    const copy = this.svg.cloneNode(true);
    for (const label of all(".off[data-label]", copy)) label.style.opacity = 0.3;
    for (const part of all(".off:not([data-label]), .cross, .now, [style*='display: none']", copy)) part.remove();
    for (const part of [copy, ...all("*", copy)]) {
      for (const name of part.getAttributeNames()) if (/^data-|^class$|^aria-|^role$/.test(name)) part.removeAttribute(name);
      const style = part.getAttribute("style");
      if (style) part.setAttribute("style", style.replace(/var\((--[\w-]+)\)/g, (_, name) => light.getPropertyValue(name).trim()));
    }
    const [, , width, height] = numbers(copy.getAttribute("viewBox"));
    set(copy, { width: width + "pt", height: height + "pt", "font-family": "Helvetica, Arial, sans-serif" });
    for (const [tag, text] of [["desc", this.about], ["title", this.title]]) {
      const part = draw(tag, {}, copy);
      part.textContent = text;
      copy.prepend(part);
    }
    return { copy, width, height };
  }
  async download(kind) {
    const { copy, width, height } = this.copy();
    if (kind === "PDF") return save(this.name + ".pdf", await pdf(copy, width, height), "application/pdf");
    copy.querySelector("desc").after(draw("rect", { width: "100%", height: "100%", fill: "#ffffff" }, copy));
    const text = new XMLSerializer().serializeToString(copy);
    if (kind === "SVG") return save(this.name + ".svg", text, "image/svg+xml");
    const canvas = make("canvas", "", { width: Math.round(width * 4), height: Math.round(height * 4) });
    canvas.getContext("2d").drawImage(await picture("data:image/svg+xml;charset=utf-8," + encodeURIComponent(text)), 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(this.name + ".png", blob, "image/png"));
  }
}
const share = (arm, site, epoch) => (epoch < 0 ? "unknown" : ((100 * arm.count[site][epoch]) / arm.units[site]).toFixed(1) + " %");
function counted(row, epoch) {
  let at = Math.min(epoch, row.length - 1);
  while (at >= 0 && row[at] === null) at--;
  return at;
}
function events(arm, site, epoch) {
  const died = arm.died?.[site]?.[epoch] ?? null;
  return died === null ? "" : `+${written(died)} \u2212${written(arm.revived[site][epoch])} units`;
}
function net(arm, site, epoch) {
  const row = arm.count[site], before = counted(row, epoch - 1);
  if (before < 0) return "";
  const change = row[epoch] - row[before];
  return (Math.abs(change) < 0.05 ? "\u00b10" : (change > 0 ? "+" : "") + change.toFixed(1).replace("-", "\u2212")) + " units";
}
function picture(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = source;
  });
}

// ---- A drawing as PDF: paths, text in Helvetica, and the pixels of heat maps. Only what our figures hold.
const WIDTHS = ("278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500 278 556 500 722 500 500 500 334 260 334 584").split(" ").map(Number);
const ANSI = { "\u2212": 150, "\u2013": 150, "\u2014": 151, "\u2018": 145, "\u2019": 146, "\u201c": 147, "\u201d": 148, "\u2026": 133, "\u2022": 149, "\u20ac": 128 };
async function pdf(svg, width, height) {
  const stage = make("div");
  stage.style.cssText = "position:absolute;left:-9999px;top:0;";
  stage.append(svg);
  document.body.append(stage);
  const content = [`1 0 0 -1 0 ${height} cm`], states = new Map(), images = [];
  const n = (value) => String(Number(value.toFixed(3)));
  const base = svg.getScreenCTM().inverse();
  const colour = (text) => { const found = text.match(/[\d.]+/g); return found && !/^none|transparent/.test(text) ? found.slice(0, 3).map((v) => n(v / 255)).join(" ") : null; };
  const alpha = (fill, stroke) => {
    const key = `/ca ${n(fill)} /CA ${n(stroke)}`;
    if (!states.has(key)) states.set(key, `G${states.size}`);
    return `/${states.get(key)} gs`;
  };
  const opacity = (part, top) => (part === top ? 1 : Number(getComputedStyle(part).opacity) * opacity(part.parentElement, top));
  const trace = (d, m) => {
    const tokens = d.match(/[a-z]|-?[\d.]+(?:e-?\d+)?/gi), out = [];
    let command = "M", at = [0, 0];
    for (let i = 0; i < tokens.length;) {
      if (/[a-z]/i.test(tokens[i])) command = tokens[i++];
      if (/z/i.test(command)) { out.push("h"); continue; }
      const count = { M: 1, L: 1, Q: 2, C: 3 }[command];
      if (!count) throw new Error("a path with " + command);
      let points = [];
      for (let k = 0; k < count; k++, i += 2) points.push([Number(tokens[i]), Number(tokens[i + 1])]);
      if (command === "Q") { // as a cubic
        const [control, end] = points, third = (from) => [0, 1].map((k) => from[k] + (2 / 3) * (control[k] - from[k]));
        points = [third(at), third(end), end];
      }
      at = points[points.length - 1];
      out.push(points.map(([x, y]) => `${n(m.a * x + m.c * y + m.e)} ${n(m.b * x + m.d * y + m.f)}`).join(" ") + { M: " m", L: " l", Q: " c", C: " c" }[command]);
      if (command === "M") command = "L";
    }
    return out.join("\n");
  };
  for (const element of all("path, use, text, image", svg)) {
    if (element.closest("defs, clipPath")) continue;
    const shape = element.tagName === "use" ? svg.querySelector("#" + CSS.escape((element.getAttribute("xlink:href") || element.getAttribute("href")).slice(1))) : element;
    let m = base.multiply(element.getScreenCTM());
    const computed = getComputedStyle(element), style = (name) => shape.style.getPropertyValue(name) || computed.getPropertyValue(name);
    if (shape !== element) {
      m = m.translate(Number(element.getAttribute("x") || 0), Number(element.getAttribute("y") || 0));
      shape.style.color = "";
    }
    content.push("q");
    const clipped = element.closest("[clip-path]");
    if (clipped) {
      const frame = svg.querySelector(clipped.getAttribute("clip-path").slice(4, -1).replace(/"/g, ""))?.firstElementChild;
      if (frame) content.push(`${["x", "y", "width", "height"].map((name) => n(Number(frame.getAttribute(name)))).join(" ")} re W n`);
    }
    const probe = make("i");
    const resolved = (name) => { probe.style.color = ""; const value = style(name); if (!value || value === "none") return null; probe.style.color = value; stage.append(probe); const found = colour(getComputedStyle(probe).color); probe.remove(); return found; };
    const fill = resolved("fill"), stroke = resolved("stroke"), whole = opacity(element, svg);
    content.push(alpha(whole * Number(style("fill-opacity") || 1), whole * Number(style("stroke-opacity") || 1)));
    if (element.tagName === "image") {
      const image = await picture(element.getAttribute("xlink:href") || element.getAttribute("href"));
      const canvas = make("canvas", "", { width: image.naturalWidth, height: image.naturalHeight }), context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(image, 0, 0);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
      let hex = "";
      for (let i = 0; i < pixels.length; i++) if (i % 4 < 3) hex += pixels[i].toString(16).padStart(2, "0");
      images.push(`<< /Type /XObject /Subtype /Image /Width ${canvas.width} /Height ${canvas.height} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /ASCIIHexDecode /Length ${hex.length + 1} >>\nstream\n${hex}>\nendstream`);
      const w = Number(element.getAttribute("width")), h = Number(element.getAttribute("height"));
      content.push([m.a, m.b, m.c, m.d, m.e, m.f].map(n).join(" ") + " cm", `${w} 0 0 ${-h} 0 ${h} cm`, `/I${images.length - 1} Do`);
    } else if (element.tagName === "text") {
      const size = parseFloat(computed.fontSize), length = element.getComputedTextLength();
      const codes = [...element.textContent].map((sign) => ANSI[sign] ?? (sign.charCodeAt(0) < 256 && sign.length === 1 ? sign.charCodeAt(0) : 63));
      const natural = codes.reduce((sum, code) => sum + (WIDTHS[code - 32] ?? 556), 0) * (size / 1000);
      const start = Number(element.getAttribute("x") || 0) - { start: 0, middle: length / 2, end: length }[computed.textAnchor];
      m = m.translate(start, Number(element.getAttribute("y") || 0));
      const string = codes.map((code) => (code < 32 || code > 126 || code === 40 || code === 41 || code === 92 ? "\\" + code.toString(8).padStart(3, "0") : String.fromCharCode(code))).join("");
      if (natural) content.push("BT", `${fill || "0 0 0"} rg`, `/${Number(computed.fontWeight) > 500 ? "B" : "F"} ${n(size)} Tf`, `${n((100 * length) / natural)} Tz`, [m.a, m.b, -m.c, -m.d, m.e, m.f].map(n).join(" ") + " Tm", `(${string}) Tj`, "ET");
    } else {
      const wide = parseFloat(style("stroke-width")) || 1, dashes = (style("stroke-dasharray") || "").match(/[\d.]+/g);
      if (fill) content.push(`${fill} rg`);
      if (stroke) content.push(`${stroke} RG ${n(wide)} w 1 j ${style("stroke-linecap") === "round" ? 1 : 0} J [${dashes ? dashes.join(" ") : ""}] 0 d`);
      if (fill || stroke) content.push(trace(shape.getAttribute("d"), m), fill && stroke ? "B" : fill ? "f" : "S");
    }
    content.push("Q");
  }
  stage.remove();
  const stream = content.join("\n");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${n(width)} ${n(height)}] /Contents 4 0 R /Resources << /Font << /F 5 0 R /B 6 0 R >> /ExtGState << ${[...states].map(([key, name]) => `/${name} << ${key} >>`).join(" ")} >> /XObject << ${images.map((_, i) => `/I${i} ${7 + i} 0 R`).join(" ")} >> >> >>`,
    `<< /Length ${stream.length} >>\nstream\n${stream}\nendstream`,
    ...["Helvetica", "Helvetica-Bold"].map((font) => `<< /Type /Font /Subtype /Type1 /BaseFont /${font} /Encoding /WinAnsiEncoding >>`),
    ...images,
  ];
  let file = "%PDF-1.4\n";
  const places = objects.map((object, i) => { const place = file.length; file += `${i + 1} 0 obj\n${object}\nendobj\n`; return place; });
  const end = file.length;
  file += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${places.map((place) => String(place).padStart(10, "0") + " 00000 n \n").join("")}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${end}\n%%EOF\n`;
  return Uint8Array.from(file, (sign) => sign.charCodeAt(0));
}

// ---- A page of runs that are still trained, or of a part of them: how old it is, and again every few seconds.
const CHANGING = document.querySelector("[data-written]") || document.querySelector(".partial");
function live() {
  if (!CHANGING) return;
  // A report of some runs is replaced when they are resumed; it is as old as its file.
  const { written, state } = CHANGING.dataset, began = Number(written) || Date.parse(document.lastModified);
  const running = state === "running", ended = written && !running;
  let touched = 0;
  for (const kind of ["pointerdown", "pointermove", "keydown", "input", "wheel", "touchmove"]) addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  const age = CHANGING.querySelector(".age"), loaded = Date.now();
  const look = () => {
    const seconds = Math.max(0, Math.round((Date.now() - began) / 1000)), stale = running && seconds > 60;
    const words = seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
    age.textContent = `${written ? "," : " Written"} ${words} ago${stale ? "; nothing since, so the runs may have been stopped" : ""}${written ? "" : "."}`;
    if (stale) for (const part of all("[data-stale]")) part.textContent = part.dataset.stale;
    // The longer nothing is written, the more rarely it is looked for.
    const due = Date.now() - loaded > Math.min(60000, Math.max(2000, 100 * seconds));
    if (!ended && due && !document.hidden && Date.now() - touched > 1500) { keepAll(); location.reload(); }
  };
  setInterval(look, 500);
  look();
}

const FIGURES = [];
document.documentElement.classList.add("scripted");
document.body.append(tip);
follow();
all(".scroll table").forEach(equip);
equipArms();
const seen = {};
all("details").forEach((fold) => {
  const said = fold.querySelector("summary").textContent.replace(/\s+/g, " ").trim().slice(0, 80);
  const name = `open ${said} ${(seen[said] = (seen[said] || 0) + 1)}`;
  if (name in kept) fold.open = kept[name];
  KEEPERS.push(() => keep(name, fold.open));
});
KEEPERS.push(() => keep("scroll", scrollY), () => keep("frames", all(".scroll").map((frame) => [frame.scrollLeft, frame.scrollTop])));
for (const kind of ["pagehide", "click", "input", "toggle"]) addEventListener(kind, () => (kind === "pagehide" ? keepAll() : setTimeout(keepAll)), true);
// A link into a folded part opens it.
const unfold = () => { for (let fold = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true; };
addEventListener("hashchange", unfold);
unfold();
(async () => {
  // One after the other, so that a large page can be read and scrolled at once.
  let began = performance.now();
  for (const figure of all("figure").filter((each) => each.querySelector("svg"))) {
    FIGURES.push(new Figure(figure));
    if (performance.now() - began > 40) { await new Promise((resume) => setTimeout(resume)); began = performance.now(); }
  }
  showArms();
  if (kept.scroll && CHANGING) scrollTo(0, kept.scroll);
  (kept.frames || []).forEach(([left, top], i) => all(".scroll")[i]?.scrollTo(left, top));
  live();
})();
})();

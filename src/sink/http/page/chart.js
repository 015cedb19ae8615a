// A line chart over time. Pointer and arrow keys move its cursor.

import { locale, t } from "./texts.js";

const NAME_SPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 176, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(NAME_SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const formats = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: false }));
// With a real minus sign, which is as wide as the plus sign.
export const fixed = (number, digits) => formats[digits].format(number).replace("-", "−");
const pad = (number) => String(number).padStart(2, "0");
export const formatTime = (date) => `${pad(date.getHours())}:${pad(date.getMinutes())}`;
const formatDay = (date) => date.toLocaleDateString(locale, { weekday: "short", day: "numeric" });

// A round step for about `count` marks on an axis.
export function niceStep(range, count) {
  const raw = range / count, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((n) => n * power).find((step) => step >= raw * .999);
}

function hourStep(hours) {
  return hours <= 1 ? 1 / 6 : hours <= 6 ? 1 : hours <= 12 ? 2 : hours <= 24 ? 4 : hours <= 48 ? 8 : Math.ceil(hours / 144) * 24;
}

// `lines`: [{key, name, stat}], where stat is mean, min or max. `band`: shades the area between the first and the last
// line. `zero`: the axis includes 0. `minRange`: minimum range of the axis.
export class Chart {
  constructor(label, unit, decimals, lines, { band = false, zero = false, minRange = 0 } = {}) {
    Object.assign(this, { label, unit, decimals, lines, band, zero, minRange });
    this.readout = document.createElement("span");
    this.readout.className = "readout";
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "slider");
    this.plot.setAttribute("aria-label", t("chart", { name: label }));
    this.plot.addEventListener("pointermove", (event) => this.onPointer(event));
    this.plot.addEventListener("pointerdown", (event) => this.onPointer(event));
    this.plot.addEventListener("pointerleave", () => this.setCursor(null));
    this.plot.addEventListener("blur", () => this.setCursor(null));
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.plot);
    this.times = [];
    this.setCursor(null);
  }

  close() {
    this.observer.disconnect();
  }

  // `from` and `to` are Unix times in seconds; points farther apart than `gap` seconds are not connected.
  show(history, from, to, gap) {
    this.times = history.times;
    this.values = this.lines.map(({ key, stat }) => history.series[key]?.[stat] ?? []);
    const only = this.lines.length === 1 ? history.series[this.lines[0].key] : null;
    this.bounds = this.band ? [this.values.at(-1), this.values[0]] : only ? [only.min, only.max] : null;
    Object.assign(this, { from, to, gap });
    this.draw();
  }

  get hasData() {
    return this.values?.some((list) => list.some((value) => value !== null)) ?? false;
  }

  scale() {
    const all = [...this.values, ...(this.bounds ?? [])].flat().filter((value) => value !== null);
    let low = Math.min(...all), high = Math.max(...all);
    if (this.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    const margin = Math.max(this.minRange - (high - low), 0) / 2 || (high === low ? .5 : 0);
    [low, high] = [low - margin, high + margin];
    const step = niceStep(high - low, 4);
    return { low: Math.floor(low / step + 1e-9) * step, high: Math.ceil(high / step - 1e-9) * step, step };
  }

  draw() {
    const width = this.plot.clientWidth;
    if (!width || !this.values) return;
    const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    this.plot.replaceChildren(root);
    this.cursor = null;
    if (!this.hasData) {
      root.append(svg("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle", class: "empty" }, t("no_data")));
      return this.setCursor(null);
    }
    const { low, high, step } = this.scale();
    this.x = (time) => LEFT + (time - this.from) / (this.to - this.from) * (width - LEFT - RIGHT);
    this.y = (value) => TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
    this.width = width;
    const digits = [0, 1, 2, 3].find((n) => Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) < 1e-6) ?? 3;
    for (let value = low; value <= high + step / 2; value += step) {
      const y = this.y(value), zero = Math.abs(value) < step / 1e6;
      root.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: zero && this.zero ? "zero" : "grid-line" }));
      root.append(svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, fixed(zero ? 0 : value, digits)));
    }
    this.drawTimes(root, width);
    if (this.bounds) root.append(...this.runs(this.bounds[0]).map((run) => this.area(run)));
    this.values.forEach((list, number) => {
      for (const run of this.runs(list)) {
        const points = run.map((i) => `${this.x(this.times[i]).toFixed(1)},${this.y(list[i]).toFixed(1)}`);
        if (points.length === 1) points.push(points[0]);
        root.append(svg("polyline", { points: points.join(" "), class: `line c${this.colour(number)}` }));
      }
    });
    this.cursor = svg("g", { visibility: "hidden" });
    root.append(this.cursor);
    this.setCursor(this.cursorIndex ?? null);
  }

  colour(number) {
    return this.lines[number].colour ?? number;
  }

  drawTimes(root, width) {
    const hours = (this.to - this.from) / 3600, step = hourStep(hours) * 3600;
    const zone = new Date(this.to * 1000).getTimezoneOffset() * 60;
    let previous = -Infinity;
    for (let time = Math.ceil((this.from - zone) / step) * step + zone; time <= this.to; time += step) {
      const x = this.x(time), date = new Date(time * 1000);
      const text = date.getHours() === 0 && date.getMinutes() === 0 ? formatDay(date) : formatTime(date);
      if (x - previous < 44 || x > width - 14) continue;
      previous = x;
      root.append(svg("text", { x, y: HEIGHT - 4, "text-anchor": "middle" }, text));
    }
  }

  // Runs of values without a gap, as lists of indices.
  runs(list) {
    const runs = [];
    let run = null;
    list.forEach((value, i) => {
      if (value === null) return;
      if (!run || this.times[i] - this.times[run.at(-1)] > this.gap) runs.push(run = []);
      run.push(i);
    });
    return runs;
  }

  area(run) {
    const [lower, upper] = this.bounds;
    const at = (list) => (i) => `${this.x(this.times[i]).toFixed(1)} ${this.y(list[i] ?? lower[i]).toFixed(1)}`;
    const path = `M${run.map(at(upper)).join("L")}L${run.toReversed().map(at(lower)).join("L")}Z`;
    return svg("path", { d: path, class: `band c${this.colour(0)}` });
  }

  onPointer(event) {
    if (!this.hasData) return;
    const box = this.plot.getBoundingClientRect();
    const time = this.from + (event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT) * (this.to - this.from);
    let nearest = 0;
    this.times.forEach((other, i) => {
      if (Math.abs(other - time) < Math.abs(this.times[nearest] - time)) nearest = i;
    });
    this.setCursor(nearest);
  }

  onKey(event) {
    const last = this.times.length - 1, now = this.cursorIndex ?? last;
    const jump = Math.max(1, Math.round(last / 20));
    const to = {
      ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
      PageDown: now - jump, PageUp: now + jump, Home: 0, End: last,
    }[event.key];
    if (event.key === "Escape") this.setCursor(null);
    if (to === undefined || !this.hasData) return;
    event.preventDefault();
    this.setCursor(Math.max(0, Math.min(last, to)));
  }

  // The values of now, which the readout shows without a cursor; `undefined` where there is none.
  setCurrent(values) {
    this.current = values;
    if (this.cursorIndex === null) this.setCursor(null);
  }

  // Shows the values at a point; null shows those of now and hides the cursor.
  setCursor(index) {
    this.cursorIndex = index;
    const hasData = this.hasData, at = index ?? this.times.length - 1;
    const date = hasData ? new Date(this.times[at] * 1000) : null;
    const texts = this.lines.map(({ name, stat }, i) => {
      const value = index === null ? this.current?.[i] : hasData ? this.values[i][at] : null;
      return [index !== null && stat === "mean" ? t("mean") : name, value === null || value === undefined ? "–" : `${fixed(value, this.decimals)} ${this.unit}`];
    });
    const when = !date ? "" : index === null ? "" : `${formatDay(date)} ${formatTime(date)}`;
    this.readout.replaceChildren(when, ...texts.map(([name, text], i) => {
      const entry = document.createElement("span"), swatch = document.createElement("i"), bold = document.createElement("b");
      swatch.className = `c${this.colour(i)}`;
      bold.textContent = text;
      entry.append(swatch, name ? `${name} ` : "", bold);
      return entry;
    }));
    const summary = texts.map(([name, text]) => `${name} ${text}`.trim()).join(", ");
    this.plot.setAttribute("aria-valuemin", 0);
    this.plot.setAttribute("aria-valuemax", Math.max(0, this.times.length - 1));
    this.plot.setAttribute("aria-valuenow", Math.max(0, at));
    this.plot.setAttribute("aria-valuetext", hasData ? `${when || t("now")}: ${summary}` : t("no_data"));
    if (!this.cursor) return;
    this.cursor.setAttribute("visibility", index === null || !hasData ? "hidden" : "visible");
    if (index === null || !hasData) return;
    const x = this.x(this.times[at]);
    this.cursor.replaceChildren(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" }));
    this.values.forEach((list, i) => {
      if (list[at] === null || list[at] === undefined) return;
      this.cursor.append(svg("circle", { cx: x, cy: this.y(list[at]), r: 3.5, class: `c${this.colour(i)}` }));
    });
  }
}

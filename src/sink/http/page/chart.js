// A line chart over time. Its charts have one cursor and one span, which pointer and keys of each move: see history.js.

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
export const formatTime = (date, withSeconds) => `${pad(date.getHours())}:${pad(date.getMinutes())}${withSeconds ? `:${pad(date.getSeconds())}` : ""}`;
const formatDate = (date, parts) => date.toLocaleDateString(locale, parts);
const DAY = { weekday: "short", day: "numeric" }, MONTH = { month: "short" }, DATE = { day: "numeric", month: "short" };
// In local time. Days have 23 to 25 hours, and months 28 to 31 days, so dates are counted, not seconds.
export const formatMoment = (seconds) => {
  const date = new Date(seconds * 1000);
  return `${formatDate(date, { ...DAY, ...MONTH })} ${formatTime(date)}`;
};

// A round step for about `count` marks on an axis.
export function niceStep(range, count) {
  const raw = range / count, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((n) => n * power).find((step) => step >= raw * .999);
}

export const formatDay = (seconds) => formatDate(new Date(seconds * 1000), { ...DAY, ...MONTH });

// Minutes between two marks, and from which span in hours.
const STEPS = [[0, 1], [.2, 5], [.7, 10], [1.5, 60], [7, 120], [13, 240], [25, 480], [49, 1440]];
// From these spans in hours on, the marks are dates and months.
const DATES = 200, MONTHS = 2400;
// Pixels: a shorter drag is a click.
const MIN_DRAG = 8;
// Shortest span in seconds.
const MIN_SPAN = 120;

// What charts have in common: one span of time and one cursor. It has its `charts` and their `times`, the span until now
// in seconds as `whole`, and `reload`, which shows the `span`.
export class ChartGroup {
  // `zoom` is the span in seconds since 1970 that was chosen instead of the whole one.
  zoom = null;
  cursor = null;
  times = [];
  moment = formatMoment;

  get span() {
    return this.zoom ?? [this.now - this.whole, this.now];
  }

  reset() {
    this.zoom = null;
    this.reload();
  }

  // The whole span is no zoom.
  zoomTo(from, to) {
    if (to - from > this.whole - 1) return this.reset();
    const half = Math.max(to - from, MIN_SPAN) / 2, end = Math.min((from + to) / 2 + half, this.now);
    this.zoom = [end - 2 * half, end];
    this.reload();
  }

  // Keeps the cursor, or the middle, where it is.
  zoomBy(factor) {
    const [from, to] = this.span, at = this.cursor ?? (from + to) / 2;
    this.zoomTo(at - (at - from) * factor, at + (to - at) * factor);
  }

  // All charts show their values at the point next to this time, or those of now.
  setCursor(time) {
    this.cursor = time;
    const distance = (i) => Math.abs(this.times[i] - time);
    const nearest = time === null ? null : this.times.reduce((best, _, i) => distance(i) < distance(best) ? i : best, 0);
    for (const { chart } of this.charts) chart.setCursor(nearest);
  }

  close() {
    for (const { chart } of this.charts) chart.close();
  }
}

// `lines`: [{key, name, stat}], where stat is mean, min or max. `band`: shades the area between the first and the last
// line. `zero`: the axis includes 0. `minRange`: minimum range of the axis.
export class Chart {
  constructor(group, label, unit, decimals, lines, { band = false, zero = false, minRange = 0 } = {}) {
    Object.assign(this, { group, label, unit, decimals, lines, band, zero, minRange });
    this.readout = document.createElement("span");
    this.readout.className = "readout";
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "slider");
    this.plot.setAttribute("aria-label", t("chart", { name: label }));
    this.plot.addEventListener("pointermove", (event) => this.onPointer(event));
    this.plot.addEventListener("pointerdown", (event) => this.onPress(event));
    this.plot.addEventListener("pointerup", (event) => this.onRelease(event));
    this.plot.addEventListener("pointercancel", (event) => {
      this.dragged = null;
      this.onRelease(event);
    });
    // Two fingers zoom; the browser must not scroll at the same time.
    this.plot.addEventListener("touchmove", (event) => {
      if (event.touches.length > 1 && event.cancelable) event.preventDefault();
    }, { passive: false });
    this.plot.addEventListener("pointerleave", () => group.setCursor(null));
    // The cursor stays while the focus moves from chart to chart.
    this.plot.addEventListener("blur", ({ relatedTarget }) => {
      if (!relatedTarget?.closest(".plot")) group.setCursor(null);
    });
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.plot);
    this.times = [];
    // Where each finger is, by the ID of its pointer.
    this.fingers = new Map();
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
    Object.assign(this, { from, to, gap, cursorIndex: null });
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
    for (const [x, text] of this.marks(width)) root.append(svg("text", { x, y: HEIGHT - 4, "text-anchor": "middle" }, text));
    // Data beyond the span, while two fingers move it, is cut off.
    const inside = svg("svg", { viewBox: `${LEFT} 0 ${width - LEFT - RIGHT} ${HEIGHT}`, x: LEFT, width: width - LEFT - RIGHT, height: HEIGHT });
    root.append(inside);
    if (this.bounds) inside.append(...this.runs(this.bounds[0]).map((run) => this.area(run)));
    this.values.forEach((list, number) => {
      for (const run of this.runs(list)) {
        const points = run.map((i) => `${this.x(this.times[i]).toFixed(1)},${this.y(list[i]).toFixed(1)}`);
        if (points.length === 1) points.push(points[0]);
        inside.append(svg("polyline", { points: points.join(" "), class: `line c${this.colour(number)}` }));
      }
    });
    this.cursor = svg("g", { visibility: "hidden" });
    root.append(this.cursor);
    this.setCursor(this.cursorIndex ?? null);
  }

  colour(number) {
    return this.lines[number].colour ?? number;
  }

  // Positions and texts of the times below the chart: round local times, as many as fit.
  marks(width) {
    const hours = (this.to - this.from) / 3600, [, step] = STEPS.findLast(([from]) => hours >= from), marks = [];
    const date = new Date(this.from * 1000), byMonth = hours > MONTHS;
    const isDay = () => step >= 1440 || !date.getHours() && !date.getMinutes();
    const parts = () => !byMonth ? hours > DATES ? DATE : DAY : date.getMonth() ? MONTH : { year: "numeric" };
    date.setHours(0, 0, 0, 0);
    if (byMonth) date.setDate(1);
    for (; date <= this.to * 1000; byMonth ? date.setMonth(date.getMonth() + 1) : date.setMinutes(date.getMinutes() + step)) {
      const x = this.x(date / 1000), text = isDay() ? formatDate(date, parts()) : formatTime(date);
      if (x >= LEFT && x <= width - 14 && !(x - marks.at(-1)?.[0] < 44)) marks.push([x, text]);
    }
    return marks;
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

  // Of the width of the chart.
  shareAt({ clientX }) {
    return (clientX - this.plot.getBoundingClientRect().left - LEFT) / (this.width - LEFT - RIGHT);
  }

  timeAt(event) {
    return this.from + Math.max(0, Math.min(1, this.shareAt(event))) * (this.to - this.from);
  }

  // The times below both fingers stay there.
  pinch() {
    const [a, b] = [...this.fingers.values()].sort((one, other) => one.time - other.time), distance = b.share - a.share;
    if (distance < .02) return;
    const span = Math.max((b.time - a.time) / distance, MIN_SPAN), from = (a.time + b.time) / 2 - (a.share + b.share) / 2 * span;
    Object.assign(this, { from, to: from + span, isPinched: true });
    this.draw();
  }

  onPointer(event) {
    if (!this.hasData) return;
    const finger = this.fingers.get(event.pointerId);
    if (finger) finger.share = this.shareAt(event);
    if (this.fingers.size === 2) return this.pinch();
    const time = this.timeAt(event);
    if (this.dragged) this.dragged.to = time;
    this.group.setCursor(time);
  }

  // A finger moves the cursor, two fingers the span, and a mouse or pen selects one.
  onPress(event) {
    if (this.hasData && event.pointerType === "touch" && this.fingers.size < 2) {
      this.fingers.set(event.pointerId, { share: this.shareAt(event) });
      for (const finger of this.fingers.values()) finger.time = this.from + finger.share * (this.to - this.from);
      if (this.fingers.size === 2) return this.group.setCursor(null);
    }
    if (this.hasData && event.pointerType !== "touch" && !event.button) {
      this.plot.setPointerCapture(event.pointerId);
      this.dragged = { from: this.timeAt(event), begin: event.clientX };
    }
    this.onPointer(event);
  }

  onRelease(event) {
    const { dragged } = this;
    this.dragged = null;
    this.fingers.delete(event.pointerId);
    if (this.isPinched) {
      this.isPinched = false;
      this.group.zoomTo(this.from, this.to);
    }
    if (dragged && Math.abs(event.clientX - dragged.begin) >= MIN_DRAG) this.group.zoomTo(...[dragged.from, this.timeAt(event)].sort((a, b) => a - b));
  }

  onKey(event) {
    const last = this.times.length - 1, now = this.cursorIndex ?? last, { group } = this;
    const jump = Math.max(1, Math.round(last / 20));
    const to = {
      ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
      PageDown: now - jump, PageUp: now + jump, Home: 0, End: last,
    }[event.key];
    const zoom = { "+": () => group.zoomBy(.5), "-": () => group.zoomBy(2), 0: () => group.reset() }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      this.dragged = null;
      group.setCursor(null);
    }
    if (!zoom && (to === undefined || !this.hasData)) return;
    event.preventDefault();
    if (zoom) zoom();
    else group.setCursor(this.times[Math.max(0, Math.min(last, to))]);
  }

  // The values of now, which the readout shows without a cursor; `undefined` where there is none.
  setCurrent(values) {
    this.current = values;
    if (this.cursorIndex === null) this.setCursor(null);
  }

  write(value) {
    return value === null || value === undefined ? "–" : `${fixed(value, this.decimals)} ${this.unit}`;
  }

  // What a line is at a point: its name, value and range there.
  pointTexts(at) {
    const [only] = this.lines.length === 1 ? this.bounds ?? [] : [];
    return [
      ...this.lines.map(({ name }, i) => [name || t("mean"), this.write(this.values[i][at]), this.colour(i)]),
      ...(only ? [["lowest", 0], ["highest", 1]].map(([key, bound]) => [t(key), this.write(this.bounds[bound][at]), `${this.colour(0)} spread`]) : []),
    ];
  }

  // Shows the values at a point; null shows those of now and hides the cursor.
  setCursor(index) {
    this.cursorIndex = index;
    const { hasData } = this, at = index ?? this.times.length - 1, isShown = index !== null && hasData;
    const now = () => this.lines.map(({ name }, i) => [name, this.write(this.current?.[i]), this.colour(i)]);
    const texts = isShown ? this.pointTexts(at) : now(), when = isShown ? this.group.moment(this.times[at]) : "";
    this.readout.replaceChildren(when, ...texts.map(([name, text, kind]) => {
      const entry = document.createElement("span"), swatch = document.createElement("i"), bold = document.createElement("b");
      swatch.className = `c${kind}`;
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
    this.cursor.setAttribute("visibility", isShown ? "visible" : "hidden");
    if (!isShown) return;
    const x = this.x(this.times[at]), { from, to = from } = this.dragged ?? {}, [left, right] = [from, to].sort((a, b) => a - b).map(this.x);
    const height = HEIGHT - BOTTOM - TOP, selection = { x: left, y: TOP, width: right - left, height, class: "selection" };
    this.cursor.replaceChildren(...(this.dragged ? [svg("rect", selection)] : []), svg("line", { x1: x, x2: x, y1: TOP, y2: TOP + height, class: "cursor" }));
    this.values.forEach((list, i) => {
      if (list[at] === null || list[at] === undefined) return;
      this.cursor.append(svg("circle", { cx: x, cy: this.y(list[at]), r: 3.5, class: `c${this.colour(i)}` }));
    });
  }
}

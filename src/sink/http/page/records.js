// What is kept for years: the energy of each day, and the alarms. Of one battery, or of all without an ID.

import { fixed, niceStep, svg } from "./chart.js";
import { button, describe, format, formatDuration, h, panel, stored, termRows } from "./parts.js";
import { locale, t } from "./texts.js";

const HEIGHT = 176, LEFT = 44, TOP = 8, BOTTOM = 22;
// Bars at most, and days that are requested for them.
const PERIODS = { day: [31, 31], week: [26, 182], month: [24, 740], year: [7, 2200] };
// Below, the charge at the begin and at the end matters more than what is lost.
const MIN_CYCLES = 10;
const ALARMS = 10;

export const kwh = (value) => `${fixed(value, value < 100 ? 2 : 0)} kWh`;
const noon = (day) => new Date(`${day}T12:00Z`);

// The first day of the period.
function periodOf(day, unit) {
  if (unit === "week") {
    const date = noon(day);
    date.setUTCDate(date.getUTCDate() - (date.getUTCDay() + 6) % 7);
    return date.toISOString().slice(0, 10);
  }
  return unit === "year" ? `${day.slice(0, 4)}-01-01` : unit === "month" ? `${day.slice(0, 7)}-01` : day;
}

function periodName(day, unit) {
  if (unit === "year") return day.slice(0, 4);
  const parts = unit === "month" ? { month: "short", year: "2-digit" } : { day: "numeric", month: "numeric" };
  return noon(day).toLocaleDateString(locale, { ...parts, timeZone: "UTC" });
}

export class EnergyPanel {
  constructor(id) {
    Object.assign(this, { id, unit: "day", last: 0 });
    this.plot = h("div", { class: "plot bars" });
    this.totals = h("dl", { class: "grid" });
    this.note = h("p", { class: "muted" });
    this.rows = h("tbody");
    const heads = ["period", "charged", "discharged"].map((key) => h("th", { scope: "col" }, t(key)));
    const table = h("table", {}, h("caption", { class: "visually-hidden" }, t("energy")), h("thead", {}, h("tr", {}, ...heads)), this.rows);
    const choices = Object.keys(PERIODS).map((unit) => {
      const input = h("input", { type: "radio", name: "unit", value: unit });
      input.checked = unit === this.unit;
      input.addEventListener("change", () => {
        Object.assign(this, { unit, last: 0 });
        this.load(this.fetchJson).catch(() => {});
      });
      return h("label", {}, input, h("span", {}, t(unit)));
    });
    const choice = h("fieldset", {}, h("legend", { class: "visually-hidden" }, t("period")), ...choices);
    this.node = h("section", { class: "panel energy" }, h("div", { class: "range" }, h("h2", {}, `${t("energy")} (kWh)`), choice),
      this.plot, this.totals, this.note, h("details", {}, h("summary", {}, t("as_table")), table));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.plot);
  }

  close() {
    this.observer.disconnect();
  }

  // Years of all batteries are large, and only the last bar grows.
  async load(fetchJson) {
    this.fetchJson = fetchJson;
    const { unit } = this;
    if (Date.now() - this.last < (unit === "day" ? 20000 : 300000)) return;
    const data = await fetchJson(`api/energy?days=${PERIODS[unit][1]}`);
    if (unit !== this.unit) return;
    this.last = Date.now();
    const own = this.id ? data.batteries.find(({ id }) => id === this.id) : data.house;
    if (!own) return;
    this.group(data, own);
    this.cycle = own.cycle === null ? null : own.cycle / 1000;
    this.show(data.kept);
  }

  // Every period from the first day with data until today, in kWh.
  group({ days, today }, { charged, discharged }) {
    this.bars = new Map();
    const first = days.find((_, i) => charged[i] !== null) ?? today;
    for (const date = noon(first); date <= noon(today); date.setUTCDate(date.getUTCDate() + 1)) {
      this.bars.set(periodOf(date.toISOString().slice(0, 10), this.unit), [0, 0]);
    }
    days.forEach((day, i) => {
      const bar = this.bars.get(periodOf(day, this.unit));
      if (bar && charged[i] !== null) [bar[0], bar[1]] = [bar[0] + charged[i] / 1000, bar[1] + discharged[i] / 1000];
      if (day === today) this.today = [charged[i] / 1000, discharged[i] / 1000];
    });
    this.bars = [...this.bars].slice(-PERIODS[this.unit][0]);
  }

  show(isKept) {
    const [charged, discharged] = [0, 1].map((way) => this.bars.reduce((sum, [, bar]) => sum + bar[way], 0));
    const cycles = this.cycle ? discharged / this.cycle : null;
    const hasEfficiency = cycles !== null && charged >= MIN_CYCLES * this.cycle;
    const efficiency = hasEfficiency ? `${fixed(100 * discharged / charged, 0)} %` : "–";
    this.note.textContent = [isKept ? "" : t("energy_not_kept"), hasEfficiency ? "" : t("efficiency_later")].join(" ").trim();
    this.note.hidden = !this.note.textContent;
    this.totals.replaceChildren(...termRows([
      [h("span", { class: "key c0" }, t("charged")), kwh(charged)], [h("span", { class: "key c1" }, t("discharged")), kwh(discharged)],
      [t("efficiency"), efficiency], [t("cycles"), cycles === null ? "–" : fixed(cycles, 1)],
    ]));
    this.summary = `${t("charged")} ${kwh(charged)}, ${t("discharged")} ${kwh(discharged)}`;
    this.rows.replaceChildren(...this.bars.toReversed().map(([day, bar]) =>
      h("tr", {}, h("th", { scope: "row" }, periodName(day, this.unit)), ...bar.map((value) => h("td", {}, kwh(value))))));
    this.draw();
  }

  draw() {
    const width = this.plot.clientWidth;
    if (!width || !this.bars) return;
    const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": this.summary });
    const step = niceStep(Math.max(...this.bars.flatMap(([, bar]) => bar), .04), 4);
    const high = Math.ceil(Math.max(...this.bars.flatMap(([, bar]) => bar), .04) / step - 1e-9) * step;
    const y = (value) => TOP + (high - value) / high * (HEIGHT - TOP - BOTTOM);
    for (let value = 0; value <= high + step / 2; value += step) {
      root.append(svg("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value), class: "grid-line" }));
      root.append(svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, fixed(value, step < .1 ? 2 : step < 1 ? 1 : 0)));
    }
    const slot = (width - LEFT) / this.bars.length, size = Math.min(slot * .4, 22);
    let labelled = -Infinity;
    this.bars.forEach(([day, bar], i) => {
      const middle = LEFT + (i + .5) * slot, name = periodName(day, this.unit);
      bar.forEach((value, way) => {
        const rect = svg("rect", { x: middle - size * (1 - way), y: y(value), width: size, height: Math.max(0, y(0) - y(value)), class: `c${way}` });
        rect.append(svg("title", {}, `${name}: ${t(way ? "discharged" : "charged")} ${kwh(value)}`));
        root.append(rect);
      });
      if (middle - labelled < 48 || middle > width - 16) return;
      labelled = middle;
      root.append(svg("text", { x: middle, y: HEIGHT - 4, "text-anchor": "middle" }, name));
    });
    this.plot.replaceChildren(root);
  }
}

// The values of the battery when the alarm started.
function values({ values }) {
  const write = (key, unit) => format({ key, unit, value: values[key] });
  const single = [["pack_voltage", "V"], ["pack_current", "A"], ["soc", "%"]].filter(([key]) => key in values).map(([key, unit]) => write(key, unit));
  const range = (low, high, unit) => low in values && high in values ? [`${write(low, unit)} – ${write(high, unit)}`] : [];
  const cells = range("min_cell_voltage", "max_cell_voltage", "V").map((text) => `${t("cells")} ${text}`);
  return [...single, ...cells, ...range("min_temp", "max_temp", "°C")];
}

export class AlarmPanel {
  constructor(id) {
    this.id = id;
    this.list = h("ul", { class: "problems" });
    this.none = h("p", { class: "muted" });
    this.clear = button(t("clear_list"), () => {
      stored("alarms_cleared", String(Math.max(...this.alarms.map(({ start }) => start))));
      this.showsAll = false;
      this.render();
      this.all.focus();
    });
    this.all = button(t("show_all"), () => {
      this.showsAll = true;
      this.render();
      this.clear.focus();
    });
    this.node = panel(t("alarm_history"), "alarms", this.list, this.none, h("p", { class: "actions" }, this.clear, this.all)).node;
  }

  show(state) {
    this.batteries = state.batteries;
  }

  async load(fetchJson) {
    const members = this.batteries?.get(this.id)?.members.map(({ id }) => id) ?? [];
    const { alarms } = await fetchJson("api/alarms");
    this.alarms = alarms.filter(({ battery }) => !this.id || battery === this.id || members.includes(battery));
    this.render();
  }

  render() {
    const cleared = Number(stored("alarms_cleared") ?? 0);
    const isShown = ({ start, end }) => this.showsAll || end === null || start > cleared;
    const shown = this.alarms.filter(isShown).slice(0, this.showsAll ? Infinity : ALARMS);
    this.list.replaceChildren(...shown.map((alarm) => {
      // Its value is that of the time.
      const text = describe({ ...alarm, words: alarm.words.replace(", now ", ", ") }, this.batteries);
      const time = new Date(alarm.start).toLocaleString(locale, { dateStyle: "short", timeStyle: "short" });
      const length = alarm.end === null ? t("alarm_active") : formatDuration(alarm.duration_s);
      const facts = [time, length, ...values(alarm)].join(" · ");
      return h("li", { class: alarm.end === null ? alarm.severity : "ended" }, h("span", {}, text, h("span", { class: "muted" }, facts)));
    }));
    this.none.textContent = t("alarm_none");
    this.none.hidden = shown.length > 0;
    this.clear.hidden = !shown.some(({ end }) => end !== null);
    this.all.hidden = shown.length === this.alarms.length;
  }
}

// The health of the cells of a battery: a sentence, and what it is based on.

import { Chart, ChartGroup, fixed, formatDay } from "./chart.js";
import { h, panel, sentence, setText, termRows } from "./parts.js";
import { t } from "./texts.js";

// In milliseconds. The values are those of many days.
const REFRESH = 300000;
// Key in the answer, text of the heading, decimals. The first two are shares, with a bar.
const COLUMNS = [
  ["lowest_percent", "lowest", 0], ["highest_percent", "highest", 0], ["drift_mv_month", "drift", 1],
  ["balancing_hours", "balancing_hours", 1], ["resistance_mohm", "resistance", 2],
];

function summaryOf({ code, mv, drift_mv_month: drift, condition, ...rest }) {
  const values = { mv: mv === undefined ? "" : fixed(mv, 0), drift: drift === undefined ? "" : fixed(drift, 1), where: condition ? t(`at_${condition}`) : "" };
  return t(`health_${code}`, { ...rest, ...values });
}

function cell(value, [key, , digits]) {
  const node = h("td", {}, value === undefined ? "–" : fixed(value, digits));
  if (key.endsWith("percent") && value !== undefined) node.style.background = `linear-gradient(90deg, var(--line) ${value}%, transparent ${value}%)`;
  return node;
}

function table(cells) {
  const shown = COLUMNS.filter(([key]) => cells.some((it) => it[key] !== undefined));
  return [
    h("caption", { class: "visually-hidden" }, t("health")),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("cell", { number: "" }).trim()), ...shown.map(([key, text]) => h("th", { scope: "col" }, `${t(text)}${key.endsWith("percent") ? " (%)" : ""}`)))),
    h("tbody", {}, ...cells.map((it) => h("tr", {}, h("th", { scope: "row" }, String(it.cell)), ...shown.map((column) => cell(it[column[0]], column))))),
  ];
}

function facts({ spread_mv: spread, capacity }) {
  const rows = Object.entries(spread).map(([condition, mv]) => [t("spread", { where: t(`at_${condition}`) }), `${fixed(mv, 0)} mV`]);
  if (capacity) {
    const warm = capacity.temperature === undefined ? "" : ` (${fixed(capacity.temperature, 0)} °C)`;
    rows.push([t("capacity_estimate"), `≈ ${fixed(capacity.ah, 1)} Ah${warm}`]);
  }
  return termRows(rows);
}

// How far the cells were apart on each day, of those conditions that were met. In seconds; the days have no time.
const DAY = 86400, CONDITIONS = [["full", 0], ["rest", 2], ["empty", 1]];

class SpreadChart extends ChartGroup {
  moment = formatDay;

  constructor() {
    super();
    const lines = CONDITIONS.map(([key, colour]) => ({ key, name: t(`at_${key}`), stat: "mean", colour }));
    this.chart = new Chart(this, t("spread", { where: "" }).trim(), "mV", 0, lines, { zero: true, minRange: 10 });
    this.charts = [this];
    this.course = h("p", { class: "muted" });
    this.node = h("div", { class: "spread-chart" }, h("h3", {}, this.chart.label, " ", this.chart.readout), this.chart.plot, this.course);
  }

  show({ days, spread_mv: spread }) {
    this.times = days.map((day) => new Date(`${day}T12:00`) / 1000);
    const known = CONDITIONS.map(([key]) => spread[key].flatMap((mv, i) => mv === null ? [] : [[mv, this.times[i]]]));
    this.node.hidden = !known.some((values) => values.length);
    if (this.node.hidden) return;
    this.series = Object.fromEntries(CONDITIONS.map(([key]) => [key, { mean: spread[key] }]));
    this.now = this.times.at(-1) + DAY / 2;
    this.whole = Math.max(this.now - this.times[0] + DAY / 2, 7 * DAY);
    this.chart.setCurrent(known.map((values) => values.at(-1)?.[0]));
    // The first and the last value, for those who do not see the lines.
    const course = known.flatMap((values, i) => values.length < 2 ? [] : sentence(t("spread_course", {
      where: t(`at_${CONDITIONS[i][0]}`), first: fixed(values[0][0], 0), last: fixed(values.at(-1)[0], 0), since: formatDay(values[0][1]),
    })));
    setText(this.course, course.join(" "));
    this.reload();
  }

  // Everything is here. A condition that was not met for a week is a gap.
  reload() {
    this.chart.show(this, ...this.span, 7.5 * DAY);
    if (this.cursor !== null) this.setCursor(this.cursor);
  }
}

// Loads itself for as long as it is on the page.
export function healthPanel(id, fetchJson) {
  const [text, grid, rows] = [h("p"), h("dl", { class: "grid" }), h("table")];
  const details = h("details", {}, h("summary", {}, t("cells")), rows);
  const spread = new SpreadChart(), { node, extra } = panel(t("health"), "health", text, grid, spread.node);
  node.hidden = true;
  const load = async () => {
    try {
      const health = await fetchJson(`api/devices/${id}/health?days=366`);
      // A bank, or a battery that reports neither cells nor charge.
      node.hidden = health.summary.code === "no_cells" && !health.capacity;
      text.textContent = summaryOf(health.summary);
      extra.textContent = health.days ? t("days", { count: Math.min(health.days, 30) }) : "";
      grid.replaceChildren(...facts(health));
      spread.show(health.history);
      if (!health.cells.length) details.remove();
      else if (details.parentNode !== node) node.append(details);
      rows.replaceChildren(...table(health.cells));
    } catch {
      // Retried.
    }
    setTimeout(() => node.isConnected && load(), REFRESH);
  };
  load();
  return node;
}

// The charts of one battery: what they show, one span of time and one cursor for all, and their data as a table.

import { Chart, ChartGroup, formatMoment } from "./chart.js";
import { button, formatDuration, h, panel, setText, valueOf } from "./parts.js";
import { t } from "./texts.js";

// In hours. More than the program keeps shows what there is.
const RANGES = [1, 6, 24, 48, 168, 720, 8760];

const rangeName = (hours) => hours < 72 ? `${hours} h` : hours < 8760 ? t("days", { count: hours / 24 }) : t("one_year");

export class HistoryCharts extends ChartGroup {
  constructor(id, fetchJson) {
    super();
    Object.assign(this, { id, fetchJson, hours: 24 });
    const line = (key, colour, stat = "mean", name = "") => ({ key, name, stat, colour });
    const range = (what, colour) => [line(`max_${what}`, colour, "max", t("highest")), line(`min_${what}`, 2, "min", t("lowest"))];
    this.charts = [
      ["charge", "%", 1, [line("soc", 0)], { minRange: 5 }],
      ["power", "W", 0, [line("power", 1)], { zero: true, minRange: 10 }],
      ["voltage", "V", 2, [line("pack_voltage", 2)], { minRange: .5 }],
      ["cells", "V", 3, range("cell_voltage", 1), { band: true, minRange: .02 }],
      ["temperature", "°C", 1, range("temp", 3), { band: true, minRange: 2 }],
      ["current", "A", 2, [line("pack_current", 0)], { zero: true, minRange: 1 }],
    ].map(([key, ...rest]) => {
      const chart = new Chart(this, t(key), ...rest), { node, extra } = panel(chart.label, "half", chart.plot);
      extra.append(chart.readout);
      return { chart, node };
    });
    this.nodes = [this.controls(), ...this.charts.map(({ node }) => node)];
  }

  controls() {
    this.choices = RANGES.map((range) => {
      const input = h("input", { type: "radio", name: "range", value: range });
      input.checked = range === this.hours;
      input.addEventListener("change", () => this.choose(range));
      return { range, input };
    });
    const choices = this.choices.map(({ range, input }) => h("label", {}, input, h("span", {}, rangeName(range))));
    const zoom = (sign, key, action) => button(sign, action, { "aria-label": t(key), title: t(key) });
    this.zoomOut = zoom("−", "zoom_out", () => this.zoomBy(2));
    this.status = h("span", { role: "status" });
    this.csv = h("a", { class: "button", download: `${this.id}.csv`, title: t("csv_shown") }, "CSV");
    const all = h("a", { class: "button", download: `${this.id}-all.csv`, href: `api/devices/${this.id}/history.csv?from=0` }, t("csv_all"));
    return h("div", { class: "range" }, h("h2", {}, t("history")),
      h("p", { class: "actions" }, zoom("+", "zoom_in", () => this.zoomBy(.5)), this.zoomOut, zoom(t("reset"), "zoom_reset", () => this.reset()), this.csv, all),
      h("fieldset", {}, h("legend", { class: "visually-hidden" }, t("time_range")), ...choices),
      h("p", { class: "muted" }, h("span", {}, t("chart_legend")), " ", this.status));
  }

  // The newest values and the time of the server.
  show(battery, now) {
    Object.assign(this, { interval: battery.interval_ms / 1000, now: now / 1000 });
    for (const { chart } of this.charts) chart.setCurrent(chart.lines.map(({ key }) => valueOf(battery, key)));
  }

  get whole() {
    return this.hours * 3600;
  }

  choose(hours) {
    this.hours = hours;
    this.reset();
  }

  reload() {
    this.chosen = true;
    this.load(this.fetchJson).catch(() => {});
  }

  async load(fetchJson) {
    const keys = this.charts.flatMap(({ chart }) => chart.lines.map((line) => line.key));
    const { hours, zoom } = this, [from, to] = this.span.map(Math.round), path = `api/devices/${this.id}/history`;
    const history = await fetchJson(`${path}?from=${from}&to=${to}&keys=${keys}`);
    // Another span was chosen meanwhile.
    if (hours !== this.hours || zoom !== this.zoom) return;
    const { times, step, oldest } = history;
    if (!this.chosen) {
      // Start with the smallest range that contains the whole history.
      this.chosen = true;
      const smallest = this.choices.find(({ range }) => range * 3600 >= to - oldest);
      if (smallest && smallest.range < hours) return smallest.input.click();
    }
    const gap = Math.max(2.5 * step, 3 * this.interval, 90);
    this.times = times;
    for (const { chart, node } of this.charts) {
      chart.show(history, from, to, gap);
      // A battery without cells or sensors has no such chart; a new battery has empty charts.
      node.hidden = !chart.hasData && times.length > 0;
    }
    if (this.cursor !== null) this.setCursor(this.cursor);
    this.csv.href = `${path}.csv?from=${from}&to=${to}&step=${Math.round(step)}&keys=${keys}`;
    const since = !zoom && oldest - from > gap ? t("history_since", { time: formatMoment(oldest) }) : "";
    const text = zoom ? `${zoom.map(formatMoment).join(" – ")} (${formatDuration(to - from)}).` : since;
    setText(this.status, text);
  }
}

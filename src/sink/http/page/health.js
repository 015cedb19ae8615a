// The health of the cells of a battery: a sentence, and what it is based on.

import { fixed } from "./chart.js";
import { h, panel, termRows } from "./parts.js";
import { t } from "./texts.js";

// In milliseconds. The values are those of many days.
const REFRESH = 300000;
// Key in the answer, text of the heading, decimals. The first two are shares, with a bar.
const COLUMNS = [
  ["lowest_percent", "lowest", 0], ["highest_percent", "highest", 0], ["drift_mv_month", "drift", 1],
  ["balancing_hours", "balancing_hours", 1], ["resistance_mohm", "resistance", 2],
];

function sentence({ code, mv, drift_mv_month: drift, condition, ...rest }) {
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

// Loads itself for as long as it is on the page.
export function healthPanel(id, fetchJson) {
  const [text, grid, rows] = [h("p"), h("dl", { class: "grid" }), h("table")];
  const details = h("details", {}, h("summary", {}, t("cells")), rows);
  const { node, extra } = panel(t("health"), "health", text, grid);
  node.hidden = true;
  const load = async () => {
    try {
      const health = await fetchJson(`api/devices/${id}/health?days=1`);
      // A bank, or a battery that reports neither cells nor charge.
      node.hidden = health.summary.code === "no_cells" && !health.capacity;
      text.textContent = sentence(health.summary);
      extra.textContent = health.days ? t("days", { count: Math.min(health.days, 30) }) : "";
      grid.replaceChildren(...facts(health));
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

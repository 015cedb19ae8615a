// The views: all batteries, or one battery. `show` updates the texts of a view in place, so that focus
// and scroll position stay.

import { fixed, formatTime, svg } from "./chart.js";
import { healthPanel } from "./health.js";
import { HistoryCharts } from "./history.js";
import { describe, entryOf, format, formatDuration, h, panel, ring, sentence, showPower, termRows, valueOf } from "./parts.js";
import { AlarmPanel, EnergyPanel, kwh } from "./records.js";
import { CommandPanels } from "./switches.js";
import { locale, t, valueName } from "./texts.js";

function formatLink(battery, now) {
  const { link, since } = battery;
  if (battery.settings?.paused) return t("paused");
  if (link !== "offline" || !since) return t(link);
  const date = new Date(since), isOld = now - since > 86400000;
  return t("offline_since", { time: `${isOld ? `${date.toLocaleDateString(locale)} ` : ""}${formatTime(date)}` });
}

// An offline battery has its last values, which are marked as such.
function shownOf(battery, now) {
  const { last, updated } = battery;
  if (!last) return { ...battery, old: "" };
  return { ...battery, values: last, old: t("last_values", { time: formatDuration((now - updated) / 1000) }) };
}

// The active alarms, and why the battery does not answer.
function problems(battery, batteries) {
  const alarms = battery.alarms.map((alarm) => h("li", { class: alarm.severity }, h("span", {}, describe(alarm, batteries))));
  const { fault } = battery;
  if (!fault) return alarms;
  const text = h("span", {}, sentence(fault.message), h("span", { class: "muted" }, sentence(fault.hint)));
  return [...alarms, h("li", { class: battery.link === "online" ? "warning" : "fault" }, text)];
}

// `charging`, `discharging` or `idle`.
const activity = (battery) => {
  const status = valueOf(battery, "status");
  return status ? t(status) : "";
};

const FACTS = ["pack_voltage", "pack_current", "avg_temp", "cell_voltage_diff"];

function facts(battery) {
  return FACTS.map((key) => entryOf(battery, key)).filter(Boolean).map((entry) => {
    const text = entry.key === "cell_voltage_diff" ? `Δ ${Math.round(entry.value * 1000)} mV` : format(entry);
    return h("div", {}, h("dt", { class: "visually-hidden" }, valueName(entry)), h("dd", {}, text));
  });
}

// One battery in the overview.
class Card {
  constructor(battery) {
    this.name = h("a", { href: `#/${battery.id}` });
    this.link = h("span");
    this.ring = ring();
    [this.power, this.status, this.facts, this.problems] = [h("p"), h("p", { class: "muted" }), h("dl", { class: "facts" }), h("ul", { class: "problems" })];
    this.spark = svg("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.now = h("div", { class: "now" }, this.ring.node, h("div", {}, this.power, this.status));
    this.node = h("li", {}, h("article", { class: "card" },
      h("div", { class: "top" }, h("h2", {}, this.name), this.link), this.now, this.problems, this.facts, this.spark));
  }

  show(present, batteries, now) {
    const battery = shownOf(present, now);
    this.node.querySelector("article").classList.toggle("old", battery.old !== "");
    this.name.textContent = battery.name;
    this.link.className = `pill ${battery.link}`;
    this.link.textContent = formatLink(battery, now);
    this.ring.show(valueOf(battery, "soc"));
    this.now.hidden = battery.link === "offline" && !battery.old;
    showPower(battery, this.power);
    this.status.textContent = battery.old || activity(battery) || (battery.link === "connecting" ? t("waiting") : "");
    this.facts.replaceChildren(...facts(battery));
    this.problems.replaceChildren(...problems(battery, batteries));
    this.problems.hidden = !this.problems.children.length;
  }

  // The state of charge of the last day, scaled to the full width.
  showHistory(history) {
    const soc = history.series.soc?.mean ?? [], from = history.times[0], to = history.times.at(-1);
    const points = soc.flatMap((value, i) => value === null ? [] : [`${((history.times[i] - from) / (to - from) * 100).toFixed(1)},${(29 - value / 100 * 27).toFixed(1)}`]);
    if (points.length < 2) return this.spark.replaceChildren();
    const [first, last] = [points[0].split(",")[0], points.at(-1).split(",")[0]];
    this.spark.replaceChildren(
      svg("path", { d: `M${first} 30L${points.join("L")}L${last} 30Z` }), svg("polyline", { points: points.join(" ") }));
  }
}

// All batteries together.
class House {
  constructor() {
    this.ring = ring();
    [this.power, this.status, this.facts] = [h("p"), h("p", { class: "muted" }), h("dl", { class: "grid" })];
    const { node, extra } = panel(t("house"), "house", h("div", { class: "big" }, this.ring.node, h("div", {}, this.power, this.status), this.facts));
    Object.assign(this, { node, extra });
  }

  // `today`: energy in and out.
  show(state, today) {
    // A bank repeats its members.
    const all = [...state.batteries.values()].filter(({ type }) => type !== "bank");
    this.node.hidden = all.length < 2;
    const online = all.filter(({ link }) => link === "online"), isComplete = online.length === all.length;
    this.extra.textContent = t("online_of", { online: online.length, count: all.length });
    const powers = online.map((battery) => valueOf(battery, "power") ?? 0);
    const sum = (list) => list.reduce((total, value) => total + value, 0);
    const net = sum(powers), status = net > 10 ? "charging" : net < -10 ? "discharging" : "idle";
    showPower({ link: "online", values: online.length ? [{ key: "power", value: net }, { key: "status", value: status }] : [] }, this.power);
    this.status.textContent = online.length ? t(status) : "";
    // In Wh. Without the capacity of each, all count the same, and nothing is known about the time.
    const sizes = online.map((battery) => (valueOf(battery, "full_capacity") ?? valueOf(battery, "design_capacity")) * valueOf(battery, "pack_voltage"));
    const isKnown = sizes.every((size) => size > 0);
    const charges = online.map((battery, i) => valueOf(battery, "soc") / 100 * (isKnown ? sizes[i] : 1));
    const size = isKnown ? sum(sizes) : online.length, charge = sum(charges);
    this.ring.show(charge / size >= 0 ? Math.round(charge / size * 1000) / 10 : null);
    const left = status === "charging" ? size - charge : status === "discharging" ? charge : NaN;
    const seconds = isKnown && isComplete ? left / Math.abs(net) * 3600 : NaN, key = status === "charging" ? "time_to_full" : "time_to_empty";
    const watts = (list) => format({ value: Math.abs(sum(list)), unit: "W" });
    const rows = [
      [t("power_in"), watts(powers.filter((power) => power > 0))], [t("power_out"), watts(powers.filter((power) => power < 0))],
      ...(today ? [[t("charged_today"), kwh(today[0])], [t("discharged_today"), kwh(today[1])]] : []),
      ...(seconds >= 0 ? [[t(key), formatDuration(seconds)]] : []),
    ];
    this.facts.replaceChildren(...termRows(rows));
  }
}

export class OverviewView {
  constructor() {
    this.title = t("batteries");
    this.cards = new Map();
    this.list = h("ul", { class: "cards" });
    [this.house, this.energy, this.alarms] = [new House(), new EnergyPanel(), new AlarmPanel()];
    this.node = h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1" }, t("batteries")),
      this.house.node, this.list, h("div", { class: "board" }, this.energy.node, this.alarms.node));
  }

  show(state, now) {
    this.house.show(state, this.energy.today);
    this.alarms.show(state);
    const banks = [...state.batteries.values()].filter(({ members }) => members.length);
    for (const battery of state.batteries.values()) {
      let card = this.cards.get(battery.id);
      if (!card) this.cards.set(battery.id, card = new Card(battery));
      // A bank contains its members, which are known once it was read.
      const bank = banks.find(({ members }) => members.some(({ id }) => id === battery.id));
      const list = bank ? this.membersOf(bank.id) : this.list;
      if (card.node.parentNode !== list) list.append(card.node);
      card.show(battery, state.batteries, now);
    }
  }

  membersOf(id) {
    let card = this.cards.get(id);
    if (!card) this.cards.set(id, card = new Card({ id }));
    if (!card.members) {
      card.members = h("ul", { class: "cards" });
      card.node.append(card.members);
      card.node.classList.add("bank");
    }
    return card.members;
  }

  async loadHistory(fetchJson) {
    await Promise.all([this.energy.load(fetchJson), this.alarms.load(fetchJson)]);
    for (const [id, card] of this.cards) card.showHistory(await fetchJson(`api/devices/${id}/history?hours=24&keys=soc&step=300`));
  }

  close() {
    this.energy.close();
  }
}

// The batteries of a bank. Rows are kept, so that a link keeps the focus.
class Members {
  constructor() {
    this.rows = h("tbody");
    this.node = h("table", { class: "members" }, h("caption", { class: "visually-hidden" }, t("bank_members")), this.rows);
    this.cells = new Map();
  }

  show(members, state, now) {
    if (members.length !== this.cells.size) {
      this.cells = new Map(members.map(({ id }) => [id, { link: h("span"), soc: h("td"), power: h("td") }]));
      this.rows.replaceChildren(...[...this.cells].map(([id, { link, soc, power }]) =>
        h("tr", {}, h("th", { scope: "row" }, h("a", { href: `#/${id}` }, state.batteries.get(id)?.name ?? id)), h("td", {}, link), soc, power)));
    }
    for (const { id, missing } of members) {
      const member = state.batteries.get(id), cells = this.cells.get(id);
      if (!member) continue;
      const lost = missing && member.link === "online";
      cells.link.className = `pill ${lost ? "offline" : member.link}`;
      cells.link.textContent = lost ? t("member_missing") : formatLink(member, now);
      const [soc, power] = ["soc", "power"].map((key) => entryOf(member, key));
      cells.soc.textContent = soc ? format(soc) : "–";
      cells.power.textContent = power ? format(power) : "–";
    }
  }
}

// All modules of a stack have values of the same names, so each module has a heading.
function valueRows(values) {
  const rows = (entries) => entries.map((entry) => h("tr", {}, h("th", { scope: "row" }, valueName(entry)), h("td", {}, format(entry))));
  const modules = [...new Set(values.map(({ module }) => module).filter(Boolean))].sort((a, b) => a - b);
  return [
    h("tbody", {}, ...rows(values.filter(({ module }) => !module))),
    ...modules.map((number) => h("tbody", {},
      h("tr", { class: "module" }, h("th", { colspan: 2, scope: "rowgroup" }, t("module", { number }))), ...rows(values.filter(({ module }) => module === number)))),
  ];
}

const SUMMARY = [
  "pack_voltage", "pack_current", "remaining_capacity", "remaining_energy", "soh", "cycle_count", "time_to_full", "time_to_empty",
  "energy_charged", "energy_discharged",
];

export class BatteryView {
  constructor(id, fetchJson) {
    Object.assign(this, { id, fetchJson });
    [this.history, this.energy, this.alarms] = [new HistoryCharts(id, fetchJson), new EnergyPanel(id), new AlarmPanel(id)];
    this.commands = new CommandPanels(id, fetchJson);
    this.heading = h("h1", { id: "title", tabindex: "-1" });
    this.link = h("span");
    this.description = h("p", { class: "muted" });
    this.ring = ring();
    [this.power, this.status] = [h("p"), h("p", { class: "muted" })];
    this.summary = h("dl", { class: "grid" });
    this.problems = h("ul", { class: "problems" });
    this.noProblems = h("p", { class: "muted" });
    this.connection = h("dl", { class: "grid" });
    this.temperatures = h("dl", { class: "grid" });
    this.bars = h("ul", { class: "cells" });
    this.legend = h("p", { class: "legend" });
    this.members = new Members();
    this.rows = h("table");
    this.raw = h("pre", { tabindex: "0", "aria-label": t("raw") });
    this.rawDetails = h("details", { class: "panel" }, h("summary", {}, t("raw")), this.raw);
    this.rawDetails.addEventListener("toggle", () => this.loadRaw());
    this.panels = {
      now: panel(t("now"), "two-thirds", h("div", { class: "big" }, this.ring.node, h("div", {}, this.power, this.status), this.summary)),
      problems: panel(t("alarms"), "third", this.noProblems, this.problems),
      members: panel(t("bank_members"), "", this.members.node),
      cells: panel(t("cells"), "", this.bars, this.legend),
      temperatures: panel(t("temperatures"), "half", this.temperatures),
      connection: panel(t("connection"), "half connection", this.connection, this.commands.actions),
    };
    this.node = h("article", { "aria-labelledby": "title" },
      h("div", { class: "head" }, this.heading, this.link, this.description),
      h("div", { class: "board" },
        this.panels.now.node, this.panels.problems.node, this.commands.switches, this.panels.members.node, this.panels.cells.node, this.panels.temperatures.node, this.panels.connection.node, this.commands.settings,
        healthPanel(id, fetchJson), ...this.history.nodes, this.energy.node, this.alarms.node,
        h("details", { class: "panel" }, h("summary", {}, t("all_values")), this.rows),
        this.rawDetails));
  }

  show(state, now) {
    const present = state.batteries.get(this.id), battery = shownOf(present, now);
    this.alarms.show(state);
    this.history.show(present, now);
    this.commands.show(present);
    const soc = entryOf(present, "soc");
    this.title = soc ? `${format(soc)} · ${battery.name}` : battery.name;
    this.heading.textContent = battery.name;
    this.link.className = `pill ${battery.link}`;
    this.link.textContent = formatLink(battery, now);
    this.description.textContent = [battery.title, battery.model, battery.place].filter(Boolean).join(" · ");
    const online = battery.link === "online";
    for (const name of ["now", "temperatures"]) {
      this.panels[name].node.hidden = !online && !battery.old;
      this.panels[name].node.classList.toggle("old", battery.old !== "");
      this.panels[name].extra.textContent = battery.old;
    }
    this.panels.cells.node.hidden = !online;
    this.panels.members.node.hidden = !battery.members.length;
    this.members.show(battery.members, state, now);
    this.panels.cells.node.hidden ||= !battery.cells.length;
    this.ring.show(valueOf(battery, "soc"));
    showPower(battery, this.power);
    this.status.textContent = battery.old ? "" : activity(battery);
    this.showList(this.summary, SUMMARY.map((key) => entryOf(battery, key)).filter(Boolean));
    this.showList(this.temperatures, battery.values.filter((entry) => entry.unit === "°C" && !entry.module));
    this.panels.temperatures.node.hidden ||= !this.temperatures.children.length;
    const list = problems(battery, state.batteries);
    this.problems.replaceChildren(...list);
    this.noProblems.hidden = list.length > 0;
    this.noProblems.textContent = t(online ? "no_alarms" : "alarms_unknown");
    this.showCells(battery);
    this.showConnection(battery, now);
    this.rows.replaceChildren(h("caption", { class: "visually-hidden" }, t("all_values")), ...valueRows(present.values));
    if (this.rawDetails.open && battery.attempted !== this.rawAttempt) this.loadRaw();
    this.rawAttempt = battery.attempted;
  }

  showList(list, entries) {
    list.replaceChildren(...termRows(entries.map((entry) => [valueName(entry), format(entry)])));
  }

  showConnection(battery, now) {
    const ago = (time) => time ? t("ago", { time: formatDuration((now - time) / 1000) }) : t("never");
    const rows = [
      [t("last_read"), ago(battery.updated)], [t("read_every"), formatDuration(battery.interval_ms / 1000)], [t("good_reads"), battery.reads],
      [t("failed_reads"), battery.errors], [t("reconnects"), battery.reconnects],
    ];
    if (battery.fault) rows.push([t("last_error"), battery.fault.type.replaceAll("_", " ")]);
    this.connection.replaceChildren(...termRows(rows));
  }

  showCells({ cells }) {
    const volts = cells.map((cell) => cell.voltage).filter((value) => value !== null);
    const low = Math.min(...volts), high = Math.max(...volts);
    // The bars span at least 40 mV, so that noise does not look like a problem.
    const range = Math.max(high - low, .04), floor = (low + high - range) / 2 - range * .15;
    if (this.bars.children.length !== cells.length) {
      const item = (_, i) => h("li", {}, h("span", { class: "number" }, String(i + 1)), h("span", { class: "bar" }, h("i")), h("span", { class: "volts" }), h("span", { class: "mark" }));
      this.bars.replaceChildren(...cells.map(item));
    }
    const [lowest, highest] = [cells.findIndex((cell) => cell.voltage === low), cells.findIndex((cell) => cell.voltage === high)];
    cells.forEach((cell, i) => {
      const item = this.bars.children[i], isKnown = cell.voltage !== null;
      const mark = !isKnown || low === high ? "" : i === lowest ? "min" : i === highest ? "max" : "";
      item.className = `${mark} ${cell.balancing ? "balancing" : ""}`;
      item.querySelector("i").style.width = isKnown ? `${(cell.voltage - floor) / (range * 1.3) * 100}%` : "0";
      item.querySelector(".volts").textContent = isKnown ? fixed(cell.voltage, 3) : "–";
      item.querySelector(".mark").textContent = mark;
      item.setAttribute("aria-label", [`${t("cell", { number: i + 1 })}: ${isKnown ? `${fixed(cell.voltage, 3)} V` : t("unknown")}`, mark && t(mark === "min" ? "lowest" : "highest"), cell.balancing && t("balancing")].filter(Boolean).join(", "));
    });
    const balancing = cells.flatMap((cell, i) => cell.balancing ? [i + 1] : []);
    this.panels.cells.extra.textContent = volts.length ? `${fixed(low, 3)} – ${fixed(high, 3)} V, ${t("difference", { mv: Math.round((high - low) * 1000) })}` : "";
    const isKnown = cells.some((cell) => cell.balancing !== null);
    this.legend.replaceChildren(...(!isKnown ? [] : balancing.length ? [h("i"), t(balancing.length === 1 ? "balancing_one" : "balancing_many", { cells: balancing.join(", ") })] : [t("balancing_none")]));
    this.legend.hidden = !isKnown;
  }

  async loadRaw() {
    if (this.rawDetails.open) this.raw.textContent = JSON.stringify(await this.fetchJson(`api/devices/${this.id}`), null, 2);
  }

  async loadHistory(fetchJson) {
    await Promise.all([this.history, this.energy, this.alarms].map((part) => part.load(fetchJson)));
  }

  close() {
    this.energy.close();
    this.history.close();
  }
}

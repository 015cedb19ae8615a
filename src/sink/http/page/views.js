// What is on the page: all batteries, one battery, or the set-up. A view has a node, and `show` with the
// newest state; it changes texts in place, so focus and scroll stay where they are.

import { Chart, clock, fixed, svg } from "./chart.js";

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const DIGITS = { V: 2, A: 2, W: 0, Wh: 0, kWh: 2, Ah: 1, "%": 0, "°C": 1, "mΩ": 2 };

function number(value, unit, digits = DIGITS[unit]) {
  if (typeof value !== "number") return String(value);
  if (unit === "%" && value % 1 && value < 100) digits = 1;
  return digits === undefined ? String(value) : fixed(value, digits);
}

function words({ value, unit, key }) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (unit === "s") return span(value);
  if (key === "last_update") return new Date(value).toLocaleString();
  const text = number(value, unit, /cell/.test(key) && unit === "V" ? 3 : DIGITS[unit]);
  return unit ? `${text} ${unit}` : text;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

const find = (battery, key) => battery.values.find((entry) => entry.key === key);
const known = (battery, key) => find(battery, key)?.value;

function ring() {
  const length = 2 * Math.PI * 52;
  const share = svg("circle", { cx: 60, cy: 60, r: 52, class: "share", "stroke-dasharray": length, transform: "rotate(-90 60 60)" });
  const text = svg("text", { x: 60, y: 69 }), unit = svg("text", { x: 60, y: 87, class: "unit" });
  const node = svg("svg", { viewBox: "0 0 120 120", class: "ring", role: "img" }, svg("circle", { cx: 60, cy: 60, r: 52 }), share, text, unit);
  const show = (soc) => {
    const there = typeof soc === "number";
    share.setAttribute("stroke-dashoffset", length * (1 - (there ? Math.max(0, Math.min(100, soc)) : 0) / 100));
    share.setAttribute("visibility", there && soc > 0 ? "visible" : "hidden");
    text.textContent = there ? number(soc, "%", 0).replace(/\..*/, "") : "–";
    unit.textContent = there ? "%" : "";
    node.setAttribute("class", `ring ${!there ? "" : soc < 15 ? "empty" : soc < 30 ? "low" : ""}`);
    node.setAttribute("aria-label", there ? `State of charge ${number(soc, "%")} %` : "State of charge unknown");
  };
  show(null);
  return { node, show };
}

function link(battery, now) {
  const { link, since } = battery;
  if (link !== "offline" || !since) return link;
  const date = new Date(since), far = now - since > 86400000;
  return `offline since ${far ? `${date.toLocaleDateString()} ` : ""}${clock(date)}`;
}

function power(battery, node) {
  const watts = known(battery, "power"), status = known(battery, "status");
  node.className = `power ${status ?? ""}`;
  node.replaceChildren(...(watts === undefined ? [battery.link === "online" ? "–" : ""] : [
    `${watts > 0 ? "+" : watts < 0 ? "−" : ""}${Math.abs(watts).toFixed(Math.abs(watts) < 10 ? 1 : 0)} `, h("small", {}, "W"),
  ]));
}

// What is wrong, in words: alarms of the battery, and why it does not answer.
function worries(battery, hints) {
  const alarms = battery.alarms.map((alarm) => h("li", { class: alarm.severity }, h("span", {}, alarm.words)));
  const { fault } = battery;
  if (!fault) return alarms;
  const text = h("span", {}, capital(fault.message), hints ? h("span", { class: "quiet" }, capital(fault.hint)) : null);
  return [...alarms, h("li", { class: battery.link === "online" ? "warning" : "fault" }, text)];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const FACTS = ["pack_voltage", "pack_current", "avg_temp", "cell_voltage_diff"];

function facts(battery) {
  return FACTS.map((key) => find(battery, key)).filter(Boolean).map((entry) => {
    const text = entry.key === "cell_voltage_diff" ? `Δ ${Math.round(entry.value * 1000)} mV` : words(entry);
    return h("div", {}, h("dt", { class: "unseen" }, entry.name), h("dd", {}, text));
  });
}

class Card {
  constructor(battery) {
    this.name = h("a", { href: `#/${battery.id}` });
    this.link = h("span");
    this.ring = ring();
    [this.power, this.status, this.facts, this.worry] = [h("p"), h("p", { class: "quiet" }), h("dl", { class: "facts" }), h("ul", { class: "worry" })];
    this.spark = svg("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.now = h("div", { class: "now" }, this.ring.node, h("div", {}, this.power, this.status));
    this.node = h("li", {}, h("article", { class: "card" },
      h("div", { class: "top" }, h("h2", {}, this.name), this.link), this.now, this.worry, this.facts, this.spark));
  }

  show(battery, now) {
    this.name.textContent = battery.name;
    this.link.className = `pill ${battery.link}`;
    this.link.textContent = link(battery, now);
    this.ring.show(known(battery, "soc"));
    this.now.hidden = battery.link === "offline";
    power(battery, this.power);
    this.status.textContent = known(battery, "status") ?? (battery.link === "connecting" ? "waiting for the first answer" : "");
    this.facts.replaceChildren(...facts(battery));
    this.worry.replaceChildren(...worries(battery, true));
    this.worry.hidden = !this.worry.children.length;
  }

  // The charge of the last day, or of what is known of it, from edge to edge.
  past(history) {
    const soc = history.series.soc?.mean ?? [], from = history.times[0], to = history.times.at(-1);
    const points = soc.flatMap((value, i) => value === null ? [] : [`${((history.times[i] - from) / (to - from) * 100).toFixed(1)},${(29 - value / 100 * 27).toFixed(1)}`]);
    if (points.length < 2) return this.spark.replaceChildren();
    const [first, last] = [points[0].split(",")[0], points.at(-1).split(",")[0]];
    this.spark.replaceChildren(
      svg("path", { d: `M${first} 30L${points.join("L")}L${last} 30Z` }), svg("polyline", { points: points.join(" ") }));
  }
}

export class Overview {
  constructor() {
    this.title = "Batteries";
    this.cards = new Map();
    this.list = h("ul", { class: "cards" });
    this.node = h("section", { "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1" }, "Batteries"), this.list);
  }

  show(house, now) {
    for (const battery of house.batteries.values()) {
      let card = this.cards.get(battery.id);
      if (!card) {
        this.cards.set(battery.id, card = new Card(battery));
        this.list.append(card.node);
      }
      card.show(battery, now);
    }
  }

  async past(ask) {
    for (const [id, card] of this.cards) card.past(await ask(`api/devices/${id}/history?hours=24&keys=soc&step=300`));
  }

  close() {}
}

// The batteries of a bank, each with a way to it. The rows stay, so a link keeps the focus.
class Members {
  constructor() {
    this.rows = h("tbody");
    this.node = h("table", {}, h("caption", { class: "unseen" }, "Batteries of this bank"), this.rows);
    this.cells = new Map();
  }

  show(members, house, now) {
    if (members.length !== this.cells.size) {
      this.cells = new Map(members.map(({ id }) => [id, { link: h("span"), soc: h("td"), power: h("td") }]));
      this.rows.replaceChildren(...[...this.cells].map(([id, { link, soc, power }]) =>
        h("tr", {}, h("th", { scope: "row" }, h("a", { href: `#/${id}` }, house.batteries.get(id)?.name ?? id)), h("td", {}, link), soc, power)));
    }
    for (const { id, missing } of members) {
      const member = house.batteries.get(id), cells = this.cells.get(id);
      if (!member) continue;
      const lost = missing && member.link === "online";
      cells.link.className = `pill ${lost ? "offline" : member.link}`;
      cells.link.textContent = lost ? "missing: its last answer is too old" : link(member, now);
      const [soc, power] = ["soc", "power"].map((key) => find(member, key));
      cells.soc.textContent = soc ? words(soc) : "–";
      cells.power.textContent = power ? words(power) : "–";
    }
  }
}

// Names repeat from module to module of a stack, so each has a heading.
function valueRows(values) {
  const rows = (entries) => entries.map((entry) => h("tr", {}, h("th", { scope: "row" }, entry.name), h("td", {}, words(entry))));
  const modules = [...new Set(values.map(({ module }) => module).filter(Boolean))].sort((a, b) => a - b);
  return [
    h("tbody", {}, ...rows(values.filter(({ module }) => !module))),
    ...modules.map((number) => h("tbody", {},
      h("tr", { class: "module" }, h("th", { colspan: 2, scope: "rowgroup" }, `Module ${number}`)), ...rows(values.filter(({ module }) => module === number)))),
  ];
}

function panel(title, kind, ...children) {
  const extra = h("span");
  return { extra, node: h("section", { class: `panel ${kind}` }, h("h2", {}, title, extra), ...children) };
}

const SUMMARY = [
  "pack_voltage", "pack_current", "remaining_capacity", "remaining_energy", "soh", "cycle_count", "time_to_full", "time_to_empty",
  "energy_charged", "energy_discharged",
];

const RANGES = [1, 6, 24, 48, 168, 744];

export class Battery {
  constructor(id, house, ask) {
    Object.assign(this, { id, ask });
    this.heading = h("h1", { id: "title", tabindex: "-1" });
    this.link = h("span");
    this.about = h("p", { class: "quiet" });
    this.ring = ring();
    [this.power, this.status] = [h("p"), h("p", { class: "quiet" })];
    this.summary = h("dl", { class: "grid" });
    this.worry = h("ul", { class: "worry" });
    this.calm = h("p", { class: "quiet" }, "No alarm.");
    this.talk = h("dl", { class: "grid" });
    this.heat = h("dl", { class: "grid" });
    this.bars = h("ul", { class: "cells" });
    this.legend = h("p", { class: "legend" });
    this.members = new Members();
    this.rows = h("table");
    this.raw = h("pre", { tabindex: "0", "aria-label": "Raw JSON" });
    this.rawBox = h("details", { class: "panel" }, h("summary", {}, "Raw JSON"), this.raw);
    this.rawBox.addEventListener("toggle", () => this.askRaw());
    this.panels = {
      now: panel("Now", "most", h("div", { class: "big" }, this.ring.node, h("div", {}, this.power, this.status), this.summary)),
      worry: panel("Alarms", "third", this.calm, this.worry),
      members: panel("Batteries of this bank", "", this.members.node),
      cells: panel("Cells", "", this.bars, this.legend),
      heat: panel("Temperatures", "half", this.heat),
      talk: panel("Connection", "half", this.talk),
    };
    this.charts = [
      [new Chart("Charge", "%", 1, [{ key: "soc", name: "", part: "mean" }], { least: 5 })],
      [new Chart("Power", "W", 0, [{ key: "power", name: "", part: "mean", colour: 1 }], { zero: true, least: 10 })],
      [new Chart("Voltage", "V", 2, [{ key: "pack_voltage", name: "", part: "mean", colour: 2 }], { least: .5 })],
      [new Chart("Cells", "V", 3, [{ key: "max_cell_voltage", name: "highest", part: "max", colour: 1 }, { key: "min_cell_voltage", name: "lowest", part: "min", colour: 2 }], { band: true, least: .02 })],
      [new Chart("Temperature", "°C", 1, [{ key: "max_temp", name: "highest", part: "max", colour: 3 }, { key: "min_temp", name: "lowest", part: "min", colour: 2 }], { band: true, least: 2 })],
      [new Chart("Current", "A", 2, [{ key: "pack_current", name: "", part: "mean", colour: 0 }], { zero: true, least: 1 })],
    ].map(([chart]) => {
      const { node, extra } = panel(chart.label, "half", chart.plot);
      extra.append(chart.keys);
      return { chart, node };
    });
    this.node = h("article", { "aria-labelledby": "title" },
      h("div", { class: "head" }, this.heading, this.link, this.about),
      h("div", { class: "board" },
        this.panels.now.node, this.panels.worry.node, this.panels.members.node, this.panels.cells.node, this.panels.heat.node, this.panels.talk.node,
        this.ranges(house.history_hours), ...this.charts.map(({ node }) => node),
        h("details", { class: "panel" }, h("summary", {}, "All values"), this.rows),
        this.rawBox));
  }

  ranges(most) {
    const hours = RANGES.filter((range) => range < most).concat(most);
    this.hours = hours.includes(24) ? 24 : most;
    const name = (range) => range < 72 ? `${range} h` : `${Math.round(range / 24)} days`;
    this.choices = [];
    const choices = hours.map((range) => {
      const input = h("input", { type: "radio", name: "range", value: range });
      input.checked = range === this.hours;
      input.addEventListener("change", () => {
        this.hours = range;
        this.chosen = true;
        this.renew();
      });
      this.choices.push({ range, input });
      return h("label", {}, input, h("span", {}, name(range)));
    });
    return h("div", { class: "range" }, h("h2", {}, "History"), h("fieldset", {}, h("legend", { class: "unseen" }, "How far back"), ...choices));
  }

  show(house, now) {
    const battery = house.batteries.get(this.id);
    this.interval = battery.interval_ms / 1000;
    this.now = now;
    const soc = find(battery, "soc");
    this.title = soc ? `${words(soc)} · ${battery.name}` : battery.name;
    this.heading.textContent = battery.name;
    this.link.className = `pill ${battery.link}`;
    this.link.textContent = link(battery, now);
    this.about.textContent = [battery.title, battery.model, battery.place].filter(Boolean).join(" · ");
    const online = battery.link === "online";
    for (const name of ["now", "cells", "heat"]) this.panels[name].node.hidden = !online;
    this.panels.members.node.hidden = !battery.members.length;
    this.members.show(battery.members, house, now);
    this.panels.cells.node.hidden ||= !battery.cells.length;
    this.ring.show(soc?.value);
    power(battery, this.power);
    this.status.textContent = known(battery, "status") ?? "";
    this.showList(this.summary, SUMMARY.map((key) => find(battery, key)).filter(Boolean));
    this.showList(this.heat, battery.values.filter((entry) => entry.unit === "°C" && !entry.module));
    this.panels.heat.node.hidden ||= !this.heat.children.length;
    const worry = worries(battery, true);
    this.worry.replaceChildren(...worry);
    this.calm.hidden = worry.length > 0;
    this.calm.textContent = online ? "No alarm." : "Nothing is known while it does not answer.";
    this.showCells(battery);
    this.showTalk(battery, now);
    this.rows.replaceChildren(h("caption", { class: "unseen" }, "All values"), ...valueRows(battery.values));
    if (this.rawBox.open && battery.attempted !== this.rawOf) this.askRaw();
    this.rawOf = battery.attempted;
  }

  showList(list, entries) {
    list.replaceChildren(...entries.map((entry) => h("div", {}, h("dt", {}, entry.name), h("dd", {}, words(entry)))));
  }

  showTalk(battery, now) {
    const ago = (time) => time ? `${span((now - time) / 1000)} ago` : "never";
    const rows = [
      ["Last good read", ago(battery.updated)], ["Read every", span(battery.interval_ms / 1000)], ["Good reads", battery.reads],
      ["Failed reads", battery.errors], ["Reconnects", battery.reconnects],
    ];
    if (battery.fault) rows.push(["Last error", battery.fault.type.replaceAll("_", " ")]);
    this.talk.replaceChildren(...rows.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(text)))));
  }

  showCells({ cells }) {
    const volts = cells.map((cell) => cell.voltage).filter((value) => value !== null);
    const low = Math.min(...volts), high = Math.max(...volts);
    // At least 40 mV from end to end, so that noise does not look like trouble.
    const room = Math.max(high - low, .04), floor = (low + high - room) / 2 - room * .15;
    if (this.bars.children.length !== cells.length) {
      const item = (_, i) => h("li", {}, h("span", { class: "no" }, String(i + 1)), h("span", { class: "bar" }, h("i")), h("span", { class: "volts" }), h("span", { class: "mark" }));
      this.bars.replaceChildren(...cells.map(item));
    }
    const [lowest, highest] = [cells.findIndex((cell) => cell.voltage === low), cells.findIndex((cell) => cell.voltage === high)];
    cells.forEach((cell, i) => {
      const item = this.bars.children[i], there = cell.voltage !== null;
      const mark = !there || low === high ? "" : i === lowest ? "min" : i === highest ? "max" : "";
      item.className = `${mark} ${cell.balancing ? "balancing" : ""}`;
      item.querySelector("i").style.width = there ? `${(cell.voltage - floor) / (room * 1.3) * 100}%` : "0";
      item.querySelector(".volts").textContent = there ? cell.voltage.toFixed(3) : "–";
      item.querySelector(".mark").textContent = mark;
      item.setAttribute("aria-label", `Cell ${i + 1}: ${there ? `${cell.voltage.toFixed(3)} V` : "unknown"}${mark ? `, ${mark === "min" ? "lowest" : "highest"}` : ""}${cell.balancing ? ", balancing" : ""}`);
    });
    const balancing = cells.flatMap((cell, i) => cell.balancing ? [i + 1] : []);
    this.panels.cells.extra.textContent = volts.length ? `${low.toFixed(3)} – ${high.toFixed(3)} V, difference ${Math.round((high - low) * 1000)} mV` : "";
    const told = cells.some((cell) => cell.balancing !== null);
    this.legend.replaceChildren(...(!told ? [] : balancing.length ? [h("i"), `balancing: ${balancing.length === 1 ? "cell" : "cells"} ${balancing.join(", ")}`] : ["no cell is being balanced"]));
    this.legend.hidden = !told;
  }

  async askRaw() {
    if (this.rawBox.open) this.raw.textContent = JSON.stringify(await this.ask(`api/devices/${this.id}`), null, 2);
  }

  renew() {
    this.past(this.ask, this.now).catch(() => {});
  }

  async past(ask, now) {
    const keys = [...new Set(this.charts.flatMap(({ chart }) => chart.lines.map((line) => line.key)))];
    const hours = this.hours;
    const history = await ask(`api/devices/${this.id}/history?hours=${hours}&keys=${keys}`);
    if (hours !== this.hours) return;
    if (!this.chosen) {
      // A young history fills a small range better.
      this.chosen = true;
      const reach = (now / 1000 - (history.times[0] ?? 0)) / 3600;
      const fitting = this.choices.find(({ range }) => range >= reach);
      if (fitting && fitting.range < hours) return fitting.input.click();
    }
    const to = now / 1000, gap = Math.max(2.5 * history.step, 3 * this.interval, 90);
    for (const { chart, node } of this.charts) {
      chart.show(history, to - hours * 3600, to, gap);
      // A battery without cells or sensors has no such chart; one that is new has an empty one.
      node.hidden = !chart.known && history.times.length > 0;
    }
  }

  close() {
    for (const { chart } of this.charts) chart.close();
  }
}

export class Setup {
  constructor() {
    this.title = "Set-up";
    this.found = h("div", { class: "found" });
    this.node = h("section", { class: "setup", "aria-labelledby": "title" },
      h("h1", { id: "title", tabindex: "-1" }, "No battery is configured yet"),
      h("p", {}, "Tell bms-reader where your battery is, then start it again. In Docker and systemd these lines go into the environment; in the Home Assistant app they are options, in lower case."),
      this.found,
      h("div", { class: "panel" }, h("h2", {}, "Just looking around?"), h("p", {}, "A simulated battery needs no hardware:"), copyable(["BMS_TYPE=simulated"])),
      h("p", { class: "quiet" }, "On a shell, bms-reader check tries everything that is configured and says what to do."));
  }

  show(house) {
    const text = JSON.stringify(house.found);
    if (text === this.shown) return;
    this.shown = text;
    this.found.replaceChildren(...(house.found.length ? house.found.map((found) =>
      h("div", { class: "panel" }, h("h2", {}, found.place), h("p", { class: "quiet" }, capital(found.words)), copyable(found.lines))) : [
      h("div", { class: "panel" }, h("h2", {}, "Nothing was found"),
        h("p", { class: "quiet" }, "Is the adapter plugged in? In Docker it has to be passed to the container, for example with --device /dev/ttyUSB0. This page looks again every minute."),
        copyable(["BMS_TYPE=daren", "BMS_PORT=/dev/ttyUSB0"]))]));
  }

  async past() {}

  close() {}
}

function copyable(lines) {
  const text = lines.join("\n"), button = h("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Browsers allow it on secure pages only; selected text is one key away.
      getSelection().selectAllChildren(box.querySelector("pre"));
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  const box = h("div", { class: "found" }, h("pre", { tabindex: "0", "aria-label": "Lines for the configuration" }, text), h("div", {}, button));
  return box;
}

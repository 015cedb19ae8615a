// What several views have in common: elements, and how values are written.

import { fixed, svg } from "./chart.js";
import { alarmText, locale, t } from "./texts.js";

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const DIGITS = { V: 2, A: 2, W: 0, Wh: 0, kWh: 2, Ah: 1, "%": 0, "°C": 1, "mΩ": 2 };

export function formatNumber(value, unit, digits = DIGITS[unit]) {
  if (typeof value !== "number") return String(value);
  if (unit === "%" && value % 1 && value < 100) digits = 1;
  return digits === undefined ? value.toLocaleString(locale, { useGrouping: false }) : fixed(value, digits);
}

export function format({ value, unit, key }) {
  if (typeof value === "boolean") return t(value ? "yes" : "no");
  if (unit === "s") return formatDuration(value);
  if (key === "last_update") return new Date(value).toLocaleString(locale);
  const text = formatNumber(value, unit, /cell/.test(key) && unit === "V" ? 3 : DIGITS[unit]);
  return unit ? `${text} ${unit}` : text;
}

export function formatDuration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return t("days", { count: Math.floor(s / 86400) });
}

export const entryOf = (battery, key) => battery.values.find((entry) => entry.key === key);
export const valueOf = (battery, key) => entryOf(battery, key)?.value;

// The state of charge as a ring.
export function ring() {
  const length = 2 * Math.PI * 52;
  const share = svg("circle", { cx: 60, cy: 60, r: 52, class: "share", "stroke-dasharray": length, transform: "rotate(-90 60 60)" });
  const text = svg("text", { x: 60, y: 69 }), unit = svg("text", { x: 60, y: 87, class: "unit" });
  const node = svg("svg", { viewBox: "0 0 120 120", class: "ring", role: "img" }, svg("circle", { cx: 60, cy: 60, r: 52 }), share, text, unit);
  const show = (soc) => {
    const isKnown = typeof soc === "number";
    share.setAttribute("stroke-dashoffset", length * (1 - (isKnown ? Math.max(0, Math.min(100, soc)) : 0) / 100));
    share.setAttribute("visibility", isKnown && soc > 0 ? "visible" : "hidden");
    text.textContent = isKnown ? formatNumber(soc, "%") : "–";
    text.setAttribute("class", text.textContent.length > 3 ? "long" : "");
    unit.textContent = isKnown ? "%" : "";
    node.setAttribute("class", `ring ${!isKnown ? "" : soc < 15 ? "empty" : soc < 30 ? "low" : ""}`);
    node.setAttribute("aria-label", isKnown ? t("soc_is", { soc: `${formatNumber(soc, "%")} %` }) : t("soc_unknown"));
  };
  show(null);
  return { node, show };
}

export function showPower(battery, node) {
  const watts = valueOf(battery, "power"), status = valueOf(battery, "status");
  node.className = `power ${status ?? ""}`;
  node.replaceChildren(...(watts === undefined ? [battery.link === "online" ? "–" : ""] : [
    `${watts > 0 ? "+" : watts < 0 ? "−" : ""}${fixed(Math.abs(watts), Math.abs(watts) < 10 ? 1 : 0)} `, h("small", {}, "W"),
  ]));
}

// Names the battery, which in a bank may be any of its members.
export const describe = (alarm, batteries) => alarmText(alarm, batteries.get(alarm.battery)?.name ?? alarm.battery, format);

// A section with a heading that can receive the focus.
export function panel(title, kind, ...children) {
  const extra = h("span"), heading = h("h2", { tabindex: "-1" }, title, extra);
  return { extra, heading, node: h("section", { class: `panel ${kind}` }, heading, ...children) };
}

// The rows of a list of terms, with a text or an element for each name.
export const termRows = (rows) => rows.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)));

export function button(text, action, attributes = {}) {
  const node = h("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", action);
  return node;
}

// Messages are written for the log: they begin with a small letter and quote commands with back-ticks.
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("`", "");

export function copyable(text) {
  const lines = h("pre", { tabindex: "0", "aria-label": t("lines") }, text);
  const copy = button(t("copy"), async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = t("copied");
    } catch {
      // Browsers allow this on secure pages only.
      getSelection().selectAllChildren(lines);
      copy.textContent = t("selected");
    }
  });
  return h("div", { class: "found" }, lines, h("div", {}, copy));
}

export function setText(node, text) {
  // The same text again would be read aloud again.
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
}

export async function post(path, body = {}) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `${path}: ${response.status}`);
  return answer;
}

// Without a value only reads. Browsers may deny access to the storage.
export function stored(name, value) {
  try {
    if (value) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

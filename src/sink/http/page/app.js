// Keeps the page current: server-sent events, polling where those do not get through, and the view for the
// address.

import { describe, stored } from "./parts.js";
import { LoginView, SetupView } from "./setup.js";
import { t } from "./texts.js";
import { BatteryView, OverviewView } from "./views.js";

const $ = (id) => document.getElementById(id);
const state = { batteries: new Map() };
// No battery can have this ID.
const SETUP = "setup/", LOGIN = "login/";
let view = null, route = null, clockSkew = 0, loaded = false, lastUpdate = 0, lastHistory = 0;

// Time of the machine that runs bms-reader.
const now = () => Date.now() + clockSkew;

async function fetchJson(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (response.status === 401) show(LOGIN);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  const date = Date.parse(response.headers.get("date"));
  // The header has a resolution of one second, so small differences mean nothing.
  if (date) clockSkew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  return response.json();
}

/* Announcements for screen readers */

function announce(text) {
  $("announcement").textContent = text;
}

function announceChanges(before, battery) {
  if (!before) return;
  if (before.link !== battery.link) announce(t("became", { name: battery.name, link: t(battery.link) }));
  // The alarms of a bank are announced by its members.
  const started = battery.members.length ? [] : battery.alarms.filter(({ name }) => !before.alarms.some((old) => old.name === name));
  if (started.length) announce(started.map((alarm) => describe(alarm, state.batteries)).join(", "));
}

/* Views */

function showRoute() {
  const id = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  const [only] = state.batteries.size === 1 ? state.batteries.keys() : [""];
  show(id === SETUP || !state.batteries.size ? SETUP : state.batteries.has(id) ? id : only);
}

function show(wanted) {
  if (wanted === route) return;
  const navigated = route !== null;
  view?.close?.();
  route = wanted;
  view = wanted === LOGIN ? new LoginView() : wanted === SETUP ? new SetupView(state.batteries) : wanted ? new BatteryView(wanted, fetchJson) : new OverviewView();
  $("main").replaceChildren(view.node);
  render();
  refreshHistory();
  if (navigated) {
    scrollTo(0, 0);
    $("title").focus({ preventScroll: true });
  }
}

function render() {
  if (!view) return;
  view.show?.(state, now());
  document.title = `${view.title} – bms-reader`;
  $("nav").textContent = state.batteries.get(route)?.name ?? "";
  const { broker } = state;
  $("broker").hidden = !broker;
  if (broker) {
    $("broker").className = `pill ${broker.connected ? "online" : "offline"}`;
    $("broker").textContent = t(broker.connected ? "mqtt_connected" : "mqtt_disconnected");
    $("broker").title = `${broker.address}${broker.trouble ? `: ${broker.trouble}` : ""}`;
  }
}

async function refreshHistory() {
  lastHistory = Date.now();
  try {
    await view?.loadHistory?.(fetchJson, now());
  } catch {
    // Retried at the next tick.
    lastHistory = 0;
  }
}

/* Updates */

function markConnected() {
  lastUpdate = Date.now();
  $("lost").hidden = true;
  document.documentElement.classList.remove("lost");
}

function setBattery(battery) {
  announceChanges(state.batteries.get(battery.id), battery);
  state.batteries.set(battery.id, battery);
}

// Events so far.
let received = 0;

async function refresh() {
  const before = received;
  try {
    const { batteries, ...rest } = await fetchJson("api/overview");
    if (state.version && state.version !== rest.version) return location.reload();
    // Events have every state, and those that came meanwhile may be newer than this.
    if (loaded && received !== before) return markConnected();
    Object.assign(state, rest);
    batteries.forEach(setBattery);
    $("version").textContent = t("version", { version: rest.version });
    loaded = true;
    markConnected();
    showRoute();
    render();
  } catch {
    if (route === LOGIN || Date.now() - lastUpdate < 8000) return;
    $("lost").hidden = false;
    document.documentElement.classList.add("lost");
  }
}

// The batteries of a bus and their bank are updated in quick succession: one rendering shows them all.
let renderPending = false;

function renderSoon() {
  if (renderPending || !loaded) return;
  renderPending = true;
  setTimeout(() => {
    renderPending = false;
    render();
  }, 100);
}

function subscribe() {
  const events = new EventSource("api/events");
  events.addEventListener("battery", (event) => {
    received += 1;
    setBattery(JSON.parse(event.data));
    markConnected();
    renderSoon();
  });
  events.addEventListener("broker", (event) => {
    received += 1;
    state.broker = JSON.parse(event.data);
    markConnected();
    render();
  });
  events.addEventListener("error", () => {
    // Too many clients, or a proxy closed the stream. The browser reconnects unless the request was rejected.
    refresh();
    if (events.readyState === EventSource.CLOSED) setTimeout(subscribe, 15000);
  });
}

// Ages grow without updates. Some proxies hold events back, so everything is polled when none arrive.
setInterval(() => {
  if (document.hidden || route === LOGIN) return;
  const silence = Date.now() - lastUpdate;
  if (silence > (state.batteries.size ? 20000 : 5000) || !loaded || !$("lost").hidden) refresh();
  if (Date.now() - lastHistory > 30000) refreshHistory();
  render();
}, 2000);

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

/* Light and dark */

const SUN = "M12 3v2m0 14v2M3 12h2m14 0h2M5.6 5.6 7 7m10 10 1.4 1.4M18.4 5.6 17 7M7 17l-1.4 1.4M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z";
const MOON = "M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function setTheme(choice) {
  const root = document.documentElement;
  if (choice) root.dataset.theme = choice;
  const isDark = (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  const name = t(isDark ? "light" : "dark");
  $("theme").setAttribute("aria-label", name);
  $("theme").title = name;
  $("theme").innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${isDark ? SUN : MOON}"/></svg>`;
  return isDark;
}

setTheme(stored("theme"));
for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
$("setup").title = t("setup");
prefersDark.addEventListener("change", () => setTheme());
$("theme").addEventListener("click", () => {
  const choice = setTheme() ? "light" : "dark";
  stored("theme", choice);
  setTheme(choice);
});

addEventListener("hashchange", showRoute);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
// Events begin with every state, so nothing is missed in between.
refresh().then(subscribe);

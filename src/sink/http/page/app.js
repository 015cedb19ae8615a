// Keeps the page live: server-sent events, questions now and then where those do not come through, and the
// view that the address asks for.

import { Battery, Overview, Setup } from "./views.js";

const $ = (id) => document.getElementById(id);
const house = { batteries: new Map(), found: [], history_hours: 48 };
let view = null, place = null, skew = 0, loaded = false, lastNews = 0, lastPast = 0;

// The clock of the machine that reads the batteries.
const now = () => Date.now() + skew;

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  const date = Date.parse(answer.headers.get("date"));
  // The header has whole seconds: less is no difference.
  if (date) skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  return answer.json();
}

/* What is said aloud */

function say(text) {
  $("said").textContent = text;
}

function tellChange(before, battery) {
  if (!before) return;
  if (before.link !== battery.link) say(`${battery.name} is ${battery.link}`);
  // The words name the battery, so those of a bank have been said.
  const fresh = battery.members.length ? [] : battery.alarms.filter(({ name }) => !before.alarms.some((old) => old.name === name));
  if (fresh.length) say(fresh.map(({ words }) => words).join(", "));
}

/* Where we are */

function route() {
  const id = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  const wanted = !house.batteries.size ? "setup" : house.batteries.has(id) ? id : "";
  if (wanted === place) return;
  const moved = place !== null;
  view?.close();
  place = wanted;
  view = wanted === "setup" ? new Setup() : wanted ? new Battery(wanted, house, ask) : new Overview();
  $("main").replaceChildren(view.node);
  render();
  renewPast();
  if (moved) {
    scrollTo(0, 0);
    $("title").focus({ preventScroll: true });
  }
}

function render() {
  if (!view) return;
  view.show(house, now());
  document.title = `${view.title} – bms-reader`;
  $("nav").textContent = house.batteries.get(place)?.name ?? "";
  const { broker } = house;
  $("broker").hidden = !broker;
  if (broker) {
    $("broker").className = `pill ${broker.connected ? "online" : "offline"}`;
    $("broker").textContent = broker.connected ? "MQTT connected" : "MQTT not connected";
    $("broker").title = `${broker.address}${broker.trouble ? `: ${broker.trouble}` : ""}`;
  }
}

async function renewPast() {
  lastPast = Date.now();
  try {
    await view?.past(ask, now());
  } catch {
    // The next turn asks again.
    lastPast = 0;
  }
}

/* News */

function heard() {
  lastNews = Date.now();
  $("lost").hidden = true;
  document.documentElement.classList.remove("lost");
}

function take(battery) {
  tellChange(house.batteries.get(battery.id), battery);
  house.batteries.set(battery.id, battery);
}

async function askAll() {
  try {
    const { batteries, ...rest } = await ask("api/overview");
    if (house.version && house.version !== rest.version) return location.reload();
    Object.assign(house, rest);
    batteries.forEach(take);
    $("version").textContent = `version ${rest.version}`;
    loaded = true;
    heard();
    route();
    render();
  } catch {
    if (Date.now() - lastNews < 8000) return;
    $("lost").hidden = false;
    document.documentElement.classList.add("lost");
  }
}

// The batteries of a bus answer close together, and a bank follows: one turn shows them all.
let due = false;

function renderSoon() {
  if (due || !loaded) return;
  due = true;
  setTimeout(() => {
    due = false;
    render();
  }, 100);
}

function listen() {
  const events = new EventSource("api/events");
  events.addEventListener("battery", (event) => {
    take(JSON.parse(event.data));
    heard();
    renderSoon();
  });
  events.addEventListener("broker", (event) => {
    house.broker = JSON.parse(event.data);
    heard();
    render();
  });
  events.addEventListener("error", () => {
    // A full house or a proxy that ends it: the browser tries again unless it was refused.
    askAll();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 15000);
  });
  events.addEventListener("open", () => {
    if (loaded) askAll();
  });
}

// Ages grow without news. Where no events come (some proxies hold them back), everything is asked for.
setInterval(() => {
  if (document.hidden) return;
  const quiet = Date.now() - lastNews;
  if (quiet > (house.batteries.size ? 20000 : 5000) || !loaded || !$("lost").hidden) askAll();
  if (Date.now() - lastPast > 30000) renewPast();
  render();
}, 2000);

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) askAll();
});

/* Light and dark */

const SUN = "M12 3v2m0 14v2M3 12h2m14 0h2M5.6 5.6 7 7m10 10 1.4 1.4M18.4 5.6 17 7M7 17l-1.4 1.4M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z";
const MOON = "M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z";
const dark = matchMedia("(prefers-color-scheme: dark)");

function theme(choice) {
  const root = document.documentElement;
  if (choice) root.dataset.theme = choice;
  const isDark = (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const name = isDark ? "Light colours" : "Dark colours";
  $("theme").setAttribute("aria-label", name);
  $("theme").title = name;
  $("theme").innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${isDark ? SUN : MOON}"/></svg>`;
  return isDark;
}

function remembered(value) {
  try {
    if (value) localStorage.setItem("theme", value);
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

theme(remembered());
dark.addEventListener("change", () => theme());
$("theme").addEventListener("click", () => {
  const choice = theme() ? "light" : "dark";
  remembered(choice);
  theme(choice);
});

addEventListener("hashchange", route);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
askAll();
listen();

// The commands to one battery, where the server trusts the browser: the same as over MQTT. Switches need ALLOW_CONTROL,
// settings ALLOW_CONFIG.

import { formatTime } from "./chart.js";
import { button, entryOf, h, panel, post, sentence, setText, valueOf } from "./parts.js";
import { t, valueName } from "./texts.js";

// Names in `cmd/config`, with their text and input. The counters of energy cannot be changed with others.
const numbers = (min, max) => ({ type: "number", min, max, step: "any", required: "" });
const SETTINGS = {
  poll_interval_s: ["read_every", numbers(.5, 3600)], timeout_s: ["timeout", numbers(.1, 120)], scan_timeout_s: ["scan_timeout", numbers(1, 60)],
  address: ["address", { maxlength: 17, required: "" }], adapter: ["adapter", { maxlength: 32 }],
};
// In milliseconds: the server refuses a second command within a second.
const INTERVAL = 1100;
const COUNTERS = ["charged", "discharged"].map((way) => [`energy_${way}_kwh`, `energy_${way}`]);

// The progress and the result of a command.
class Outcome {
  constructor() {
    this.status = h("p", { role: "status", hidden: "" });
    this.error = h("p", { role: "alert", class: "error", hidden: "" });
    this.nodes = [this.status, this.error];
  }

  show(status, error = "") {
    setText(this.status, status);
    setText(this.error, sentence(error));
  }
}

// Sends the values that were changed. `show` keeps what is being edited.
class Form {
  constructor(labels, send) {
    [this.inputs, this.outcome] = [new Map(), new Outcome()];
    const fields = labels.map(([key, label, attributes]) => {
      const input = h("input", { id: key, autocomplete: "off", ...attributes }), node = h("p", { class: "field" }, h("label", { for: key }, label), input);
      this.inputs.set(key, { input, label, node, shown: "" });
      return node;
    });
    this.node = h("form", {}, h("div", { class: "fields" }, ...fields), h("p", { class: "actions" }, h("button", {}, t("apply"))), ...this.outcome.nodes);
    this.node.addEventListener("submit", (event) => {
      event.preventDefault();
      const changed = [...this.inputs].filter(([, { input, shown }]) => input.value !== shown);
      const body = changed.map(([key, { input }]) => [key, input.type === "number" ? Number(input.value) : input.value]);
      if (changed.length) send(Object.fromEntries(body), this);
    });
  }

  show(values) {
    this.node.hidden = [...this.inputs.keys()].every((key) => !(key in values));
    for (const [key, field] of this.inputs) {
      const { input, node } = field, isKnown = key in values;
      [node.hidden, input.disabled] = [!isKnown, !isKnown];
      if (!isKnown || input === document.activeElement || input.value !== field.shown) continue;
      input.value = field.shown = String(values[key] ?? "");
    }
  }

  describe(values) {
    return Object.entries(values).flatMap(([key, value]) => this.inputs.has(key) ? `${this.inputs.get(key).label}: ${value ?? "–"}` : []).join(", ");
  }

  // What the battery was set to is not being edited any more.
  accept() {
    for (const field of this.inputs.values()) field.shown = field.input.value;
  }
}

export class CommandPanels {
  constructor(id, fetchJson) {
    Object.assign(this, { id, fetchJson, rows: new Map(), trust: {}, sent: 0 });
    this.list = h("ul", { class: "devices" });
    this.locked = h("p", { class: "muted" });
    [this.switched, this.read] = [new Outcome(), new Outcome()];
    this.question = h("h2", { id: "question" });
    this.confirm = button("", () => {
      this.dialog.close();
      this.confirmed();
    }, { class: "primary" });
    this.consequence = h("p", { id: "consequence" });
    this.dialog = h("dialog", { "aria-labelledby": "question", "aria-describedby": "consequence" }, this.question, this.consequence,
      h("p", { class: "actions" }, button(t("cancel"), () => this.dialog.close()), this.confirm));
    this.switches = panel(t("switches"), "switches", this.list, this.locked, ...this.switched.nodes).node;
    this.pause = button("", () => this.askPause());
    this.actions = h("div", {}, h("p", { class: "actions" }, button(t("read_now"), () => this.readNow()), this.pause), ...this.read.nodes, this.dialog);
  }

  // The forms exist once the names of the counters are known, and where settings may be changed.
  addSettings(battery) {
    const names = Object.entries(SETTINGS).map(([key, [text, attributes]]) => [key, `${t(text)}${attributes.type ? " (s)" : ""}`, attributes]);
    const counters = COUNTERS.flatMap(([key, name]) => {
      const entry = entryOf(battery, name);
      return entry ? [[key, `${valueName(entry)} (kWh)`, numbers(0, 1e6)]] : [];
    });
    this.forms = [new Form(names, (body, form) => "address" in body ? this.askConfig(body, form, "address_sure") : this.configure(body, form)),
      new Form(counters, (body, form) => this.askConfig(body, form, "energy_sure"))];
    this.settings.append(h("p", { class: "muted" }, t("until_restart")), ...this.forms.map(({ node }) => node));
  }

  settings = h("details", { class: "panel settings", hidden: "" }, h("summary", {}, t("settings")));

  show(battery) {
    const { settings, controls } = battery, { trusted, config } = this.trust, isConfigurable = Boolean(trusted && config && settings);
    this.checkTrust();
    this.actions.hidden = !trusted;
    this.pause.hidden = this.settings.hidden = !isConfigurable;
    this.switches.hidden = !controls.length;
    this.showRead(battery);
    if (isConfigurable) this.showSettings(battery);
    for (const name of controls) {
      if (!this.rows.has(name)) this.add(name);
      const { state, turn } = this.rows.get(name), on = valueOf(battery, `${name}_enabled`);
      state.textContent = on === undefined ? t("unknown") : t(on ? "on" : "off");
      turn.hidden = !trusted || on === undefined;
      turn.textContent = t(on ? "switch_off" : "switch_on");
      turn.setAttribute("aria-label", `${t(`switch_${name}`)}: ${turn.textContent}`);
      this.rows.get(name).on = on;
    }
  }

  // Once. What the server refuses is not offered.
  async checkTrust() {
    if (this.checked) return;
    this.checked = true;
    try {
      this.trust = await this.fetchJson("api/setup");
      setText(this.locked, this.trust.trusted ? "" : t("switches_locked"));
    } catch {
      this.checked = false;
    }
  }

  // A question with its consequence; `action` is carried out if it is confirmed.
  ask(question, consequence, label, action) {
    if (this.isBusy) return;
    [this.question.textContent, this.confirm.textContent, this.confirmed] = [question, label, action];
    setText(this.consequence, consequence);
    this.dialog.showModal();
  }

  // `done` writes the answer.
  async send(path, body, outcome, waits, done) {
    if (this.isBusy) return;
    this.isBusy = true;
    outcome.show(waits);
    try {
      await new Promise((resolve) => setTimeout(resolve, this.sent + INTERVAL - Date.now()));
      outcome.show(done(await post(`api/devices/${this.id}/${path}`, body)));
    } catch ({ message }) {
      outcome.show("", message);
    }
    Object.assign(this, { isBusy: false, sent: Date.now() });
  }

  /* Switches */

  add(name) {
    const row = { name, state: h("span", { class: "muted" }), turn: button("", () => this.askSwitch(row)) };
    this.rows.set(name, row);
    this.list.append(h("li", { class: "device" }, h("div", {}, h("strong", {}, t(`switch_${name}`)), row.state), row.turn));
  }

  askSwitch({ name, on, turn }) {
    const label = t(`switch_${name}`), what = `${label}: ${t(on ? "off" : "on")}`;
    this.ask(`${label}: ${turn.textContent}?`, name === "discharging" && on ? t("switch_sure") : "", turn.textContent, () =>
      this.send("switch", { name, on: !on }, this.switched, `${what} … ${t("switch_waits")}`, () => `${what}. ${t("switch_confirmed")}`));
  }

  /* Reading */

  readNow() {
    const { attempted } = this;
    this.send("read", {}, this.read, t("reading_now"), () => {
      this.awaited = attempted;
      return t("reading_now");
    });
  }

  // The read that was requested is over with the next attempt.
  showRead({ attempted, fault, settings }) {
    this.attempted = attempted;
    this.isPaused = settings?.paused;
    this.pause.textContent = t(this.isPaused ? "resume" : "pause");
    if (this.awaited === undefined || this.awaited === attempted) return;
    this.awaited = undefined;
    this.read.show(fault ? "" : t("read_done", { time: formatTime(new Date(attempted), true) }), fault?.message);
  }

  askPause() {
    const paused = !this.isPaused;
    const send = () => this.send("config", { paused }, this.read, t("switch_waits"), () => paused ? t("pause_sure") : "");
    if (paused) this.ask(`${t("pause")}?`, t("pause_sure"), t("pause"), send);
    else send();
  }

  /* Settings */

  showSettings(battery) {
    if (!this.forms) this.addSettings(battery);
    const counters = COUNTERS.flatMap(([key, name]) => entryOf(battery, name) ? [[key, valueOf(battery, name)]] : []);
    this.forms[0].show(battery.settings);
    this.forms[1].show(Object.fromEntries(counters));
  }

  askConfig(body, form, consequence) {
    this.ask(`${t("apply")}?`, `${form.describe(body)}. ${t(consequence)}`, t("apply"), () => this.configure(body, form));
  }

  configure(body, form) {
    this.send("config", body, form.outcome, t("switch_waits"), (answer) => {
      form.accept();
      return `${t("applied")} ${form.describe(answer)}`;
    });
  }
}

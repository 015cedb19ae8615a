// The switches of one battery, where ALLOW_CONTROL permits them and the server trusts the browser.

import { button, h, panel, post, sentence, setText, valueOf } from "./parts.js";
import { t } from "./texts.js";

export class SwitchPanel {
  constructor(id, fetchJson) {
    Object.assign(this, { id, fetchJson, rows: new Map() });
    this.list = h("ul", { class: "devices" });
    this.locked = h("p", { class: "muted" });
    this.status = h("p", { role: "status", hidden: "" });
    this.error = h("p", { role: "alert", class: "error", hidden: "" });
    this.question = h("h2", { id: "question" });
    this.confirm = button("", () => this.turn(), { class: "primary" });
    this.consequence = h("p", { id: "consequence" });
    this.dialog = h("dialog", { "aria-labelledby": "question", "aria-describedby": "consequence" }, this.question, this.consequence,
      h("p", { class: "actions" }, button(t("cancel"), () => this.dialog.close()), this.confirm));
    this.node = panel(t("switches"), "switches", this.list, this.locked, this.status, this.error, this.dialog).node;
    this.node.hidden = true;
  }

  show(battery) {
    this.node.hidden = !battery.controls.length;
    if (this.node.hidden) return;
    this.checkTrust();
    for (const name of battery.controls) {
      if (!this.rows.has(name)) this.add(name);
      const { state, turn } = this.rows.get(name), on = valueOf(battery, `${name}_enabled`);
      state.textContent = on === undefined ? t("unknown") : t(on ? "on" : "off");
      turn.hidden = !this.isTrusted || on === undefined;
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
      this.isTrusted = (await this.fetchJson("api/setup")).trusted;
      setText(this.locked, this.isTrusted ? "" : t("switches_locked"));
    } catch {
      this.checked = false;
    }
  }

  add(name) {
    const row = { name, state: h("span", { class: "muted" }), turn: button("", () => this.ask(row)) };
    this.rows.set(name, row);
    this.list.append(h("li", { class: "device" }, h("div", {}, h("strong", {}, t(`switch_${name}`)), row.state), row.turn));
  }

  ask({ name, on, turn }) {
    if (this.isBusy) return;
    this.wanted = { name, on: !on };
    this.question.textContent = `${t(`switch_${name}`)}: ${turn.textContent}?`;
    setText(this.consequence, name === "discharging" && on ? t("switch_sure") : "");
    this.confirm.textContent = turn.textContent;
    this.dialog.showModal();
  }

  async turn() {
    const { name, on } = this.wanted, what = `${t(`switch_${name}`)}: ${t(on ? "on" : "off")}`;
    this.dialog.close();
    this.isBusy = true;
    setText(this.error, "");
    setText(this.status, `${what} … ${t("switch_waits")}`);
    try {
      await post(`api/devices/${this.id}/switch`, { name, on });
      setText(this.status, `${what}. ${t("switch_confirmed")}`);
    } catch ({ message }) {
      setText(this.status, "");
      setText(this.error, sentence(message));
    }
    this.isBusy = false;
  }
}

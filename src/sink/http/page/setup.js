// The set-up: searches, tests, and adds batteries. The server says what is allowed; this page only asks.

import { t } from "./texts.js";
import { button, copyable, format, h, panel, post, sentence, setText, termRows } from "./parts.js";

// Milliseconds between two looks at the state, while something runs and otherwise.
const SOON = 700, LATER = 4000;
// Seconds that a restart of the add-on may take.
const RESTART = 120;
// The signal strengths in dBm at which a further bar is lit.
const BARS = [-90, -80, -70, -60];

let fieldCount = 0;

function labelled(label, input, kind = "field") {
  input.id = `field-${++fieldCount}`;
  const name = h("label", { for: input.id }, label);
  return h("p", { class: kind }, ...(kind === "check" ? [input, name] : [name, input]));
}

// A field for an ID, a name or an address.
const textInput = (attributes) => h("input", { type: "text", maxlength: 64, ...attributes });
const ID = { required: "", pattern: "[A-Za-z0-9_\\-]+", autocapitalize: "none", spellcheck: "false" };
const fields = (...children) => h("div", { class: "fields" }, ...children);

function formOf(submit, attributes, ...children) {
  const form = h("form", attributes, ...children);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  return form;
}

const slug = (name) => name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "") || "bms";

// An ID that is not taken yet.
function freeId(name, taken) {
  const base = slug(name);
  for (let number = 1; ; number += 1) {
    const id = number === 1 ? base : `${base}_${number}`;
    if (!taken.has(id)) return id;
  }
}

// The lines for a device that was found, for those who may not test it.
function linesOf(found) {
  const place = found.adapter ? "BMS_ADDRESS" : "BMS_PORT";
  return [`BMS_TYPE=${found.type ?? "auto"}`, `${place}=${found.address}`];
}

// A device that was found. It is updated in place, so that its button keeps the focus.
class Device {
  constructor(found, onTest) {
    this.title = h("strong");
    this.details = h("span", { class: "muted" });
    this.user = h("span", { class: "muted" });
    this.bars = h("span", { class: "signal", role: "img" }, ...BARS.map(() => h("i")));
    this.test = button(t("test"), () => onTest(this.found), { "aria-label": t("test_of", { place: found.address }) });
    this.lines = h("div");
    this.node = h("li", { class: "device" }, h("div", {}, this.title, this.details, this.user), this.bars, this.test, this.lines);
  }

  show(found, isTrusted) {
    this.found = found;
    const brand = found.title && t(found.likely ? "probably" : "possibly", { title: found.title });
    setText(this.title, found.adapter ? found.name || t("unnamed") : t("serial_port"));
    const about = found.adapter ? [brand ?? t("unknown_brand"), found.address, found.adapter] : [found.address, found.name];
    setText(this.details, about.filter(Boolean).join(" · "));
    setText(this.user, found.used_by ? t("used_by", { name: found.used_by }) : "");
    this.bars.hidden = found.rssi === null;
    this.bars.setAttribute("aria-label", t("signal", { rssi: found.rssi }));
    this.bars.title = t("signal", { rssi: found.rssi });
    BARS.forEach((limit, i) => this.bars.children[i].classList.toggle("lit", found.rssi >= limit));
    this.test.hidden = !isTrusted || Boolean(found.used_by);
    const lines = isTrusted || found.used_by ? "" : linesOf(found).join("\n");
    if (lines !== this.shownLines) this.lines.replaceChildren(...(lines ? [copyable(lines)] : []));
    this.shownLines = lines;
  }
}

// Devices by address. New ones are added at the end while the focus is in the list.
class DeviceList {
  constructor(onTest) {
    Object.assign(this, { onTest, devices: new Map(), node: h("ul", { class: "devices" }) });
  }

  show(list, isTrusted) {
    for (const [address, device] of this.devices) {
      if (list.some((found) => found.address === address)) continue;
      device.node.remove();
      this.devices.delete(address);
    }
    const hasFocus = this.node.contains(document.activeElement);
    list.forEach((found, i) => {
      let device = this.devices.get(found.address);
      if (!device) {
        this.devices.set(found.address, device = new Device(found, this.onTest));
        this.node.append(device.node);
      }
      if (!hasFocus && this.node.children[i] !== device.node) this.node.insertBefore(device.node, this.node.children[i]);
      device.show(found, isTrusted);
    });
  }
}

// One battery that answered, with the fields for its configuration.
class PackForm {
  constructor(pack, number, taken) {
    this.pack = pack;
    this.chosen = h("input", { type: "checkbox" });
    this.chosen.checked = true;
    this.name = textInput({ value: t("battery_name", { number }) });
    this.id = textInput(ID);
    const others = new Set(taken);
    this.id.value = freeId(this.name.value, others);
    taken.add(this.id.value);
    // The ID follows the name until it is edited.
    this.id.addEventListener("input", () => this.edited = true);
    this.name.addEventListener("input", () => { if (!this.edited) this.id.value = freeId(this.name.value, others); });
    const values = pack.values.filter((value) => value.main && !value.module).slice(0, 12);
    const rows = values.map((value) => [value.name, format(value)]);
    if (pack.cells) rows.push([t("cells"), String(pack.cells)]);
    this.heading = h("h3");
    this.choice = labelled(t("add_this"), this.chosen, "check");
    this.node = h("div", { class: "pack" }, this.heading,
      h("dl", { class: "grid" }, ...termRows(rows)),
      this.choice, fields(labelled(t("name"), this.name), labelled(t("id"), this.id)));
  }

  show(isOnlyOne) {
    const { title, model, slave_id: address } = this.pack;
    const about = [title, model].filter(Boolean).join(" · ");
    this.heading.textContent = isOnlyOne ? about : `${t("pack", { address })} · ${about}`;
    this.choice.hidden = isOnlyOne;
  }

  element(target, interval) {
    const { pack } = this;
    const element = { id: this.id.value.trim(), name: this.name.value.trim() || null, type: pack.type, port: target.port, address: target.address };
    Object.assign(element, { adapter: target.adapter, slave_id: pack.slave_id, password: target.password, interval });
    return Object.fromEntries(Object.entries(element).filter(([, value]) => value !== null && value !== undefined));
  }
}

export class SetupView {
  constructor(known) {
    Object.assign(this, { title: t("setup"), known, target: null, isOpen: true });
    this.status = h("p", { role: "status", class: "muted" });
    this.error = h("p", { role: "alert", class: "error", hidden: "" });
    this.intro = h("p");
    this.locked = h("div", { class: "found" });
    this.output = h("div", { class: "found" });
    this.testPanel = h("div", { class: "found" });
    this.node = h("section", { class: "setup", "aria-labelledby": "title" },
      h("h1", { id: "title", tabindex: "-1" }, t("title")), this.intro, this.error, this.locked, this.output, this.testPanel,
      this.searchPanel(), this.bridgePanel(), this.configuredPanel(), this.forgetPanel(), this.tryPanel());
    // Until the server has said what is allowed.
    for (const node of [this.searchButton, this.bridge, this.configured, this.forget, this.trial]) node.hidden = true;
    this.poll();
  }

  searchPanel() {
    this.searchButton = button(t("search"), () => this.ask(this.data?.searching ? "stop" : "search"));
    this.list = new DeviceList((found) => this.startTest(this.targetOf(found)));
    this.others = new DeviceList((found) => this.startTest(this.targetOf(found)));
    this.otherTitle = h("summary");
    this.otherDetails = h("details", { hidden: "" }, this.otherTitle, this.others.node);
    this.hint = h("p", { class: "muted" });
    this.bluetooth = h("p", { class: "warning" });
    const { node } = panel(t("search_title"), "", h("div", { class: "actions" }, this.searchButton, this.status), this.list.node, this.otherDetails, this.bluetooth, this.hint);
    return node;
  }

  bridgePanel() {
    const place = textInput({ ...ID, pattern: null, maxlength: 256, placeholder: "tcp://192.168.1.50:8899" });
    const test = () => {
      const text = place.value.trim();
      // People write the address alone.
      this.startTest({ port: text.includes("://") || text.startsWith("/") ? text : `tcp://${text}` });
    };
    const form = formOf(test, { class: "fields" }, labelled(t("bridge_label"), place), h("p", {}, h("button", {}, t("test"))));
    this.bridge = panel(t("bridge_title"), "", form).node;
    return this.bridge;
  }

  configuredPanel() {
    this.rows = h("ul", { class: "devices" });
    this.configured = panel(t("batteries_title"), "", this.rows).node;
    return this.configured;
  }

  // For a battery that is not configured any more.
  forgetPanel() {
    const id = textInput(ID), status = h("p", { role: "status", hidden: "" });
    const forget = async () => {
      setText(status, "…");
      const answer = await post("api/setup/forget", { id: id.value }).catch(({ message }) => ({ message }));
      setText(status, answer.message ? sentence(answer.message) : t("forgotten", { count: answer.topics }));
    };
    const form = formOf(forget, {}, labelled(t("id"), id), h("p", {}, h("button", {}, t("remove"))), status);
    this.forget = h("details", { class: "panel" }, h("summary", {}, t("forget")), h("p", {}, t("forget_why")), form);
    return this.forget;
  }

  tryPanel() {
    const element = { id: "demo", name: t("try_name"), type: "simulated" };
    this.tryAdd = button(t("try_add"), () => this.change({ add: { devices: [element] } }, (batteries) => batteries.some(({ id }) => id === "demo")));
    this.tryLine = copyable("BMS_TYPE=simulated");
    this.trial = panel(t("try_title"), "", h("p", {}, t("try_why")), h("div", {}, this.tryAdd), this.tryLine).node;
    return this.trial;
  }

  async poll() {
    if (!this.isOpen) return;
    clearTimeout(this.timer);
    try {
      const response = await fetch("api/setup", { cache: "no-store" });
      if (response.ok) this.update(await response.json());
    } catch {
      // The page shows a lost connection itself.
    }
    const busy = this.data?.searching || this.data?.test?.running;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), busy ? SOON : LATER);
  }

  update(data) {
    const first = !this.data;
    this.data = data;
    const { found, trusted } = data;
    this.intro.textContent = `${this.known.size ? "" : `${t("none_configured")} `}${trusted ? t("intro") : ""}`;
    if (first) this.showLock(trusted);
    for (const node of [this.searchButton, this.bridge, this.forget]) node.hidden = !trusted;
    const isCandidate = ({ adapter, title }) => !adapter || title;
    const others = found.filter((device) => !isCandidate(device)), candidates = found.filter(isCandidate);
    this.list.show(candidates, trusted);
    this.others.show(trusted ? others : [], trusted);
    this.otherDetails.hidden = !trusted || !others.length;
    setText(this.otherTitle, `${t("other_devices")} (${others.length})`);
    const count = candidates.length;
    const result = count ? t(count === 1 ? "found_one" : "found_many", { count }) : t("found_none");
    setText(this.status, data.searching ? t("searching") : result);
    this.searchButton.textContent = t(data.searching ? "stop" : "search");
    setText(this.hint, count || data.searching ? "" : [t("found_hint"), data.installation === "container" ? t("found_hint_container") : ""].join(" "));
    const fault = data.bluetooth_error;
    setText(this.bluetooth, fault ? `${t("no_bluetooth")}: ${fault.message}. ${sentence(fault.hint)}` : "");
    this.showTest(data.test);
    this.showConfigured(data.batteries);
    this.trial.hidden = this.known.size > 0;
    const canAdd = trusted && data.installation === "home_assistant";
    this.tryAdd.hidden = !canAdd;
    this.tryLine.hidden = canAdd;
  }

  showLock(trusted) {
    if (trusted) return;
    const token = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => (byte % 36).toString(36)).join("");
    this.locked.replaceChildren(panel(t("locked"), "", h("p", {}, t("locked_why")), copyable(`HTTP_TOKEN=${token}`), h("p", { class: "muted" }, t("locked_copy"))).node);
  }

  targetOf(found) {
    if (!found.adapter) return { port: found.address };
    // One adapter needs no name.
    const adapters = new Set(this.data.found.map(({ adapter }) => adapter).filter(Boolean));
    return { address: found.address, adapter: adapters.size > 1 ? found.adapter : undefined };
  }

  async ask(what, body) {
    setText(this.error, "");
    try {
      await post(`api/setup/${what}`, body);
    } catch (error) {
      this.showError(error);
      return false;
    }
    await this.poll();
    return true;
  }

  showError({ message }) {
    setText(this.error, sentence(message));
    this.error.scrollIntoView({ block: "nearest" });
  }

  async startTest(target) {
    this.output.replaceChildren();
    // With its password, which the server does not repeat.
    this.target = target;
    if (await this.ask("test", target)) this.testHeading?.focus();
  }

  showTest(test) {
    const place = test && (test.port ?? test.address), count = test?.packs.length;
    const names = test?.packs.map(({ type, slave_id }) => `${type} ${slave_id}`);
    const key = test && JSON.stringify([place, count ? names : test.running, test.fault]);
    if (test) {
      const answered = count && t(count === 1 ? "answered_one" : "answered_many", { count });
      const running = t(count ? "testing_others" : "testing", { seconds: test.seconds });
      this.testResult = [answered, test.running ? running : count ? "" : t("test_failed")].filter(Boolean).join(" ");
    }
    if (key !== this.testKey) this.renderTest(test, place);
    this.testKey = key;
    if (!test) return;
    setText(this.testStatus, this.testResult);
    this.stopTest.hidden = !test.running;
  }

  renderTest(test, place) {
    if (!test) return this.testPanel.replaceChildren();
    const focused = this.testPanel.contains(document.activeElement) && document.activeElement;
    if (!this.target || (this.target.port ?? this.target.address) !== place) {
      const [port, address, adapter] = [test.port, test.address, test.adapter].map((value) => value ?? undefined);
      this.target = { port, address, adapter };
    }
    const content = test.packs.length ? this.packForms(test.packs, this.target) : test.running ? [] : this.retryForm(test.fault, this.target);
    this.testStatus = h("p");
    // The passing seconds are not read aloud.
    if (test.packs.length || test.fault) document.getElementById("announcement").textContent = this.testResult;
    this.stopTest = h("p", {}, button(t("stop"), () => this.ask("stop")));
    const { heading, node } = panel(t("test_title", { place }), "", this.testStatus, this.stopTest, ...content);
    this.testHeading = heading;
    this.testPanel.replaceChildren(node);
    // A further pack leaves the fields of the others as they are.
    if (focused) (focused.isConnected && focused !== document.body ? focused : heading).focus();
  }

  retryForm(fault, target) {
    const option = (value, text) => h("option", { value }, text);
    const medium = target.address ? "bluetooth" : "wire";
    const brands = this.data.brands.filter((brand) => brand[medium]).sort((a, b) => a.title.localeCompare(b.title));
    const type = h("select", {}, option("", t("type_auto")), ...brands.map((brand) => option(brand.type, brand.title)));
    const address = h("input", { type: "number", min: 0, max: 255, placeholder: t("slave_id_auto") });
    const password = h("input", { type: "password", autocomplete: "off", maxlength: 64 });
    type.value = target.type ?? "";
    const retry = () => {
      const { port, address: mac, adapter } = target;
      const number = address.value === "" ? undefined : Number(address.value);
      this.startTest({ port, address: mac, adapter, type: type.value || undefined, slave_id: number, password: password.value || undefined });
    };
    const detail = target.address ? labelled(t("password"), password) : labelled(t("slave_id"), address);
    const form = formOf(retry, {}, fields(labelled(t("type"), type), detail), h("p", {}, h("button", {}, t("try_again"))));
    return [h("p", { class: "error" }, sentence(fault.message)), h("p", { class: "muted" }, sentence(fault.hint)), form];
  }

  packForms(packs, target) {
    if (this.formsOf !== target) {
      Object.assign(this, { formsOf: target, forms: new Map(), bank: h("input", { type: "checkbox" }) });
      this.interval = h("input", { type: "number", min: 0.5, max: 3600, step: "any", placeholder: "30" });
      this.bank.checked = true;
    }
    const taken = new Set([...this.known.keys(), ...this.data.batteries.map(({ id }) => id), ...[...this.forms.values()].map(({ id }) => id.value)]);
    const forms = packs.map((pack) => {
      const key = `${pack.type} ${pack.slave_id}`;
      if (!this.forms.has(key)) this.forms.set(key, new PackForm(pack, taken.size + 1, taken));
      return this.forms.get(key);
    });
    forms.forEach((form) => form.show(packs.length === 1));
    const { interval, bank } = this;
    const label = t(this.data.installation === "home_assistant" ? "add_restart" : "show_settings");
    const submit = () => {
      const chosen = forms.filter(({ chosen }) => chosen.checked);
      if (!chosen.length) return setText(this.error, t("nothing_chosen"));
      const devices = chosen.map((pack) => pack.element(target, interval.value === "" ? undefined : Number(interval.value)));
      const add = { devices };
      if (bank.checked && devices.length > 1) add.bank = { id: freeId("bank", new Set([...taken, ...devices.map(({ id }) => id)])), name: t("bank_name") };
      this.change({ add }, (batteries) => devices.every((device) => batteries.some(({ id }) => id === device.id)));
    };
    return [formOf(submit, {}, ...forms.map(({ node }) => node), fields(labelled(t("interval"), interval)),
      packs.length > 1 ? labelled(t("bank"), bank, "check") : null, h("p", {}, h("button", { class: "primary" }, label)))];
  }

  showConfigured(batteries) {
    this.configured.hidden = !batteries.length;
    const key = JSON.stringify(batteries);
    if (key === this.configuredKey) return;
    this.configuredKey = key;
    this.rows.replaceChildren(...batteries.map(({ id, name, place }) => {
      const input = textInput({ value: name ?? "", placeholder: this.known.get(id)?.name ?? id, "aria-label": t("rename_of", { id }) });
      const submit = () => {
        const wanted = input.value.trim();
        this.change({ rename: { id, name: wanted } }, (all) => all.some((battery) => battery.id === id && (!wanted || battery.name === wanted)));
      };
      const rename = formOf(submit, { class: "row" }, input, h("button", {}, t("rename")));
      const remove = button(t("remove"), () => {
        // The second press removes.
        if (remove.textContent === t("remove")) {
          remove.textContent = t("remove_sure");
          remove.removeAttribute("aria-label");
          note.hidden = false;
          return;
        }
        this.change({ remove: { id } }, (all) => !all.some((battery) => battery.id === id));
      }, { "aria-label": t("remove_of", { id }) });
      const note = h("span", { class: "muted", role: "status", hidden: "" }, t("removed_note"));
      return h("li", { class: "device" }, h("div", {}, h("strong", {}, id), h("span", { class: "muted" }, place ?? ""), note), rename, remove);
    }));
  }

  // Changes the add-on's options, or shows the settings. `isDone` recognises the batteries after the restart.
  async change(change, isDone) {
    setText(this.error, "");
    const status = h("p", { role: "status" }, t("saving"));
    this.output.replaceChildren(status);
    try {
      const answer = await post("api/setup/change", change);
      if (answer.restarting) return await this.waitForRestart(status, isDone);
      this.showSettings(answer);
    } catch (error) {
      this.output.replaceChildren();
      this.showError(error);
    }
  }

  async waitForRestart(status, isDone) {
    status.textContent = t("restarting");
    for (let seconds = 0; seconds < RESTART && this.isOpen; seconds += 1) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      try {
        const { batteries } = await (await fetch("api/overview", { cache: "no-store" })).json();
        if (!isDone(batteries)) continue;
        status.textContent = t("restarted");
        location.hash = "#/";
        location.reload();
        return;
      } catch {
        // It is being restarted.
      }
    }
    status.textContent = t("restart_slow");
  }

  showSettings({ files, obsolete }) {
    const blocks = files.flatMap(({ name, text }) => {
      const link = h("a", { class: "button", download: name, href: URL.createObjectURL(new Blob([text], { type: "text/plain" })) }, t("download"));
      const block = copyable(text.trimEnd());
      block.lastElementChild.append(" ", link);
      return [h("h3", {}, name), block];
    });
    const isMasked = files.some(({ text }) => text.includes("***"));
    const { heading, node } = panel(t("settings_title"), "",
      h("p", {}, t(this.data.installation === "container" ? "settings_container" : "settings_host")), ...blocks,
      isMasked ? h("p", { class: "warning" }, t("settings_masked")) : null,
      obsolete.length ? h("p", { class: "warning" }, t("settings_obsolete", { names: obsolete.join(", ") })) : null);
    this.output.replaceChildren(node);
    heading.focus();
  }

  close() {
    this.isOpen = false;
    clearTimeout(this.timer);
  }
}

// Asks for the token. The browser keeps it in a cookie that scripts cannot read.
export class LoginView {
  constructor() {
    this.title = t("login");
    const input = h("input", { type: "password", autocomplete: "current-password", required: "", maxlength: 128 });
    const error = h("p", { role: "alert", class: "error", hidden: "" });
    const logIn = async () => {
      setText(error, "");
      try {
        await post("api/login", { token: input.value });
        location.reload();
      } catch (failure) {
        setText(error, sentence(failure.message));
        input.select();
      }
    };
    const form = formOf(logIn, {}, fields(labelled(t("login"), input), h("p", {}, h("button", {}, t("log_in")))));
    this.node = h("section", { class: "setup", "aria-labelledby": "title" },
      h("h1", { id: "title", tabindex: "-1" }, t("login")), h("p", {}, t("login_why")), h("div", { class: "panel" }, form, error));
  }
}

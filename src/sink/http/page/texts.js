// The texts of the page, by key. English is complete. Every other language is a file of its own, and what
// it lacks is shown in English.

const LANGUAGES = ["en", "cs", "de", "fr"];
const ENGLISH = {
  setup: "Set-up",
  title: "Set up batteries",
  none_configured: "No battery is configured yet.",
  intro: "Search for your battery, test it, give it a name, and add it. Searching and testing only read; batteries that are already configured are left alone.",
  copy: "Copy",
  copied: "Copied",
  selected: "Selected: press Ctrl+C",
  download: "Download",
  lines: "Lines for the configuration",

  locked: "Searching is locked here",
  locked_why: "Searching and testing work on the machine that runs bms-reader, and from others with a password. Set one, restart bms-reader, and reload this page; it asks for the password.",
  locked_copy: "Or copy the lines of your battery from the list below.",
  login: "Password",
  login_why: "This page needs the password that is set as HTTP_TOKEN, in the Home Assistant app as the option http_token.",
  log_in: "Log in",

  search: "Search",
  stop: "Stop",
  search_title: "Serial ports and Bluetooth",
  searching: "Searching …",
  found_none: "Nothing found.",
  found_one: "1 device found.",
  found_many: "{count} devices found.",
  found_hint: "Is the adapter plugged in, and the battery awake? A battery does not show up while a phone app is connected to it.",
  found_hint_container: "The container must have the serial adapter (--device /dev/ttyUSB0) and, for Bluetooth, the host's D-Bus (-v /run/dbus:/run/dbus:ro).",
  serial_port: "Serial port",
  unnamed: "Unnamed device",
  probably: "probably {title}",
  possibly: "possibly {title}",
  unknown_brand: "not recognised",
  signal: "Signal {rssi} dBm",
  used_by: "In use by {name}, so it cannot be tested.",
  other_devices: "Other Bluetooth devices",
  no_bluetooth: "Bluetooth is not available",
  bridge_title: "Network adapter or other port",
  bridge_label: "Address of an RS485-to-Ethernet adapter, or path of a port",
  test: "Test",
  test_of: "Test {place}",

  test_title: "Test of {place}",
  testing: "Reading … {seconds} s. A port takes a few minutes if the brand is rare.",
  testing_others: "Looking for more batteries on the same line … {seconds} s",
  test_failed: "No battery was read",
  try_again: "Try again",
  type: "Type",
  type_auto: "find out",
  slave_id: "Address on the bus",
  slave_id_auto: "find out",
  password: "Password or PIN of the battery",
  answered_one: "The battery answers.",
  answered_many: "{count} batteries answer.",
  pack: "Battery at address {address}",
  cells: "Cells",
  add_this: "Add this battery",
  name: "Name",
  id: "ID in topics and entities",
  battery_name: "Battery {number}",
  interval: "Seconds between two reads",
  bank: "Combine them into one bank",
  bank_name: "Battery bank",
  add: "Add",
  add_restart: "Add and restart",
  show_settings: "Show the settings",
  nothing_chosen: "Choose at least one battery.",

  saving: "Saving …",
  restarting: "Saved. BMS Reader restarts …",
  restarted: "Done.",
  restart_slow: "BMS Reader has not come back yet. Its log in Home Assistant says why: Settings, Apps, BMS Reader, Log.",
  settings_title: "Finished settings",
  settings_container: "Put the lines into the file .env beside docker-compose.yml, or save the second file beside it. Then run: docker compose up -d",
  settings_host: "Put the lines into /etc/bms-reader.env. Then run: sudo systemctl restart bms-reader",
  settings_masked: "Replace *** by the password.",
  settings_obsolete: "Delete these lines: {names}",

  batteries_title: "Configured batteries",
  rename: "Rename",
  rename_of: "New name of {id}",
  remove: "Remove",
  remove_of: "Remove {id}",
  remove_sure: "Really remove",
  removed_note: "Its history and its entities in Home Assistant stay until you delete them.",

  forget: "Remove an old battery from Home Assistant",
  forget_why: "Deletes what the broker still keeps about a battery that is not configured any more. Home Assistant then removes it.",
  forgotten: "Removed ({count} topics).",
  try_title: "Just trying it out?",
  try_why: "A simulated battery needs no hardware.",
  try_name: "Simulated battery",
  try_add: "Add a simulated battery",

  skip: "Skip to content",
  batteries: "Batteries",
  all_batteries: "All batteries",
  lost: "Connection to bms-reader lost. The values are not current. Reconnecting …",
  mqtt_connected: "MQTT connected",
  mqtt_disconnected: "MQTT not connected",
  version: "version {version}",
  metrics: "Metrics",
  light: "Light colours",
  dark: "Dark colours",
  became: "{name} is {link}",
  yes: "yes",
  no: "no",
  days: "{count} days",
  soc_is: "State of charge {soc}",
  soc_unknown: "State of charge unknown",
  online: "online",
  connecting: "connecting",
  offline: "offline",
  offline_since: "offline since {time}",
  waiting: "waiting for the first reading",
  charging: "charging",
  discharging: "discharging",
  idle: "idle",
  now: "Now",
  alarms: "Alarms",
  no_alarms: "No alarms.",
  alarms_unknown: "Unknown while the battery does not answer.",
  bank_members: "Batteries of this bank",
  member_missing: "missing: last reading too old",
  module: "Module {number}",
  temperatures: "Temperatures",
  connection: "Connection",
  charge: "Charge",
  power: "Power",
  voltage: "Voltage",
  temperature: "Temperature",
  current: "Current",
  highest: "highest",
  lowest: "lowest",
  mean: "mean",
  history: "History",
  time_range: "Time range",
  all_values: "All values",
  raw: "Raw JSON",
  last_read: "Last good read",
  read_every: "Read every",
  good_reads: "Good reads",
  failed_reads: "Failed reads",
  reconnects: "Reconnects",
  last_error: "Last error",
  ago: "{time} ago",
  never: "never",
  cell: "Cell {number}",
  house: "All batteries together",
  online_of: "{online} of {count} online",
  power_in: "Power in",
  power_out: "Power out",
  charged_today: "Charged today",
  discharged_today: "Discharged today",
  time_to_full: "Time to full",
  time_to_empty: "Time to empty",
  last_values: "Last values, {time} old, not live",
  energy: "Energy",
  period: "Period",
  day: "Day",
  week: "Week",
  month: "Month",
  year: "Year",
  charged: "Charged",
  discharged: "Discharged",
  efficiency: "Efficiency",
  efficiency_later: "Efficiency is shown from 10 full cycles on.",
  cycles: "Full cycles",
  as_table: "As a table",
  energy_not_kept: "Since the start of the program: it is kept for longer with HISTORY_FILE.",
  alarm_history: "Past alarms",
  alarm_none: "No alarm in this list.",
  alarm_active: "active",
  clear_list: "Clear list",
  show_all: "Show all",
  unknown: "unknown",
  balancing: "balancing",
  balancing_one: "balancing: cell {cells}",
  balancing_many: "balancing: cells {cells}",
  balancing_none: "no cell is balancing",
  difference: "difference {mv} mV",
  no_data: "No data in this period",
  chart: "{name} over time; arrow keys move the cursor",
  limit: "limit {value}",
  warning: "{alarm} (warning)",
};

// The first language of the browser that the page has, and its spelling of numbers and dates.
const primary = (tag) => tag.split("-")[0];
export const locale = navigator.languages.find((tag) => LANGUAGES.includes(primary(tag))) ?? "en";
const language = primary(locale);
const NOTHING = { texts: {}, values: {}, alarms: {} };
const table = language === "en" ? NOTHING : await import(`./texts-${language}.js`).then((file) => file.default, () => NOTHING);
document.documentElement.lang = language;

// The text of a key, with `{name}` replaced by the value of that name.
export function t(key, values = {}) {
  const text = table.texts[key] ?? ENGLISH[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// The name of a value. The server has the English ones.
export function valueName({ key, name }) {
  const [number] = key.match(/(?<=_)\d+(?=_|$)/) ?? [""];
  return table.values[key.replace(/(?<=_)\d+(?=_|$)/, "{}")]?.replace("{}", number) ?? name;
}

// An alarm as a sentence. `format` writes a value with its unit.
export function alarmText({ name, words, cell, value, limit, unit }, battery, format) {
  const base = name.replace(/_warning$/, "");
  const what = table.alarms[name] ?? (table.alarms[base] && t("warning", { alarm: table.alarms[base] }));
  if (!what) return words;
  // Volts of a cell have three decimals.
  const write = (value) => format({ value, unit, key: unit === "V" && Math.abs(value) < 6 ? "cell" : "" });
  const place = cell ? `${battery}, ${t("cell", { number: cell })}` : battery;
  const values = [what, ...(value === undefined ? [] : [write(value)])].join(", ");
  return `${place}: ${values}${limit === undefined ? "" : ` (${t("limit", { value: write(limit) })})`}`;
}

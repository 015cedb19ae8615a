// The language of the page, and its texts by key. Each language is a file of its own, so that one is loaded.

const LANGUAGES = ["en", "cs", "de", "fr"];

// The first language of the browser that the page has, and its spelling of numbers and dates.
const primary = (tag) => tag.split("-")[0];
export const locale = navigator.languages.find((tag) => LANGUAGES.includes(primary(tag))) ?? "en";
const language = primary(locale);
const load = (name) => import(`./texts-${name}.js`);
const { default: table } = await load(language).catch(() => load("en"));
document.documentElement.lang = language;

// The text of a key, with `{name}` replaced by the value of that name.
export function t(key, values = {}) {
  const text = table.texts[key] ?? key;
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

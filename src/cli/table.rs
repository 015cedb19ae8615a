//! The table of batteries that `read`, `status` and `demo` print on a terminal.
//!
//! A row is made from the JSON of a battery as the dashboard receives it, so that a running service
//! and this process give the same table. Rows are cut at the width of the terminal, never wrapped.

use serde_json::Value as Json;

use crate::clock;
use crate::model::{DeviceState, Millis};
use crate::sink::http;

/// The texts of one row.
#[derive(Debug, Default)]
pub(super) struct Row {
    name: String,
    soc: String,
    volts: String,
    amps: String,
    watts: String,
    cells: String,
    spread: String,
    temperature: String,
    state: String,
    /// Shown after the state where there is room.
    detail: String,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    width: usize,
    /// Narrower terminals have no room for it.
    min_terminal: usize,
    text: fn(&Row) -> &str,
}

/// The columns between the name and the state. At each `min_terminal` the state keeps at least the
/// width of `offline 3 min`.
const COLUMNS: [Column; 7] = [
    Column { title: "SoC %", width: 5, min_terminal: 0, text: |row| &row.soc },
    Column { title: "V", width: 6, min_terminal: 0, text: |row| &row.volts },
    Column { title: "A", width: 7, min_terminal: 0, text: |row| &row.amps },
    Column { title: "W", width: 6, min_terminal: 0, text: |row| &row.watts },
    Column { title: "Cells V", width: 11, min_terminal: 80, text: |row| &row.cells },
    Column { title: "Diff mV", width: 7, min_terminal: 100, text: |row| &row.spread },
    Column { title: "°C", width: 5, min_terminal: 80, text: |row| &row.temperature },
];
const GAP: &str = "  ";
const NAME: &str = "Battery";
/// Longest shown name, on terminals of up to and of more than 99 columns.
const NAME_WIDTHS: (usize, usize) = (13, 24);
/// Columns of a detail that are worth showing.
const MIN_DETAIL: usize = 10;
const UNKNOWN: &str = "-";

/// The table, and below it what does not fit into the rows.
pub(super) fn text(batteries: &[Json], width: usize) -> String {
    let now = clock::now();
    let rows: Vec<_> = batteries.iter().map(|battery| Row::from_json(battery, now)).collect();
    let mut text = render(&rows, width).join("\n");
    let notes: Vec<_> = batteries.iter().flat_map(notes).collect();
    if !notes.is_empty() {
        text.extend(["\n\n", &notes.join("\n")]);
    }
    text
}

/// A line of headings, and a line for each row.
pub(super) fn render(rows: &[Row], width: usize) -> Vec<String> {
    let longest = rows.iter().map(|row| columns(&row.name)).max().unwrap_or_default();
    let max_name = if width < 100 { NAME_WIDTHS.0 } else { NAME_WIDTHS.1 };
    let name_width = longest.clamp(NAME.len(), max_name);
    let shown: Vec<_> = COLUMNS.iter().filter(|column| width >= column.min_terminal).collect();
    let line = |name: &str, text: &dyn Fn(&Column) -> String| {
        let name = cut(name, name_width);
        let mut line = format!("{name}{}", blanks(name_width - columns(&name)));
        for column in &shown {
            let text = text(column);
            let padding = column.width.saturating_sub(columns(&text));
            line.extend([GAP, &blanks(padding), &text]);
        }
        line + GAP
    };
    let heading = line(NAME, &|column| column.title.to_owned()) + "State";
    let rows = rows.iter().map(|row| {
        let mut line = line(&row.name, &|column| (column.text)(row).to_owned()) + &row.state;
        if !row.detail.is_empty() && columns(&line) + MIN_DETAIL <= width {
            line.extend([": ", &row.detail]);
        }
        line
    });
    std::iter::once(heading).chain(rows).map(|line| cut(&line, width)).collect()
}

impl Row {
    /// `battery` is an element of `batteries` in `/api/overview`.
    pub(super) fn from_json(battery: &Json, now: Millis) -> Self {
        let number = |key: &str| {
            let values = battery["values"].as_array()?;
            values.iter().find(|value| value["key"] == key)?["value"].as_f64()
        };
        let text = |key: &str, decimals: usize| {
            number(key).map_or_else(|| UNKNOWN.to_owned(), |number| format!("{number:.decimals$}"))
        };
        let cells = (number("min_cell_voltage"), number("max_cell_voltage"));
        let difference = number("cell_voltage_diff");
        let (state, detail) = state(battery, now);
        Row {
            name: battery["name"].as_str().unwrap_or_default().to_owned(),
            soc: text("soc", 1),
            volts: text("pack_voltage", 2),
            amps: text("pack_current", 2),
            watts: text("power", 0),
            cells: match cells {
                (Some(low), Some(high)) => format!("{low:.3}-{high:.3}"),
                _ => UNKNOWN.to_owned(),
            },
            spread: difference
                .map_or_else(|| UNKNOWN.to_owned(), |volts| format!("{:.0}", volts * 1000.0)),
            temperature: text("avg_temp", 1),
            state,
            detail,
        }
    }

    pub(super) fn of(state: &DeviceState, now: Millis) -> Self {
        Row::from_json(&http::battery_json(state), now)
    }

    /// For a log: the values without the padding.
    pub(super) fn words(&self) -> String {
        let Row { name, soc, volts, amps, watts, cells, temperature, state, detail, .. } = self;
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        printable(&format!(
            "{name}: {soc} %, {volts} V, {amps} A, {watts} W, cells {cells} V, {temperature} °C, \
             {state}{detail}"
        ))
    }
}

/// What the battery does, and why it does not answer or which alarm is active.
fn state(battery: &Json, now: Millis) -> (String, String) {
    let fault = battery["fault"]["message"].as_str();
    let values = battery["values"].as_array();
    let status = values.and_then(|values| values.iter().find(|value| value["key"] == "status"));
    let status = status.and_then(|status| status["value"].as_str()).unwrap_or("online");
    let (state, detail) = match (battery["link"].as_str(), alarms(battery).first()) {
        (Some("connecting"), _) => (if fault.is_some() { "failed" } else { "connecting" }, fault),
        (Some("offline"), _) => {
            let since = battery["since"].as_u64().map(|since| now.since(Millis(since)));
            let since = since.map_or_else(String::new, |since| format!(" {}", duration(since)));
            return (format!("offline{since}"), fault.unwrap_or_default().to_owned());
        }
        (_, Some(alarm)) => ("alarm", Some(*alarm)),
        (_, None) => (status, None),
    };
    (state.to_owned(), detail.unwrap_or_default().to_owned())
}

/// The active alarms, without the name of the battery before them.
fn alarms(battery: &Json) -> Vec<&str> {
    let prefix = format!("{}: ", battery["name"].as_str().unwrap_or_default());
    let alarms = battery["alarms"].as_array().into_iter().flatten();
    let words = alarms.filter_map(|alarm| alarm["words"].as_str());
    words.map(|words| words.strip_prefix(&prefix).unwrap_or(words)).collect()
}

/// What does not fit into a row: each alarm, and the fault with its remedy.
fn notes(battery: &Json) -> Vec<String> {
    let name = battery["name"].as_str().unwrap_or_default();
    let mut notes: Vec<_> =
        alarms(battery).iter().map(|alarm| format!("{name}: alarm: {alarm}")).collect();
    let fault = &battery["fault"];
    if let (Some(message), Some(hint)) = (fault["message"].as_str(), fault["hint"].as_str()) {
        notes.push(format!("{name}: {message}\n  {hint}"));
    }
    notes.iter().map(|note| printable(note)).collect()
}

fn duration(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// At most `width` columns of the text, in one line; the end is replaced by `…` where it is cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    let text = printable(text).replace('\n', " ");
    if columns(&text) <= width {
        return text;
    }
    let mut shown = String::new();
    for character in text.chars() {
        if columns(&shown) + columns_of(character) >= width {
            break;
        }
        shown.push(character);
    }
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// Names and messages may come from another machine and must not control the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// East Asian characters and emoji take two columns (Unicode, UAX #11, and the emoji blocks).
fn columns_of(character: char) -> usize {
    match u32::from(character) {
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

fn blanks(count: usize) -> String {
    " ".repeat(count)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

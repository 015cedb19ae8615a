//! "Who may use whom" of ARCHITECTURE.md as a test: the sources are read and every path in them
//! is held against the table below, so the layers cannot rot unnoticed.
//!
#![allow(clippy::expect_used, clippy::panic)]

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{mark, paths, tokens, without_tests, word};

/// What the code of one room may name.
struct Rule {
    /// A folder or file right under `src`, or one level deeper (`sink::mqtt`).
    room: &'static str,
    /// Other rooms that it may use.
    may: &'static [&'static str],
    /// Words and paths that must not occur in it.
    never: &'static [&'static str],
}

/// A pure room has no clock, no IO, no tasks and no log.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "tokio_util",
    "Instant",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tracing",
    "log",
];
const ANY: &[&str] = &["*"];

/// The longest matching room counts.
const RULES: &[Rule] = &[
    Rule { room: "model", may: &[], never: IMPURE },
    Rule { room: "protocol", may: &["model"], never: IMPURE },
    Rule { room: "transport", may: &[], never: &["std::env"] },
    Rule {
        room: "poll",
        may: &["model", "protocol", "transport", "board", "command", "capture", "clock", "random"],
        never: &["std::env"],
    },
    Rule { room: "board", may: &["model"], never: &["std::env", "tracing"] },
    Rule { room: "random", may: &[], never: &["std::env", "tracing"] },
    Rule { room: "did_you_mean", may: &[], never: IMPURE },
    Rule { room: "clock", may: &["model"], never: &["std::env", "tracing"] },
    Rule { room: "command", may: &["model"], never: &["std::env", "tracing"] },
    Rule { room: "capture", may: &["model", "protocol", "raw", "clock"], never: &["std::env"] },
    Rule { room: "raw", may: &["model"], never: IMPURE },
    Rule { room: "history", may: &["model", "board", "clock"], never: &["std::env"] },
    Rule {
        room: "sink",
        may: &["model", "board", "command", "raw", "history", "clock", "random", "did_you_mean"],
        never: &["std::env"],
    },
    Rule { room: "sim", may: &["model", "protocol"], never: &["async", "tokio", "std::env"] },
    Rule { room: "sim::serve", may: &["model", "protocol", "transport"], never: &["std::env"] },
    Rule {
        room: "config",
        may: &["model", "protocol", "sink", "did_you_mean"],
        never: &["async", "tokio", "tracing"],
    },
    Rule { room: "app", may: ANY, never: &["std::env"] },
    Rule { room: "cli", may: ANY, never: &[] },
    Rule { room: "main", may: ANY, never: &[] },
];

/// Crates with one home each, so that replacing one is a change in one place.
const HOMES: &[(&str, &[&str])] = &[
    ("rumqttc", &["sink::mqtt::client", "sink::mqtt::trouble"]),
    ("axum", &["sink::http"]),
    ("envy", &["config::source"]),
    ("rusqlite", &["history::store"]),
    ("prometheus_client", &["sink::http::metrics"]),
    ("tokio_serial", &["transport::serial", "sim::serve"]),
    ("bluer", &["transport::ble"]),
    ("lexopt", &["cli::line::parse"]),
];

/// Rooms whose output is the program's answer; everything else logs.
const SPEAKERS: &[&str] = &["cli", "main"];

const LINES_IN_A_FILE: usize = 500;

/// `src/sink/mqtt/client.rs` is `["sink", "mqtt", "client"]`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let parts = inner.split('/').map(str::to_owned);
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

fn within(path: &str, room: &str) -> bool {
    path == room || path.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
}

/// What is wrong with one file.
fn faults(file: &str, source: &str) -> Vec<String> {
    let (list, _) = without_tests(&tokens(source));
    let module = module_of(file);
    let place = module.join("::");
    let mut faults = BTreeSet::new();
    if source.lines().count() > LINES_IN_A_FILE {
        faults.insert(format!("{file} has more than {LINES_IN_A_FILE} lines: is it two rooms?"));
    }
    if module.is_empty() {
        return faults.into_iter().collect();
    }
    let rules = RULES.iter().filter(|rule| within(&place, rule.room));
    let Some(rule) = rules.max_by_key(|rule| rule.room.len()) else {
        return vec![format!("{file} is in a room without a row in the table")];
    };
    let words: BTreeSet<&str> = list.iter().filter_map(|token| word(Some(token))).collect();
    let named = paths(&list, &module);
    let joined: BTreeSet<String> = named.iter().map(|path| path.join("::")).collect();
    for never in rule.never {
        let uses = if never.contains("::") {
            joined.iter().any(|path| within(path, never))
        } else {
            words.contains(never)
        };
        if uses {
            faults.insert(format!("{file} must not name `{never}`"));
        }
    }
    for path in joined.iter().filter_map(|path| path.strip_prefix("crate::")) {
        let sinks = module[0] == "sink" && path.starts_with("sink::");
        let own = if sinks && module.len() > 1 { &module[..2] } else { &module[..1] }.join("::");
        let item_of_all_sinks = sinks && path.split("::").nth(1).is_some_and(is_type_name);
        let allowed = rule.may == ANY
            || within(path, &own)
            || item_of_all_sinks
            || rule.may.iter().any(|room| within(path, room));
        if !allowed {
            faults.insert(format!("{file} must not use `crate::{path}`"));
        }
    }
    for (name, homes) in HOMES {
        if words.contains(name) && !homes.iter().any(|home| within(&place, home)) {
            faults.insert(format!("{file} must not name `{name}`: its home is {homes:?}"));
        }
    }
    let prints = list.windows(2).any(|pair| {
        matches!(word(pair.first()), Some("print" | "println")) && mark(pair.get(1)) == Some('!')
    });
    if (prints || words.contains("stdout")) && !SPEAKERS.contains(&module[0].as_str()) {
        faults.insert(format!("{file} must not write to stdout"));
    }
    faults.into_iter().collect()
}

fn is_type_name(part: &str) -> bool {
    part.starts_with(char::is_uppercase)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source below `folder` with its name from the root of the repository.
fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
            into.push((name, fs::read_to_string(&path).expect("text")));
        }
    }
}

#[test]
fn every_file_keeps_to_its_layer() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 20, "only {} sources found", files.len());
    let tests: Vec<String> = files
        .iter()
        .flat_map(|(file, source)| {
            let names = without_tests(&tokens(source)).1.into_iter();
            names.map(|name| [module_of(file), vec![name]].concat().join("::"))
        })
        .collect();
    let is_test = |file: &str| tests.iter().any(|room| within(&module_of(file).join("::"), room));
    let found: Vec<String> = files
        .iter()
        .filter(|(file, _)| !is_test(file))
        .flat_map(|(file, source)| faults(file, source))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_document_says_what_the_test_checks() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for rule in RULES.iter().filter(|rule| rule.may != ANY) {
        let head = format!("| `{}` |", rule.room.replace("::", "/"));
        let row = text.lines().find(|line| line.starts_with(&head));
        let cell = row.and_then(|row| row.split('|').nth(2));
        let cell = cell.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row {head}"));
        let said: BTreeSet<String> =
            cell.split('`').skip(1).step_by(2).map(|name| name.replace('/', "::")).collect();
        let checked: BTreeSet<String> = rule.may.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(said, checked, "row {head}");
    }
}

#[test]
fn bad_examples_are_caught() {
    let long = "\n".repeat(LINES_IN_A_FILE + 1);
    for (file, source, expected) in [
        ("src/model/a.rs", "use crate::protocol::Step;", "`crate::protocol::Step`"),
        ("src/model/a.rs", "use crate::{model::Reading, board};", "`crate::board`"),
        ("src/model/a.rs", "use super::super::poll::Line;", "`crate::poll::Line`"),
        ("src/model/a.rs", "mod x { use super::super::super::poll::L; }", "`crate::poll::L`"),
        ("src/model/a.rs", "fn f(x: crate::raw::Raw) {}", "`crate::raw::Raw`"),
        ("src/model/a.rs", "use crate::*;", "`crate::*`"),
        ("src/protocol/jbd.rs", "use std::{env::var, fmt};", "`std::env`"),
        ("src/protocol/jbd.rs", "let t = ::std::fs::read(p);", "`std::fs`"),
        ("src/protocol/jbd.rs", "let t = std::time::Instant::now();", "`Instant`"),
        ("src/protocol/jbd.rs", "pub async fn read() {}", "`async`"),
        ("src/protocol/jbd.rs", "tracing::debug!(\"x\");", "`tracing`"),
        ("src/transport/ble.rs", "use crate::model::Fault;", "`crate::model::Fault`"),
        ("src/poll/line.rs", "use crate::config::Config;", "`crate::config::Config`"),
        ("src/sink/mqtt/mod.rs", "use crate::sink::http::Page;", "`crate::sink::http::Page`"),
        ("src/sink/mqtt/due.rs", "use super::super::http;", "`crate::sink::http`"),
        ("src/sink/mqtt/due.rs", "use rumqttc::QoS;", "`rumqttc`"),
        ("src/sink/http/mod.rs", "use crate::transport::Link;", "`crate::transport::Link`"),
        ("src/sim/daren.rs", "tokio::spawn(x);", "`tokio`"),
        ("src/config/mod.rs", "use tokio::sync::mpsc;", "`tokio`"),
        ("src/board.rs", "fn f() { println!(\"x\") }", "stdout"),
        ("src/app.rs", "std::io::stdout().flush();", "stdout"),
        ("src/novelty.rs", "", "without a row"),
        ("src/model/a.rs", "#[cfg(not(test))] use crate::poll::Line;", "`crate::poll::Line`"),
        ("src/model/a.rs", "#[cfg(test)] mod t { } use crate::poll::Line;", "`crate::poll::Line`"),
        ("src/model/a.rs", "const Q: char = '\"'; use crate::poll::Line; // \"", "crate::poll"),
        ("src/model/a.rs", &long, "lines"),
    ] {
        let found = faults(file, source);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{source:?} gave {found:?}");
    }
}

#[test]
fn good_examples_pass() {
    for (file, source) in [
        (
            "src/model/a.rs",
            "/// See [`crate::poll::Line`], tokio.\n/* async /* tokio */ */ fn f() {}",
        ),
        ("src/model/a.rs", "const T: &str = \"use crate::poll::Line; async \\\" tokio\";"),
        ("src/model/a.rs", "const T: &str = r#\"\" crate::poll::Line\"#; fn f<'async>() {}"),
        (
            "src/model/a.rs",
            "#[cfg(test)] mod tests { use crate::poll::Line; fn f() { tokio::x(); } }",
        ),
        ("src/model/a.rs", "#[cfg(test)] #[path = \"x\"] use crate::poll::Line;"),
        ("src/model/a.rs", "mod inner { use super::super::unit::Volt; }"),
        ("src/protocol/jbd.rs", "use std::time::Duration; use crate::model::{self as m, Reading};"),
        ("src/sink/mqtt/mod.rs", "use crate::sink::mqtt::topics; use crate::sink::Stopped;"),
        ("src/sim/serve.rs", "use crate::transport::memory::MemoryPort; use tokio::time;"),
        ("src/config/mod.rs", "use crate::sink::mqtt; use crate::protocol::Options;"),
        ("src/cli/read.rs", "fn f() { println!(\"x\") }"),
        ("src/main.rs", "fn main() { bms_reader::cli::run() }"),
    ] {
        assert_eq!(faults(file, source), Vec::<String>::new(), "{source:?}");
    }
}

//! Reads the sources and compares every path in them with the table "Which module may use which" of
//! ARCHITECTURE.md, so that neither drifts away from the other. Also rejects import cycles.

#![allow(clippy::expect_used, clippy::panic)]

mod cycles;
mod size;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bms_reader::config::variables::VARIABLES;
use source::{Token, ident, paths, punct, strip_tests, tokenize};

/// What the code of one module may name.
struct Rule {
    /// A folder or file right under `src`, or one level deeper (`sink::mqtt`).
    module: &'static str,
    /// Other modules that it may use.
    may_use: &'static [&'static str],
    /// Identifiers and paths that must not occur in it.
    forbidden: &'static [&'static str],
}

/// A pure module has no clock, no IO, no tasks and no log.
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

/// The longest matching module applies.
const RULES: &[Rule] = &[
    Rule { module: "model", may_use: &[], forbidden: IMPURE },
    Rule {
        module: "protocol",
        may_use: &["model", "did_you_mean", "lz4", "remedy"],
        forbidden: IMPURE,
    },
    Rule { module: "remedy", may_use: &["model"], forbidden: IMPURE },
    Rule { module: "transport", may_use: &["remedy"], forbidden: &["std::env"] },
    Rule {
        module: "poll",
        may_use: &[
            "model",
            "protocol",
            "transport",
            "board",
            "command",
            "capture",
            "clock",
            "random",
            "remedy",
            "tasks",
        ],
        forbidden: &["std::env"],
    },
    Rule { module: "board", may_use: &["model", "remedy"], forbidden: &["std::env", "tracing"] },
    Rule { module: "random", may_use: &[], forbidden: &["std::env", "tracing"] },
    Rule { module: "did_you_mean", may_use: &[], forbidden: IMPURE },
    Rule { module: "lz4", may_use: &[], forbidden: IMPURE },
    Rule { module: "clock", may_use: &["model"], forbidden: &["std::env", "tracing"] },
    Rule { module: "tasks", may_use: &["random", "remedy"], forbidden: &["std::env"] },
    Rule {
        module: "command",
        may_use: &["model", "did_you_mean"],
        forbidden: &["std::env", "tracing"],
    },
    Rule { module: "setup", may_use: &["model"], forbidden: &["std::env", "tracing"] },
    Rule { module: "supervisor", may_use: &["model"], forbidden: &["std::env", "tracing"] },
    Rule { module: "tls", may_use: &[], forbidden: &["std::env", "tracing"] },
    Rule { module: "http_client", may_use: &["tls"], forbidden: &["std::env", "tracing"] },
    Rule {
        module: "capture",
        may_use: &["model", "protocol", "raw", "clock"],
        forbidden: &["std::env"],
    },
    Rule { module: "raw", may_use: &["model"], forbidden: IMPURE },
    Rule {
        module: "history",
        may_use: &["model", "board", "clock", "lz4", "remedy", "tasks"],
        forbidden: &["std::env"],
    },
    Rule {
        module: "sink",
        may_use: &[
            "model",
            "board",
            "command",
            "setup",
            "supervisor",
            "raw",
            "history",
            "clock",
            "random",
            "did_you_mean",
            "lz4",
            "remedy",
            "tasks",
            "tls",
            "http_client",
        ],
        forbidden: &["std::env"],
    },
    Rule {
        module: "sim",
        may_use: &["model", "protocol"],
        forbidden: &["async", "tokio", "std::env"],
    },
    Rule {
        module: "sim::serve",
        may_use: &["model", "protocol", "transport"],
        forbidden: &["std::env"],
    },
    Rule {
        module: "config",
        may_use: &["model", "protocol", "sim", "sink", "supervisor", "did_you_mean"],
        forbidden: &["async", "tokio", "tracing"],
    },
    Rule { module: "app", may_use: ANY, forbidden: &["std::env"] },
    Rule { module: "cli", may_use: ANY, forbidden: &[] },
    Rule { module: "main", may_use: ANY, forbidden: &[] },
];

/// Crates that only these modules may name, so that replacing one is a change in one place.
const CONFINED_CRATES: &[(&str, &[&str])] = &[
    ("rumqttc", &["sink::mqtt::client", "sink::mqtt::error"]),
    ("tokio_rustls", &["tls"]),
    ("nix", &["clock", "app::process"]),
    ("axum", &["sink::http"]),
    ("envy", &["config::source"]),
    ("rusqlite", &["history::store"]),
    ("prometheus_client", &["sink::http::metrics"]),
    ("tokio_serial", &["transport::serial", "sim::serve"]),
    ("bluer", &["transport::ble"]),
    ("ring", &["transport::esphome::noise", "tls"]),
    ("lexopt", &["cli::args::parse"]),
];

/// The only modules whose texts may contain the name of a variable: in Home Assistant the user
/// changes options, so all others call `remedy::setting` or `remedy::assignment`, and in `config`
/// `Values::name_of`.
const MODULES_WITH_VARIABLES: &[&str] =
    &["config::variables", "remedy", "sink::http::setup::files", "cli"];

/// The only modules that write to stdout; everything else logs.
const STDOUT_MODULES: &[&str] = &["cli", "main"];

/// The only modules with destructors, because a panic in one ends the shipped program (see
/// `scripts/build-static`). Those of the service contain nothing that can panic.
const MODULES_WITH_DROP: &[&str] = &["cli", "sim", "sink::http::connections", "transport::stream"];

const MAX_LINES: usize = 500;

/// `src/sink/mqtt/client.rs` is `["sink", "mqtt", "client"]`.
fn module_of(file: &str) -> Vec<String> {
    let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
    let parts = inner.split('/').map(str::to_owned);
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

fn is_within(path: &str, module: &str) -> bool {
    path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

/// The rules that one file breaks.
fn violations(file: &str, source: &str) -> Vec<String> {
    let (tokens, _) = strip_tests(&tokenize(source));
    let module = module_of(file);
    let module_path = module.join("::");
    let mut violations = BTreeSet::new();
    if source.lines().count() > MAX_LINES {
        violations.insert(format!("{file} has more than {MAX_LINES} lines: split it"));
    }
    if module.is_empty() {
        return violations.into_iter().collect();
    }
    let rules = RULES.iter().filter(|rule| is_within(&module_path, rule.module));
    let Some(rule) = rules.max_by_key(|rule| rule.module.len()) else {
        return vec![format!("{file} is in a module without a row in the table")];
    };
    let idents: BTreeSet<&str> = tokens.iter().filter_map(|token| ident(Some(token))).collect();
    let paths: BTreeSet<String> =
        paths(&tokens, &module).iter().map(|path| path.parts.join("::")).collect();
    for forbidden in rule.forbidden {
        let occurs = if forbidden.contains("::") {
            paths.iter().any(|path| is_within(path, forbidden))
        } else {
            idents.contains(forbidden)
        };
        if occurs {
            violations.insert(format!("{file} must not name `{forbidden}`"));
        }
    }
    for path in paths.iter().filter_map(|path| path.strip_prefix("crate::")) {
        if !may_use(rule, &module, path) {
            violations.insert(format!("{file} must not use `crate::{path}`"));
        }
    }
    for (name, homes) in CONFINED_CRATES {
        if idents.contains(name) && !homes.iter().any(|home| is_within(&module_path, home)) {
            violations.insert(format!("{file} must not name `{name}`: only {homes:?} may"));
        }
    }
    if !MODULES_WITH_VARIABLES.iter().any(|home| is_within(&module_path, home)) {
        let literals = tokens.iter().filter_map(|token| match token {
            Token::Literal(text) => Some(text.trim_matches('"')),
            _ => None,
        });
        for (literal, name) in literals.filter_map(|text| Some((text, variable_in(text)?))) {
            violations.insert(format!("{file} must not name {name} in a text: {literal:?}"));
        }
    }
    let drops = tokens
        .windows(2)
        .any(|pair| ident(pair.first()) == Some("Drop") && ident(pair.get(1)) == Some("for"));
    if drops && !MODULES_WITH_DROP.iter().any(|home| is_within(&module_path, home)) {
        violations.insert(format!("{file} must not implement `Drop`: a panic in it would abort"));
    }
    let prints = tokens.windows(2).any(|pair| {
        matches!(ident(pair.first()), Some("print" | "println")) && punct(pair.get(1)) == Some('!')
    });
    if (prints || idents.contains("stdout")) && !STDOUT_MODULES.contains(&module[0].as_str()) {
        violations.insert(format!("{file} must not write to stdout"));
    }
    violations.into_iter().collect()
}

/// Whether `module`, to which `rule` applies, may use `path` of this crate.
fn may_use(rule: &Rule, module: &[String], path: &str) -> bool {
    // A sink may use itself and the items of `sink`, but no other sink.
    let both_sinks = module[0] == "sink" && path.starts_with("sink::");
    let own_depth = if both_sinks && module.len() > 1 { 2 } else { 1 };
    let is_shared_item = both_sinks
        && path.split("::").nth(1).is_some_and(|item| item.starts_with(char::is_uppercase));
    rule.may_use == ANY
        || is_shared_item
        || is_within(path, &module[..own_depth].join("::"))
        || rule.may_use.iter().any(|other| is_within(path, other))
}

/// The first name of a variable in a text that consists of more than that. Two letters may be
/// anything.
fn variable_in(text: &str) -> Option<&str> {
    let is_of_name = |c: char| c == '_' || c.is_ascii_uppercase();
    let is_variable = |word: &&str| {
        word.len() > 2 && VARIABLES.iter().any(|it| it.name == *word || it.aliases.contains(word))
    };
    text.split(|c| !is_of_name(c)).filter(|word| *word != text).find(is_variable)
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Path from the root of the repository, and content, of every source that is not a test.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    read_sources(&repository().join("src"), &mut files);
    assert!(files.len() > 20, "only {} sources found", files.len());
    let tests: Vec<String> = files
        .iter()
        .flat_map(|(file, source)| {
            let modules = strip_tests(&tokenize(source)).1.into_iter();
            modules.map(|name| [module_of(file), vec![name]].concat().join("::"))
        })
        .collect();
    files.retain(|(file, _)| {
        let module = module_of(file).join("::");
        !tests.iter().any(|test| is_within(&module, test))
    });
    files
}

fn read_sources(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(repository()).expect("a path inside the repository");
            let content = fs::read_to_string(&path).expect("UTF-8");
            files.push((name.to_string_lossy().into_owned(), content));
        }
    }
}

#[test]
fn every_file_keeps_to_its_layer() {
    let files = sources();
    let found: Vec<String> =
        files.iter().flat_map(|(file, source)| violations(file, source)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn architecture_document_has_the_same_table() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for rule in RULES.iter().filter(|rule| rule.may_use != ANY) {
        let head = format!("| `{}` |", rule.module.replace("::", "/"));
        let row = text.lines().find(|line| line.starts_with(&head));
        let cell = row.and_then(|row| row.split('|').nth(2));
        let cell = cell.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row {head}"));
        let documented: BTreeSet<String> =
            cell.split('`').skip(1).step_by(2).map(|name| name.replace('/', "::")).collect();
        let checked: BTreeSet<String> = rule.may_use.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(documented, checked, "row {head}");
    }
}

#[test]
fn bad_examples_are_rejected() {
    let long = "\n".repeat(MAX_LINES + 1);
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
        ("src/sink/mqtt/mod.rs", "use crate::sink::http::Access;", "`crate::sink::http::Access`"),
        ("src/sink/mqtt/publish_filter.rs", "use super::super::http;", "`crate::sink::http`"),
        ("src/sink/mqtt/publish_filter.rs", "use rumqttc::QoS;", "`rumqttc`"),
        ("src/sink/http/mod.rs", "use crate::transport::Link;", "`crate::transport::Link`"),
        ("src/sim/daren.rs", "tokio::spawn(x);", "`tokio`"),
        ("src/config/mod.rs", "use tokio::sync::mpsc;", "`tokio`"),
        ("src/board.rs", "fn f() { println!(\"x\") }", "stdout"),
        ("src/app.rs", "std::io::stdout().flush();", "stdout"),
        ("src/new_module.rs", "", "without a row"),
        ("src/model/a.rs", "#[cfg(not(test))] use crate::poll::Line;", "`crate::poll::Line`"),
        ("src/model/a.rs", "#[cfg(test)] mod t { } use crate::poll::Line;", "`crate::poll::Line`"),
        ("src/model/a.rs", "const Q: char = '\"'; use crate::poll::Line; // \"", "crate::poll"),
        ("src/sink/mqtt/mod.rs", "warn!(\"set MQTT_TLS\")", "must not name MQTT_TLS"),
        ("src/config/mod.rs", "warn(r#\"DEVICES is \"set\"\"#)", "must not name DEVICES"),
        ("src/poll/line.rs", "impl Drop for A { fn drop(&mut self) {} }", "`Drop`"),
        ("src/model/a.rs", &long, "lines"),
    ] {
        let found = violations(file, source);
        assert!(found.iter().any(|text| text.contains(expected)), "{source:?} gave {found:?}");
    }
}

#[test]
fn good_examples_are_accepted() {
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
        ("src/sink/mqtt/mod.rs", "setting(\"MQTT_TLS\"); f(\"MQTT_TLSX, MQTT: x\") // MQTT_TLS"),
    ] {
        assert_eq!(violations(file, source), Vec::<String>::new(), "{source:?}");
    }
}

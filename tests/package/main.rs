//! Checks the packaging files against the rules of the Home Assistant store, Docker and systemd,
//! without their tools.

#![allow(clippy::expect_used, clippy::panic)]

mod docker;
mod options;
mod store;
#[path = "../common/yaml.rs"]
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    yaml::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn manifest() -> Value {
    yaml("ha-addon/config.yaml")
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn all_files_have_the_same_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(manifest()["version"], version, "ha-addon/config.yaml");
    assert!(text("Dockerfile").contains(&format!("ARG VERSION={version}\n")), "Dockerfile");
    assert!(text("CHANGELOG.md").contains(&format!("\n## [{version}] - ")), "CHANGELOG.md");
}

/// A hint for tests that compare generated text.
const HINT: &str = "run UPDATE_DOCS=1 cargo test --test package";

/// Compares a file with what it should be, or writes it with `UPDATE_DOCS`.
fn assert_generated(file: &str, wanted: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(repository().join(file), wanted).expect("a writable file");
    }
    assert!(text(file) == wanted, "{file} differs: {HINT}");
}

/// The file with `content` between the mark of this name and the end mark.
fn with_generated(file: &str, name: &str, content: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: generated from the code -->\n"), "<!-- end -->");
    let text = text(file);
    let (before, rest) = text.split_once(&begin).expect("the mark");
    let (_, after) = rest.split_once(end).expect("the end mark");
    format!("{before}{begin}{content}{end}{after}")
}

#[test]
fn systemd_unit_is_sandboxed() {
    let unit = text("systemd/bms-reader.service");
    for line in [
        "DynamicUser=yes",
        "SupplementaryGroups=dialout",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "DevicePolicy=closed",
        "DeviceAllow=char-ttyUSB rw",
        "CapabilityBoundingSet=",
        "RestartPreventExitStatus=2",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}

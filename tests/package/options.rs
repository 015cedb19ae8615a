//! Options, translations and documents of the Home Assistant app.

use std::collections::BTreeSet;

use bms_reader::config::Rule;
use bms_reader::config::variables::VARIABLES;
use bms_reader::protocol::{DriverInfo, drivers};
use serde_json::Value;

use crate::{assert_generated, keys, manifest, text, with_generated, yaml};

/// Home Assistant shows the part between two versions, whose headings contain nothing else. What is
/// not released is no version.
#[test]
fn app_has_the_changelog_of_the_releases() {
    let changes = text("CHANGELOG.md");
    let (_, unreleased) = changes.split_once("\n## [Unreleased]\n").expect("a section");
    let (_, released) = unreleased.split_once("\n## [").expect("a release");
    let is_link = |line: &&str| line.starts_with('[') && line.contains("]: http");
    let line = |line: &str| match line.strip_prefix("## [").and_then(|it| it.split_once(']')) {
        Some((version, _)) => format!("## {version}\n"),
        None => format!("{line}\n"),
    };
    let released = format!("## [{released}");
    let body: String = released.lines().filter(|it| !is_link(it)).map(line).collect();
    assert_generated("ha-addon/CHANGELOG.md", &format!("# Changelog\n\n{}\n", body.trim_end()));
}

const LANGUAGES: [&str; 4] = ["en", "de", "cs", "fr"];

/// Options and their nested fields: `devices`, `devices.port`.
fn option_names(schema: &Value) -> BTreeSet<String> {
    let mut names = keys(schema);
    for key in keys(schema) {
        names.extend(keys(&schema[&key][0]).iter().map(|field| format!("{key}.{field}")));
    }
    names
}

#[test]
fn every_option_is_translated_into_every_language() {
    let options = option_names(&manifest()["schema"]);
    assert!(options.contains("devices.port") && options.contains("mqtt_host"), "{options:?}");
    for language in LANGUAGES {
        let file = yaml(&format!("ha-addon/translations/{language}.yaml"));
        let texts = &file["configuration"];
        assert_eq!(keys(&file["network"]), keys(&manifest()["ports"]), "{language}");
        let mut translated = keys(texts);
        for key in keys(texts) {
            let fields = &texts[&key]["fields"];
            translated.extend(keys(fields).iter().map(|field| format!("{key}.{field}")));
        }
        assert_eq!(translated, options, "{language}");
        for name in &options {
            let path = format!("/{}", name.replace('.', "/fields/"));
            for part in ["name", "description"] {
                let text = texts.pointer(&format!("{path}/{part}")).and_then(Value::as_str);
                assert!(text.is_some_and(|text| !text.is_empty()), "{language}: {part} of {name}");
            }
        }
    }
}

/// Variables that are no options: the app has one port for the dashboard, no folder for files, and
/// one option for the log level.
const NOT_OPTIONS: &[&str] = &[
    "BMS_OPTIONS_FILE",
    "HTTP_LISTEN",
    "HTTP_URL",
    "MQTT_CA_FILE",
    "MQTT_CLIENT_CERT_FILE",
    "MQTT_CLIENT_KEY_FILE",
    "NOTIFY_CA_FILE",
    "INFLUX_CA_FILE",
    "DEBUG_MODE",
    "RUST_LOG",
    // The folder of the app.
    "BMS_PROFILES",
    // Set by Home Assistant.
    "TZ",
    "SUPERVISOR_API",
    "SUPERVISOR_TOKEN",
];

#[test]
fn every_variable_is_an_option() {
    let schema = &manifest()["schema"];
    let names: BTreeSet<String> = VARIABLES
        .iter()
        .filter(|variable| !NOT_OPTIONS.contains(&variable.name))
        .map(|variable| variable.name.to_lowercase())
        .collect();
    assert_eq!(keys(schema), names);
    let fields = VARIABLES.iter().filter_map(|variable| variable.key()).collect();
    assert_eq!(keys(&schema["devices"][0]), fields, "fields of a battery");
}

/// What applies to a group of options is said once.
#[test]
fn translations_do_not_repeat_themselves() {
    for language in LANGUAGES {
        let texts = &yaml(&format!("ha-addon/translations/{language}.yaml"))["configuration"];
        let mut sentences: Vec<String> = Vec::new();
        for option in keys(texts) {
            let text = texts[&option]["description"].as_str().unwrap_or_default();
            sentences.extend(text.split(". ").map(|it| it.trim_end_matches('.').to_owned()));
        }
        for sentence in &sentences {
            let count = sentences.iter().filter(|it| *it == sentence).count();
            assert!(count <= 3, "{language}: {sentence:?} {count} times");
        }
    }
}

/// A text such as `3,65` would be accepted by the form and end the program.
#[test]
fn numbers_are_numbers_in_the_form() {
    let schema = &manifest()["schema"];
    let is_number = |kind: &Value| {
        let kind = kind.as_str().unwrap_or_default();
        ["int", "float", "port"].iter().any(|number| kind.starts_with(number))
    };
    let mut count = 0;
    for variable in VARIABLES.iter().filter(|it| matches!(it.rule, Rule::Number { .. })) {
        let option = variable.name.to_lowercase();
        let field = variable.key().and_then(|key| schema["devices"][0].get(key));
        for kind in schema.get(option).into_iter().chain(field) {
            count += 1;
            assert!(is_number(kind), "{}: {kind}", variable.name);
        }
    }
    assert!(count > 10);
}

/// The user's profiles add types, which a list would exclude.
#[test]
fn app_accepts_any_type_and_documents_its_own() {
    let schema = &manifest()["schema"];
    assert_eq!(schema["bms_type"], "match(^[A-Za-z0-9_-]+$)?");
    assert_eq!(schema["devices"][0]["type"], schema["bms_type"]);
    let each = drivers().iter().map(|info| format!("`{}` {}", info.name, info.title));
    let list = format!("{}.\n", each.collect::<Vec<_>>().join(", "));
    assert_generated("ha-addon/DOCS.md", &with_generated("ha-addon/DOCS.md", "types", &list));
}

#[test]
fn app_readme_names_every_brand() {
    let wired = |info: &&&DriverInfo| info.serial.is_some();
    let names =
        |list: Vec<&&DriverInfo>| list.iter().map(|info| info.title).collect::<Vec<_>>().join("; ");
    let (wire, ble): (Vec<_>, Vec<_>) = drivers().iter().partition(wired);
    let content = format!(
        "{} types. By wire, many of them also over Bluetooth: {}. Over Bluetooth: {}.\n",
        drivers().len(),
        names(wire),
        names(ble)
    );
    assert_generated(
        "ha-addon/README.md",
        &with_generated("ha-addon/README.md", "brands", &content),
    );
}

//! The rules of the Home Assistant store.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{keys, manifest, repository, text};

/// Manifest keys that the app may use. The store refuses unknown keys.
const KNOWN_KEYS: &[&str] = &[
    "apparmor",
    "arch",
    "backup",
    "boot",
    "breaking_versions",
    "description",
    "devices",
    "environment",
    "homeassistant",
    "host_dbus",
    "image",
    "ingress",
    "ingress_entry",
    "ingress_port",
    "init",
    "map",
    "name",
    "options",
    "panel_admin",
    "panel_icon",
    "panel_title",
    "ports",
    "ports_description",
    "schema",
    "services",
    "slug",
    "stage",
    "startup",
    "timeout",
    "tmpfs",
    "uart",
    "udev",
    "url",
    "version",
];

/// Obsolete keys, and keys that grant more rights than a reader needs.
const FORBIDDEN_KEYS: &[&str] = &[
    "advanced",
    "auth_api",
    "auto_uart",
    "codenotary",
    "docker_api",
    "full_access",
    "hassio_api",
    "homeassistant_api",
    "host_ipc",
    "host_network",
    "host_pid",
    "host_uts",
    "legacy",
    "privileged",
    "usb",
    "watchdog",
    "webui",
];

/// What the linter of the store would reject.
fn manifest_faults(manifest: &Value) -> Vec<String> {
    let defaults = json!({
        "apparmor": true, "backup": "hot", "boot": "auto", "devices": [], "environment": {},
        "host_dbus": false, "ingress": false, "ingress_entry": "/", "ingress_port": 8099,
        "init": true, "map": [], "panel_admin": true, "panel_icon": "mdi:puzzle", "ports": {},
        "services": [], "stage": "stable", "startup": "application", "timeout": 10, "tmpfs": false,
        "uart": false, "udev": false, "breaking_versions": [],
    });
    let mut faults = Vec::new();
    for key in keys(manifest) {
        if FORBIDDEN_KEYS.contains(&key.as_str()) {
            faults.push(format!("{key} is forbidden"));
        } else if !KNOWN_KEYS.contains(&key.as_str()) {
            faults.push(format!("{key} is unknown"));
        }
        if defaults.get(&key).is_some_and(|default| *default == manifest[&key]) {
            faults.push(format!("{key} is set to its default"));
        }
    }
    for key in ["name", "version", "slug", "description", "arch"] {
        if manifest.get(key).is_none() {
            faults.push(format!("{key} is missing"));
        }
    }
    if manifest["arch"] != json!(["aarch64", "amd64"]) {
        faults.push("arch is not exactly what the image has".to_owned());
    }
    let image = manifest["image"].as_str().unwrap_or_default();
    if image.rsplit('/').next().is_none_or(|name| name.is_empty() || name.contains(':')) {
        faults.push("image must have no tag: the version is the tag".to_owned());
    }
    faults.extend(schema_faults(&manifest["schema"], "schema"));
    faults.extend(option_faults(&manifest["options"], &manifest["schema"]));
    faults
}

/// Types of the Supervisor are names with optional arguments, and `?` for an optional value.
fn schema_faults(schema: &Value, path: &str) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let each =
                fields.iter().map(|(key, kind)| schema_faults(kind, &format!("{path}.{key}")));
            each.flatten().collect()
        }
        Value::Array(items) if items.len() == 1 && !items[0].is_array() => {
            schema_faults(&items[0], &format!("{path}[]"))
        }
        Value::String(kind) => {
            let kind = kind.strip_suffix('?').unwrap_or(kind);
            let (name, arguments) = kind.split_once('(').unwrap_or((kind, ")"));
            let has_arguments = kind.contains('(');
            let valid = match name {
                "bool" | "email" | "url" | "password" | "port" => !has_arguments,
                "str" | "device" => true,
                "int" | "float" => !has_arguments || bounds(kind).is_some(),
                "match" | "list" => has_arguments && arguments.len() > 1,
                _ => false,
            };
            let closed = arguments.ends_with(')');
            if valid && closed { Vec::new() } else { vec![format!("{path}: no type {kind}")] }
        }
        other => vec![format!("{path}: no type {other}")],
    }
}

/// The limits of `int(0,255)`.
fn bounds(kind: &str) -> Option<(f64, f64)> {
    let (low, high) = kind.split_once('(')?.1.strip_suffix(')')?.split_once(',')?;
    Some((low.parse().ok()?, high.parse().ok()?))
}

/// A default must fit its type, and an option that must be given needs a default.
fn option_faults(options: &Value, schema: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for key in keys(options) {
        let (value, kind) = (&options[&key], schema.get(&key));
        let fits = match kind {
            Some(Value::Array(_)) => value.is_array(),
            Some(Value::String(kind)) if kind.starts_with("list(") => {
                value.as_str().is_some_and(|value| {
                    kind[5..]
                        .trim_end_matches(['?', ')'])
                        .split('|')
                        .any(|allowed| allowed == value)
                })
            }
            Some(Value::String(kind)) if kind.starts_with("int") || kind.starts_with("float") => {
                let within =
                    |value| bounds(kind).is_none_or(|(low, high)| low <= value && value <= high);
                value.as_f64().is_some_and(within)
            }
            Some(Value::String(kind)) if kind.starts_with("bool") => value.is_boolean(),
            Some(_) => value.is_string(),
            None => false,
        };
        if !fits {
            faults.push(format!("the default of {key} does not fit its type"));
        }
    }
    for key in keys(schema) {
        let optional = schema[&key].as_str().is_some_and(|kind| kind.ends_with('?'));
        if !optional && options.get(&key).is_none() {
            faults.push(format!("{key} must be given but has no default"));
        }
    }
    faults
}

#[test]
fn manifest_follows_the_rules_of_the_store() {
    assert_eq!(manifest_faults(&manifest()), Vec::<String>::new());
}

#[test]
fn bad_manifests_are_rejected() {
    for (key, value, expected) in [
        ("boot", json!("auto"), "boot is set to its default"),
        ("host_network", json!(true), "host_network is forbidden"),
        ("colour", json!("red"), "colour is unknown"),
        ("arch", json!(["amd64", "armv7"]), "arch is not exactly"),
        ("image", json!("ghcr.io/a/b:latest"), "image must have no tag"),
        ("schema", json!({"a": "text?"}), "schema.a: no type text"),
        ("schema", json!({"a": [{"b": "int(1,x)?"}]}), "schema.a[].b: no type int(1,x)"),
        ("schema", json!({"a": "str"}), "a must be given"),
        ("options", json!({"read_interval": 0}), "the default of read_interval"),
        ("options", json!({"nothing": 1}), "the default of nothing"),
        ("options", json!({"log_level": "LOUD"}), "the default of log_level"),
    ] {
        let mut bad = manifest();
        bad[key] = value;
        let found = manifest_faults(&bad);
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn store_shows_the_app_where_its_form_works() {
    let manifest = manifest();
    assert_eq!(manifest.get("stage"), None, "stable is the default; others may be hidden");
    let version = manifest["homeassistant"].as_str().expect("a version");
    let numbers: Vec<u32> = version.split('.').filter_map(|it| it.parse().ok()).collect();
    assert!(numbers >= vec![2025, 10, 0], "older ones show lists as YAML");
    // Closed until the user chooses a port.
    assert_eq!(manifest["ports"], json!({"8099/tcp": null}));
}

/// The Supervisor treats any file with such a name in the repository as another app.
#[test]
fn repository_has_one_app_manifest() {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != ".git" && name != "target" && name != "dist" {
                walk(&path, found);
            } else if ["config.yaml", "config.yml", "config.json"].iter().any(|&bad| name == bad) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository(), &mut found);
    assert_eq!(found, [repository().join("ha-addon/config.yaml")]);
}

#[test]
fn icon_and_logo_have_the_required_sizes() {
    for (file, size) in [("ha-addon/icon.png", (128, 128)), ("ha-addon/logo.png", (250, 100))] {
        let bytes = fs::read(repository().join(file)).expect(file);
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{file}");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        assert_eq!((number(16), number(20)), size, "{file}");
    }
}

/// The Supervisor renames the profile whose line starts with `profile `.
#[test]
fn apparmor_file_has_one_profile() {
    let profile = text("ha-addon/apparmor.txt");
    let heads: Vec<&str> = profile.lines().filter(|line| line.starts_with("profile ")).collect();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert_eq!(profile.matches('{').count(), profile.matches('}').count());
}

//! What the program is shipped with, held against the rules of those who take it: the Home Assistant
//! store, Docker, systemd. Their tools are not needed to notice a slip.

#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bms_reader::config::variables::VARIABLES;
use serde_json::{Value, json};

/// Manifest keys that we use or may come to use. The store refuses any key that it does not know.
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

/// More rights than a reader needs, or obsolete.
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

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn manifest() -> Value {
    yaml("ha-addon/config.yaml")
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// What the store's linter says about a manifest.
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

/// Types of the Supervisor: a word, perhaps with arguments, perhaps optional.
fn schema_faults(schema: &Value, place: &str) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let each =
                fields.iter().map(|(key, kind)| schema_faults(kind, &format!("{place}.{key}")));
            each.flatten().collect()
        }
        Value::Array(items) if items.len() == 1 && !items[0].is_array() => {
            schema_faults(&items[0], &format!("{place}[]"))
        }
        Value::String(kind) => {
            let kind = kind.strip_suffix('?').unwrap_or(kind);
            let (word, arguments) = kind.split_once('(').unwrap_or((kind, ")"));
            let bare = !kind.contains('(');
            let sound = match word {
                "bool" | "email" | "url" | "password" | "port" => bare,
                "str" | "device" => true,
                "int" | "float" => bare || bounds(kind).is_some(),
                "match" | "list" => !bare && arguments.len() > 1,
                _ => false,
            };
            let closed = arguments.ends_with(')');
            if sound && closed { Vec::new() } else { vec![format!("{place}: no type {kind}")] }
        }
        other => vec![format!("{place}: no type {other}")],
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
                value.as_str().is_some_and(|word| {
                    kind[5..].trim_end_matches(['?', ')']).split('|').any(|w| w == word)
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
fn the_manifest_passes_the_store() {
    assert_eq!(manifest_faults(&manifest()), Vec::<String>::new());
}

#[test]
fn bad_manifests_are_caught() {
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
fn there_is_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(manifest()["version"], version, "ha-addon/config.yaml");
    assert!(text("Dockerfile").contains(&format!("ARG VERSION={version}\n")), "Dockerfile");
    assert!(text("CHANGELOG.md").contains(&format!("\n## [{version}] - ")), "CHANGELOG.md");
    let changes = text("ha-addon/CHANGELOG.md");
    assert!(changes.contains(&format!("\n## {version}\n")), "ha-addon/CHANGELOG.md");
}

/// Options with their nested fields, as `devices` and `devices.port`.
fn option_names(schema: &Value) -> BTreeSet<String> {
    let mut names = keys(schema);
    for key in keys(schema) {
        names.extend(keys(&schema[&key][0]).iter().map(|field| format!("{key}.{field}")));
    }
    names
}

#[test]
fn every_option_is_translated() {
    let options = option_names(&manifest()["schema"]);
    assert!(options.contains("devices.port") && options.contains("mqtt_host"), "{options:?}");
    for language in ["en", "de", "cs"] {
        let words = &yaml(&format!("ha-addon/translations/{language}.yaml"))["configuration"];
        let mut translated = keys(words);
        for key in keys(words) {
            let fields = &words[&key]["fields"];
            translated.extend(keys(fields).iter().map(|field| format!("{key}.{field}")));
        }
        assert_eq!(translated, options, "{language}");
        for name in &options {
            let path = format!("/{}", name.replace('.', "/fields/"));
            for part in ["name", "description"] {
                let said = words.pointer(&format!("{path}/{part}")).and_then(Value::as_str);
                assert!(said.is_some_and(|said| !said.is_empty()), "{language}: {part} of {name}");
            }
        }
    }
}

/// Variables that make no sense in the app: one port for the dashboard, no folder for files, and
/// the log level is an option already.
const NOT_OPTIONS: &[&str] = &[
    "BMS_OPTIONS_FILE",
    "HTTP_LISTEN",
    "MQTT_CA_FILE",
    "MQTT_CLIENT_CERT_FILE",
    "MQTT_CLIENT_KEY_FILE",
    "DEBUG_MODE",
    "RUST_LOG",
    // Home Assistant itself sets these.
    "SUPERVISOR_API",
    "SUPERVISOR_TOKEN",
];

#[test]
fn options_are_the_variables() {
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

/// The Supervisor takes any such file anywhere in the repository for another app.
#[test]
fn only_the_app_has_a_manifest() {
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
    walk(&root(), &mut found);
    assert_eq!(found, [root().join("ha-addon/config.yaml")]);
}

#[test]
fn pictures_have_the_sizes_of_the_store() {
    for (file, size) in [("ha-addon/icon.png", (128, 128)), ("ha-addon/logo.png", (250, 100))] {
        let bytes = fs::read(root().join(file)).expect(file);
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{file}");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        assert_eq!((number(16), number(20)), size, "{file}");
    }
}

/// The Supervisor puts its own name into the one profile that it finds at the start of a line.
#[test]
fn the_apparmor_file_has_one_profile() {
    let profile = text("ha-addon/apparmor.txt");
    let heads: Vec<&str> = profile.lines().filter(|line| line.starts_with("profile ")).collect();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert_eq!(profile.matches('{').count(), profile.matches('}').count());
}

#[test]
fn the_image_is_empty_but_for_the_program() {
    let file = text("Dockerfile");
    let lines: Vec<&str> = file.lines().collect();
    let stages: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].starts_with("FROM ")).collect();
    let last = *stages.last().expect("a stage");
    assert_eq!(lines[last], "FROM scratch");
    let shipped = &lines[last..];
    for bad in ["RUN ", "USER ", "ADD ", "SHELL "] {
        assert!(!shipped.iter().any(|line| line.starts_with(bad)), "{bad} in the last stage");
    }
    let has = |wanted: &str| shipped.iter().any(|line| line.contains(wanted));
    assert!(has("CMD [\"/bms-reader\", \"healthcheck\"]"), "a health check in exec form");
    assert!(has("ENTRYPOINT [\"/bms-reader\"]"), "an entry point in exec form");
    assert!(has("HTTP_LISTEN=0.0.0.0:8099"));
    assert!(has("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket"));
    for bad in ["# syntax=", "--link", "<<"] {
        assert!(
            !lines.iter().any(|line| line.starts_with(bad)
                || line.contains(&format!(" {bad}")) && !line.starts_with('#')),
            "{bad} keeps older builders out"
        );
    }
}

/// What a compose file asks for that no service of ours needs. An override holds changes only.
fn compose_faults(file: &Value, whole: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, service) in file["services"].as_object().into_iter().flatten() {
        let has = |key: &str, wanted: &str| {
            service[key].as_array().is_some_and(|list| list.contains(&json!(wanted)))
        };
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{name}: {what}"));
            }
        };
        for key in ["privileged", "pid", "ipc", "userns_mode"] {
            expect(service.get(key).is_none(), key);
        }
        expect(service["network_mode"] != "host", "network_mode");
        expect(service.get("cap_add").is_none() || name == "users", "cap_add");
        if whole {
            expect(service["read_only"] == true, "read_only");
            expect(has("cap_drop", "ALL"), "cap_drop");
            expect(has("security_opt", "no-new-privileges:true"), "security_opt");
            let user = service["user"].as_str().unwrap_or_default();
            expect(user.split(':').all(|id| id.parse::<u32>().is_ok()), "user is no number");
        }
        if whole && name == "bms-reader" {
            expect(service["user"] == "65534:65534", "user");
            let image = service["image"].as_str().and_then(|image| image.rsplit_once(':'));
            expect(image.map(|image| image.0) == manifest()["image"].as_str(), "image");
            expect(service.get("build").is_some(), "build");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().unwrap_or_default();
            let open = name == "mosquitto" || port.starts_with("127.0.0.1:");
            expect(open, "ports are open to the network");
        }
    }
    faults
}

#[test]
fn compose_files_ask_for_no_more_than_needed() {
    for (file, whole) in [
        ("docker-compose.yml", true),
        ("docker/compose.demo.yaml", true),
        ("docker/compose.ble.yaml", false),
        ("docker/compose.hotplug.yaml", false),
    ] {
        let compose = yaml(file);
        assert!(compose["services"]["bms-reader"].is_object(), "{file}");
        assert_eq!(compose_faults(&compose, whole), Vec::<String>::new(), "{file}");
    }
    let demo = yaml("docker/compose.demo.yaml");
    assert_eq!(demo["services"]["mosquitto"]["networks"], json!(["inner"]));
    assert_eq!(demo["networks"]["inner"]["internal"], true);
    assert!(demo["services"]["mosquitto"].get("ports").is_none(), "everybody may publish there");
}

#[test]
fn bad_compose_files_are_caught() {
    for (key, value, expected) in [
        ("privileged", json!(true), "bms-reader: privileged"),
        ("network_mode", json!("host"), "bms-reader: network_mode"),
        ("read_only", json!(false), "bms-reader: read_only"),
        ("cap_add", json!(["NET_ADMIN"]), "bms-reader: cap_add"),
        ("cap_drop", json!([]), "bms-reader: cap_drop"),
        ("security_opt", json!([]), "bms-reader: security_opt"),
        ("user", json!("nobody"), "bms-reader: user is no number"),
        ("image", json!("elsewhere:latest"), "bms-reader: image"),
        ("ports", json!(["8099:8099"]), "bms-reader: ports"),
    ] {
        let mut bad = yaml("docker-compose.yml");
        bad["services"]["bms-reader"][key] = value;
        let found = compose_faults(&bad, true);
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn the_broker_of_the_example_refuses_strangers() {
    let settings = text("docker/mosquitto.conf");
    assert!(settings.lines().any(|line| line == "allow_anonymous false"));
    assert!(settings.lines().any(|line| line.starts_with("password_file ")));
}

#[test]
fn the_unit_is_locked_down() {
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

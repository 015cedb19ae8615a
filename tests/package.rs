//! Checks the packaging files against the rules of the Home Assistant store, Docker and systemd,
//! without their tools.

#![allow(clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bms_reader::config::variables::VARIABLES;
use bms_reader::protocol::drivers;
use serde_json::{Value, json};

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

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
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
fn all_files_have_the_same_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(manifest()["version"], version, "ha-addon/config.yaml");
    assert!(text("Dockerfile").contains(&format!("ARG VERSION={version}\n")), "Dockerfile");
    assert!(text("CHANGELOG.md").contains(&format!("\n## [{version}] - ")), "CHANGELOG.md");
    let changes = text("ha-addon/CHANGELOG.md");
    assert!(changes.contains(&format!("\n## {version}\n")), "ha-addon/CHANGELOG.md");
}

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
    for language in ["en", "de", "cs"] {
        let texts = &yaml(&format!("ha-addon/translations/{language}.yaml"))["configuration"];
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
    "DEBUG_MODE",
    "RUST_LOG",
    // The folder of the app.
    "BMS_PROFILES",
    // Set by Home Assistant.
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

/// The user's profiles add types, which a list would exclude.
#[test]
fn app_accepts_any_type_and_documents_its_own() {
    let schema = &manifest()["schema"];
    assert_eq!(schema["bms_type"], "match(^[A-Za-z0-9_-]+$)?");
    assert_eq!(schema["devices"][0]["type"], schema["bms_type"]);
    let each = drivers().iter().map(|info| format!("`{}` {}", info.name, info.title));
    let list = format!("{}.\n", each.collect::<Vec<_>>().join(", "));
    let (begin, end) = ("<!-- types: generated from the code -->\n", "<!-- end -->");
    let docs = text("ha-addon/DOCS.md");
    let (before, rest) = docs.split_once(begin).expect("the mark");
    let (_, after) = rest.split_once(end).expect("the end mark");
    let current = format!("{before}{begin}{list}{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(repository().join("ha-addon/DOCS.md"), &current).expect("a writable file");
    }
    let hint = "run UPDATE_DOCS=1 cargo test --test package";
    assert!(text("ha-addon/DOCS.md") == current, "{hint}");
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

#[test]
fn image_contains_only_the_program() {
    let file = text("Dockerfile");
    let lines: Vec<&str> = file.lines().collect();
    let stages: Vec<usize> = (0..lines.len()).filter(|&i| lines[i].starts_with("FROM ")).collect();
    let last = *stages.last().expect("a stage");
    assert_eq!(lines[last], "FROM scratch");
    let final_stage = &lines[last..];
    for bad in ["RUN ", "USER ", "ADD ", "SHELL "] {
        assert!(!final_stage.iter().any(|line| line.starts_with(bad)), "{bad} in the last stage");
    }
    let has = |wanted: &str| final_stage.iter().any(|line| line.contains(wanted));
    assert!(has("CMD [\"/bms-reader\", \"healthcheck\"]"), "a health check in exec form");
    assert!(has("ENTRYPOINT [\"/bms-reader\"]"), "an entry point in exec form");
    assert!(has("HTTP_LISTEN=0.0.0.0:8099"));
    assert!(has("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket"));
    for bad in ["# syntax=", "--link", "<<"] {
        assert!(
            !lines.iter().any(|line| line.starts_with(bad)
                || line.contains(&format!(" {bad}")) && !line.starts_with('#')),
            "older builders do not support {bad}"
        );
    }
}

/// Rights that no service needs. An override (`is_complete` false) contains changes only.
fn compose_faults(file: &Value, is_complete: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, service) in file["services"].as_object().into_iter().flatten() {
        let has = |key: &str, wanted: &str| {
            service[key].as_array().is_some_and(|list| list.contains(&json!(wanted)))
        };
        let mut expect = |condition: bool, fault: &str| {
            if !condition {
                faults.push(format!("{name}: {fault}"));
            }
        };
        for key in ["privileged", "pid", "ipc", "userns_mode"] {
            expect(service.get(key).is_none(), key);
        }
        expect(service["network_mode"] != "host", "network_mode");
        expect(service.get("cap_add").is_none() || name == "users", "cap_add");
        if is_complete {
            expect(service["read_only"] == true, "read_only");
            expect(has("cap_drop", "ALL"), "cap_drop");
            expect(has("security_opt", "no-new-privileges:true"), "security_opt");
            let user = service["user"].as_str().unwrap_or_default();
            expect(user.split(':').all(|id| id.parse::<u32>().is_ok()), "user is no number");
        }
        if is_complete && name == "bms-reader" {
            expect(service["user"] == "65534:65534", "user");
            let image = service["image"].as_str().and_then(|image| image.rsplit_once(':'));
            expect(image.map(|image| image.0) == manifest()["image"].as_str(), "image");
            expect(service.get("build").is_some(), "build");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().unwrap_or_default();
            // The page of the reader changes nothing, and the variable closes it.
            let allowed = name == "mosquitto"
                || port.starts_with("127.0.0.1:")
                || port == "${DASHBOARD_PORT:-8099}:8099";
            expect(allowed, "ports are open to the network");
        }
    }
    faults
}

#[test]
fn compose_files_request_no_needless_rights() {
    for (file, is_complete) in [
        ("docker-compose.yml", true),
        ("docker/compose.demo.yaml", true),
        ("docker/compose.broker.yaml", false),
        ("docker/compose.ble.yaml", false),
        ("docker/compose.hotplug.yaml", false),
    ] {
        let compose = yaml(file);
        assert!(compose["services"]["bms-reader"].is_object(), "{file}");
        assert_eq!(compose_faults(&compose, is_complete), Vec::<String>::new(), "{file}");
    }
    let demo = yaml("docker/compose.demo.yaml");
    assert_eq!(demo["services"]["mosquitto"]["networks"], json!(["inner"]));
    assert_eq!(demo["networks"]["inner"]["internal"], true);
    assert!(
        demo["services"]["mosquitto"].get("ports").is_none(),
        "the broker accepts anonymous clients"
    );
}

/// Variables that only Compose reads.
const OF_COMPOSE: &[&str] = &["COMPOSE_FILE", "SERIAL_DEVICE", "SERIAL_GROUP", "DASHBOARD_PORT"];

/// `NAME=` at the beginning of a line, also where it is commented out.
fn assignments(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(|line| line.trim_start_matches('#'));
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| is_name(name)).collect()
}

#[test]
fn container_gets_every_variable_of_the_env_file() {
    let service = &yaml("docker-compose.yml")["services"]["bms-reader"];
    assert_eq!(service["env_file"], ".env");
    // What is set here wins over the file, so it must be a default.
    for (name, value) in service["environment"].as_object().expect("a map") {
        let default = format!("${{{name}-");
        assert!(value.as_str().is_some_and(|text| text.starts_with(&default)), "{name} is fixed");
    }
    let example = text(".env.example");
    let names: BTreeSet<&str> = assignments(&example).into_iter().map(|it| it.0).collect();
    assert!(names.contains("MQTT_HOST") && names.contains("BMS_PORT"), "{names:?}");
    for name in names {
        let known = OF_COMPOSE.contains(&name) || VARIABLES.iter().any(|it| it.name == name);
        assert!(known, "{name} in .env.example is no variable");
    }
}

#[test]
fn env_file_selects_existing_files_with_a_broker() {
    let example = text(".env.example");
    let (_, files) = assignments(&example)[0];
    assert_eq!(files, "docker-compose.yml:docker/compose.broker.yaml");
    for file in files.split(':') {
        assert!(repository().join(file).is_file(), "{file}");
    }
    for file in ["docker/compose.ble.yaml", "docker/compose.hotplug.yaml"] {
        assert!(example.contains(file), "{file} is not named");
    }
    let broker = &yaml("docker/compose.broker.yaml")["services"];
    assert_eq!(broker["bms-reader"]["environment"]["MQTT_HOST"], "mosquitto");
    assert!(broker["mosquitto"].is_object());
    assert_eq!(yaml("docker-compose.yml")["services"].as_object().map(|it| it.len()), Some(1));
}

/// The history is on a volume, and other machines reach the dashboard.
#[test]
fn documented_containers_keep_history_and_show_the_page() {
    let compose = yaml("docker-compose.yml");
    let service = &compose["services"]["bms-reader"];
    assert_eq!(service["environment"]["HISTORY_FILE"], "${HISTORY_FILE-/data/history.db}");
    assert_eq!(service["volumes"], json!(["reader-data:/data"]));
    assert!(compose["volumes"].get("reader-data").is_some());
    let mut commands = 0;
    for file in ["README.md", "docs/docker.md"] {
        let path = repository().join(file);
        let text = fs::read_to_string(path).unwrap_or_default().replace("\\\n", " ");
        for command in text.lines().filter(|line| line.starts_with("docker run -d ")) {
            commands += 1;
            for part in ["-p 8099:8099", ":/data", "HISTORY_FILE=/data/"] {
                assert!(command.contains(part), "{file}: no {part} in {command}");
            }
        }
    }
    assert!(commands > 0);
}

#[test]
fn bad_compose_files_are_rejected() {
    for (key, value, expected) in [
        ("privileged", json!(true), "bms-reader: privileged"),
        ("network_mode", json!("host"), "bms-reader: network_mode"),
        ("read_only", json!(false), "bms-reader: read_only"),
        ("cap_add", json!(["NET_ADMIN"]), "bms-reader: cap_add"),
        ("cap_drop", json!([]), "bms-reader: cap_drop"),
        ("security_opt", json!([]), "bms-reader: security_opt"),
        ("user", json!("nobody"), "bms-reader: user is no number"),
        ("image", json!("elsewhere:latest"), "bms-reader: image"),
        ("ports", json!(["1883:1883"]), "bms-reader: ports"),
    ] {
        let mut bad = yaml("docker-compose.yml");
        bad["services"]["bms-reader"][key] = value;
        let found = compose_faults(&bad, true);
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn example_broker_refuses_anonymous_clients() {
    let settings = text("docker/mosquitto.conf");
    assert!(settings.lines().any(|line| line == "allow_anonymous false"));
    assert!(settings.lines().any(|line| line.starts_with("password_file ")));
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

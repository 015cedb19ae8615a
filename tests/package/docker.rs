//! The image, the compose files and the documented commands.

use std::collections::BTreeSet;
use std::fs;

use bms_reader::config::load;
use bms_reader::config::variables::VARIABLES;
use serde_json::{Value, json};

use crate::{manifest, repository, text, yaml};

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

/// The container gets them, too.
#[test]
fn variables_of_compose_cause_no_warning() {
    let value = |name: &&str| ((*name).to_owned(), "1".to_owned());
    let config = load(OF_COMPOSE.iter().map(value).collect()).expect("a configuration");
    for name in OF_COMPOSE {
        let warned = config.warnings.iter().any(|warning| warning.contains(name));
        assert!(!warned, "{name}: {:?}", config.warnings);
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
    let docs = fs::read_dir(repository().join("docs")).expect("a folder").flatten();
    let pages =
        docs.map(|entry| entry.path()).filter(|path| path.extension() == Some("md".as_ref()));
    let mut commands = 0;
    for page in pages.chain([repository().join("README.md")]) {
        let text = fs::read_to_string(&page).expect("a page").replace("\\\n", " ");
        for command in text.lines().filter(|line| line.starts_with("docker run -d ")) {
            commands += 1;
            for part in ["-p 8099:8099", ":/data", "HISTORY_FILE=/data/"] {
                assert!(command.contains(part), "{}: no {part} in {command}", page.display());
            }
        }
    }
    assert!(commands > 2);
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

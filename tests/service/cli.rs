//! The subcommands, as a person or a script uses them.

use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

use crate::fixture::{Packs, Service, objects, program, run};
use crate::mosquitto::Mosquitto;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_configuration_error_has_a_message_without_secrets() {
    let output = run(
        &[],
        &[
            ("BMS_PORT", "ttyUSB0"),
            ("BMS_SLAVE_ID", "300"),
            ("READ_INTERVAL", "soon"),
            ("MQTT_HOST", "mqtt://broker"),
            ("MQTT_USER", "me"),
            ("MQTT_PASSWORD", "hunter2"),
            ("MQTT_PASWORD", "hunter3"),
            ("MQTT_KEEP_ALIVE", "0"),
        ],
        "",
    );
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let (warnings, errors): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.contains(" warning: "));
    assert_eq!((warnings.len(), errors.len()), (1, 5), "{text}");
    assert!(warnings[0].contains("did you mean MQTT_PASSWORD?"), "{text}");
    for name in ["BMS_PORT", "BMS_SLAVE_ID", "READ_INTERVAL", "MQTT_HOST", "MQTT_KEEP_ALIVE"] {
        assert!(text.lines().any(|line| line.contains(name)), "{name} in:\n{text}");
    }
    assert!(!text.contains("hunter"), "{text}");
}

#[test]
fn invalid_log_filter_is_a_configuration_error() {
    let output = run(&["read"], &[("RUST_LOG", "a=b=c")], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("RUST_LOG"), "{}", stderr(&output));
}

#[test]
fn read_prints_one_object_per_battery() {
    let packs = Packs::on_terminal(&[1, 2]);
    let devices = serde_json::json!([
        {"id": "good", "type": "daren", "port": packs.port, "slave_id": 2},
        {"id": "mute", "type": "daren", "port": packs.port, "slave_id": 9, "timeout": 0.2},
        {"id": "gone", "type": "daren", "port": "/dev/does-not-exist"},
        {"id": "file", "type": "daren", "port": "/etc/hostname"},
        {"id": "shut", "type": "daren", "port": "tcp://127.0.0.1:1"},
    ])
    .to_string();
    let output = run(&["read"], &[("DEVICES", &devices)], "");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let objects = objects(&output);
    let kinds: Vec<_> = objects
        .iter()
        .map(|state| {
            (state["id"].as_str().unwrap(), state["error"]["type"].as_str().unwrap_or("none"))
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("good", "none"),
            ("mute", "timeout"),
            ("gone", "port_not_found"),
            ("file", "connect_failed"),
            ("shut", "connect_failed"),
        ]
    );
    let voltage = bms_reader::model::Value::from(packs.state(2).voltage).to_json();
    assert_eq!(objects[0]["status"]["cell_info"]["total_voltage"], voltage);
    assert_eq!(objects[0]["got"]["device_info"], true);

    let output = run(&["read", "--device", "good"], &[("DEVICES", &devices)], "");
    assert_eq!((output.status.code(), crate::fixture::objects(&output).len()), (Some(0), 1));
    let output = run(&["read", "--device", "other"], &[("DEVICES", &devices)], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("good, mute"), "{}", stderr(&output));
}

#[test]
fn port_in_use_is_reported_as_busy() {
    let packs = Packs::on_terminal(&[1]);
    let holder = Service::start(&[("BMS_PORT", &packs.port), ("READ_INTERVAL", "1")]);
    holder.wait_state("bms", "a good read", |state| state["connected"] == true);
    let output = run(&["read"], &[("BMS_PORT", &packs.port)], "");
    assert_eq!(objects(&output)[0]["error"]["type"], "port_busy");
}

#[test]
fn check_reports_a_wrong_password() {
    let packs = Packs::on_terminal(&[1]);
    let broker = Mosquitto::with_login("me", "secret");
    let port = broker.port().to_string();
    let variables = |password| {
        [
            ("BMS_PORT", packs.port.as_str()),
            ("MQTT_HOST", "127.0.0.1"),
            ("MQTT_PORT", port.as_str()),
            ("MQTT_USER", "me"),
            ("MQTT_PASSWORD", password),
        ]
    };
    let output = run(&["check"], &variables("secret"), "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let output = run(&["check"], &variables("wrong"), "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("OK    bms at") && text.contains("MQTT_PASSWORD"), "{text}");
    assert!(!text.contains("wrong\n") && !text.contains("secret"), "{text}");
}

fn vectors(brand: &str) -> Vec<Json> {
    let path = format!("{}/tests/vectors/{brand}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn to_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

fn decode(vector: &Json, with_request: bool) -> Output {
    let hex = |key: &str| to_hex(vector[key].as_str().unwrap());
    let mut input = format!("{}\n", hex("response_text"));
    if with_request {
        input.insert_str(0, &format!("> {}\n", hex("request_text")));
    }
    run(&["decode", "--type", "daren"], &[], &input)
}

#[test]
fn decode_accepts_good_vectors_and_rejects_bad_ones() {
    let mut good = 0;
    let mut bad = 0;
    // One status bit after the other need not be decoded by a process of its own.
    let constructed = "constructed from the documented bits";
    for vector in vectors("daren").iter().filter(|vector| vector["origin"] != constructed) {
        let (id, kind) = (vector["id"].as_str().unwrap(), vector["kind"].as_str().unwrap());
        if vector["response_text"].is_null() {
            continue;
        }
        let is_live = vector["request_text"].as_str().is_some_and(|text| text.contains("4A42"));
        // Without its request a frame may have any address.
        let output = decode(vector, !is_live || kind == "bad");
        let (object, expected) = (&objects(&output)[0], &vector["expected"]);
        match kind {
            "response" if is_live => {
                assert_eq!(output.status.code(), Some(0), "{id}: {object}");
                let soc = |json: &Json| json["status"]["cell_info"]["battery_soc"].clone();
                assert_eq!(soc(object), soc(expected), "{id}");
                good += 1;
            }
            "bad" => {
                assert_eq!(output.status.code(), Some(1), "{id}: {object}");
                assert_eq!(object["error"]["type"], expected["error"]["type"], "{id}: {object}");
                assert!(object["status"].is_null(), "{id}: {object}");
                bad += 1;
            }
            _ => {}
        }
    }
    assert!(good >= 10 && bad >= 20, "{good} good, {bad} bad");
}

#[test]
fn full_disk_behind_stdout_is_a_failure() {
    for arguments in
        [&["--version"][..], &["read"], &["decode", "--type", "daren"], &["profile", "show", "ant"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = program(&[("BMS_TYPE", "simulated")]);
        let output = command.args(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("cannot write to stdout"), "{}", stderr(&output));
    }
}

#[test]
fn decode_reads_console_text() {
    let text = |brand: &str, id: &str| -> String {
        let vector = vectors(brand).into_iter().find(|vector| vector["id"] == id).unwrap();
        vector["response_text"].as_str().unwrap().to_owned()
    };
    let decode = |brand: &str, text: &str| {
        let output = run(&["decode", "--type", brand], &[], text);
        (output.status.code(), objects(&output).remove(0))
    };
    let stack = "pylontech-sc0500";
    let getpwr = text(stack, "sc0500-getpwr-5-modules");
    let (code, object) = decode(stack, &format!("{getpwr}\n{}", text(stack, "sc0500-info-5")));
    assert_eq!(code, Some(0), "{object}");
    assert_eq!(object["status"]["cell_info"]["total_voltage"], 250.993);
    assert_eq!(object["status"]["cell_info"]["modules"][4]["serial_number"], "HPTST00000001004");
    let (code, object) = decode(stack, &text(stack, "cmu-pwr-8-modules"));
    assert_eq!((code, &object["status"]["cell_info"]["battery_soc"]), (Some(0), &Json::from(84.0)));
    let (code, object) = decode("pylontech-console", &text("pylontech-console", "us2000c-pwr"));
    assert_eq!(code, Some(0), "{object}");
    assert_eq!(object["status"]["cell_info"]["total_voltage"], 49.726);
    let (code, object) = decode(stack, &text(stack, "sc0500-missing-cell"));
    assert_eq!((code, &object["error"]["type"]), (Some(1), &Json::from("bad_frame")));
    assert_eq!(object["status"], Json::Null);
}

#[test]
fn decode_reads_an_identity_frame_after_its_request() {
    let vectors = vectors("daren");
    let vector = vectors.iter().find(|vector| vector["id"] == "daren-resp-51-T1").unwrap();
    let output = decode(vector, true);
    assert_eq!(output.status.code(), Some(0));
    let object = &objects(&output)[0];
    assert_eq!(object["got"]["device_info"], true);
    assert_eq!(object["got"]["cell_info"], false);
    assert!(object["status"]["device_info"]["sw_rev"].is_string(), "{object}");
}

/// A cut reply after the damaged one does not hide its error.
#[test]
fn refused_reading_is_a_failure_that_keeps_the_identity() {
    for (brand, reading, identity) in [
        ("daren", "daren-resp-42-16s-idle", "daren-resp-51-T1"),
        ("pace", "pace25-42-16s", "pace25-51-C1-hw"),
        ("seplos", "seplos2-42-16s", "seplos2-51"),
        ("jbd", "jbd_4s_basic_sp04s034", "jbd_4s_name_sp04s034"),
    ] {
        let vectors = vectors(brand);
        let exchange = |id: &str, change: fn(&mut String)| {
            let vector = vectors.iter().find(|vector| vector["id"] == id).unwrap();
            let hex = |key: &str| match vector[format!("{key}_hex")].as_str() {
                Some(hex) => hex.to_owned(),
                None => to_hex(vector[format!("{key}_text")].as_str().unwrap_or_default()),
            };
            let mut reply = hex("response");
            change(&mut reply);
            format!("> {}\n{reply}\n", hex("request")).replace("> \n", "")
        };
        let damaged = exchange(reading, |hex| {
            let at = (hex.len() / 2) | 1;
            let digit = u8::from_str_radix(&hex[at..=at], 16).unwrap() ^ 1;
            hex.replace_range(at..=at, &format!("{digit:X}"));
        });
        let cut = exchange(reading, |hex| hex.truncate(20));
        let identity = exchange(identity, |_| {});
        for input in [format!("{damaged}{identity}"), format!("{identity}{damaged}{cut}")] {
            let output = run(&["decode", "--type", brand], &[], &input);
            let object = &objects(&output)[0];
            assert_eq!(output.status.code(), Some(1), "{brand}: {object}");
            assert_eq!(object["error"]["type"], "bad_checksum", "{brand}: {object}");
            let known = object["status"]["device_info"].as_object().unwrap();
            assert!(known.contains_key("model") || known.contains_key("hw_rev"), "{object}");
        }
    }
}

#[test]
fn decode_rejects_text_that_is_not_hex() {
    let output = run(&["decode", "--type", "daren"], &[], "this is not hex\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(objects(&output)[0]["error"]["type"], "bad_frame");
    assert_eq!(run(&["decode", "--type", "x"], &[], "").status.code(), Some(2));
}

#[test]
fn healthcheck_fails_without_the_service() {
    let packs = Packs::on_terminal(&[1]);
    let service = Service::start(&[("BMS_PORT", &packs.port)]);
    service.wait_state("bms", "a state", |_| true);
    let (status, body) = service.get("/healthz").unwrap();
    assert_eq!((status, &body["ok"]), (200, &Json::Bool(true)));
    let listen = service.listen();
    let output = run(&["healthcheck"], &[("HTTP_LISTEN", &listen)], "");
    assert_eq!(output.status.code(), Some(0));
    drop(service);
    let output = run(&["healthcheck"], &[("HTTP_LISTEN", &listen)], "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn occupied_http_port_is_only_a_warning() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = occupied.local_addr().unwrap().to_string();
    let packs = Packs::on_terminal(&[1]);
    let mut service = Service::start_with(&[("BMS_PORT", &packs.port)], &listen);
    service.wait_for_log("HTTP_LISTEN");
    service.wait_for_log("answers");
    assert!(service.is_running());
}

#[test]
fn unconfigured_service_keeps_running_and_lists_settings() {
    let mut service = Service::start(&[]);
    service.wait_for_log("no battery is configured");
    service.wait_for_log("MQTT_HOST");
    assert!(service.is_running());
    service.signal("-INT");
    let status = service.wait_for_exit();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn help_lists_the_commands() {
    for arguments in [&["--help"][..], &["--version"], &["read", "--help"]] {
        assert_eq!(run(arguments, &[], "").status.code(), Some(0), "{arguments:?}");
    }
    let help = String::from_utf8_lossy(&run(&["--help"], &[], "").stdout).into_owned();
    for command in ["read", "check", "scan", "decode", "simulate", "demo", "healthcheck"] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command}:\n{help}"
        );
    }
    assert_eq!(run(&["nonsense"], &[], "").status.code(), Some(2));
    assert_eq!(run(&["scan", "--json"], &[], "").status.code(), Some(0));
}

/// As in `bms-reader diagnose | head -1`.
#[test]
fn closed_stdout_is_not_an_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bms-reader"))
        .arg("diagnose")
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"), "{output:?}");
}

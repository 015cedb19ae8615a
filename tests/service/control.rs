//! Commands to the battery from the page: its switches, its settings, and reading it now.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Packs, Service};
use crate::http::{Answer, request};

struct Page {
    packs: Packs,
    service: Service,
}

impl Page {
    fn start(variables: &[(&str, &str)]) -> Self {
        let packs = Packs::with_switches();
        let mut all = vec![("BMS_TYPE", "jbd"), ("BMS_PORT", &packs.port)];
        all.extend([("DEVICE_ID", "house"), ("READ_INTERVAL", "1")]);
        let service = Service::start(&[&all, variables].concat());
        service.wait_for_log("house: answers");
        Page { packs, service }
    }

    fn post(&self, headers: &[&str], body: &Value) -> Answer {
        self.send("switch", headers, body)
    }

    fn send(&self, command: &str, headers: &[&str], body: &Value) -> Answer {
        let path = format!("/api/devices/house/{command}");
        request(&self.service.listen(), "POST", &path, headers, body).expect("an answer")
    }

    /// Sends it when the pause after the last command is over.
    fn command(&self, command: &str, body: &Value) -> Answer {
        sleep(Duration::from_millis(1100));
        self.send(command, &[], body)
    }

    /// Waits until the overview has this setting.
    #[track_caller]
    fn wait_for_setting(&self, key: &str, expected: &Value) -> Value {
        let is_wanted = |state: &Value| state["batteries"][0]["settings"][key] == *expected;
        self.service.wait_json("/api/overview", key, is_wanted)
    }

    /// Waits until the battery reports this.
    #[track_caller]
    fn wait_for(&self, key: &str, on: bool) -> Value {
        let is_shown = |state: &Value| {
            let values = state["batteries"][0]["values"].as_array();
            let is_wanted = |value: &Value| value["key"] == key && value["value"] == on;
            values.is_some_and(|values| values.iter().any(is_wanted))
        };
        self.service.wait_json("/api/overview", key, is_shown)
    }

    fn error(answer: &Answer) -> &str {
        answer.json["error"].as_str().unwrap_or_default()
    }
}

fn charging(on: bool) -> Value {
    json!({"name": "charging", "on": on})
}

#[test]
fn switch_is_confirmed_by_reading_it_back() {
    let page = Page::start(&[("ALLOW_CONTROL", "true")]);
    let overview = page.wait_for("charging_enabled", true);
    assert_eq!(overview["batteries"][0]["controls"], json!(["charging", "discharging"]));
    let answer = page.post(&[], &charging(false));
    assert_eq!((answer.status, answer.json), (200, json!({"ok": true, "charging": "OFF"})));
    page.wait_for("charging_enabled", false);
    page.service.wait_for_log("house: charging off on request, confirmed by the battery");
    let answer = page.post(&[], &charging(true));
    assert_eq!((answer.status, Page::error(&answer).contains("in a second")), (429, true));
    for (body, status) in
        [(json!({"name": "fan", "on": true}), 400), (json!({"name": "charging"}), 400)]
    {
        assert_eq!(page.post(&[], &body).status, status, "{body}");
    }
}

#[test]
fn switch_that_does_not_change_is_an_error_with_a_hint() {
    let page = Page::start(&[("ALLOW_CONTROL", "true")]);
    page.packs.set_faults("stuck");
    let answer = page.post(&[], &charging(false));
    let error = Page::error(&answer);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(error.starts_with("house: charging off is not confirmed: "), "{error}");
    assert!(error.contains("did not change the switch; "), "{error}");
    page.wait_for("charging_enabled", true);
}

#[test]
fn switch_is_refused_without_permission() {
    let page = Page::start(&[]);
    let overview = page.wait_for("charging_enabled", true);
    assert_eq!(overview["batteries"][0]["controls"], json!([]));
    let answer = page.post(&[], &charging(false));
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(Page::error(&answer).contains("ALLOW_CONTROL"), "{answer:?}");
}

/// Another site, a client without the password or behind a proxy, and what is no JSON.
#[test]
fn switch_is_refused_for_others() {
    let page = Page::start(&[("ALLOW_CONTROL", "true")]);
    for (header, status) in [
        ("Origin: http://evil.example", 403),
        ("Sec-Fetch-Site: cross-site", 403),
        ("X-Forwarded-For: 203.0.113.9", 403),
    ] {
        assert_eq!(page.post(&[header], &charging(false)).status, status, "{header}");
    }
    let locked = Page::start(&[("ALLOW_CONTROL", "true"), ("HTTP_TOKEN", "correct-horse")]);
    assert_eq!(locked.post(&[], &charging(false)).status, 401);
    let password = "Authorization: Bearer correct-horse";
    assert_eq!(locked.post(&[password], &charging(false)).status, 200);
    page.wait_for("charging_enabled", true);
    assert_eq!(page.service.logged("charging off"), 0, "{}", page.service.log());
}

#[test]
fn settings_are_in_force_at_once_and_read_back() {
    // Switches stay off: none of these changes the battery.
    let page = Page::start(&[("BMS_TIMEOUT", "3")]);
    let settings =
        page.wait_for_setting("paused", &json!(false))["batteries"][0]["settings"].clone();
    assert_eq!(settings, json!({"paused": false, "poll_interval_s": 1.0, "timeout_s": 3.0}));
    let change = json!({"poll_interval_s": 2.5, "timeout_s": 1});
    let answer = page.command("config", &change);
    let accepted = json!({"ok": true, "poll_interval_s": 2.5, "timeout_s": 1.0});
    assert_eq!((answer.status, answer.json), (200, accepted));
    page.wait_for_setting("poll_interval_s", &json!(2.5));
    page.wait_for_setting("timeout_s", &json!(1.0));
    let answer = page.command("config", &json!({"paused": true}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let paused = page.wait_for_setting("paused", &json!(true));
    assert_eq!(paused["batteries"][0]["link"], "offline");
    let answer = page.command("read", &json!({}));
    assert_eq!((answer.status, Page::error(&answer)), (409, "house: the battery is paused"));
    let answer = page.command("config", &json!({"paused": false}));
    assert_eq!(answer.status, 200, "{answer:?}");
    page.wait_for("charging_enabled", true);
}

#[test]
fn read_now_does_not_wait_for_the_interval() {
    let page = Page::start(&[("READ_INTERVAL", "3600")]);
    let reads = |state: &Value| state["batteries"][0]["reads"].as_u64().unwrap_or_default();
    let before = page.service.wait_json("/api/overview", "a read", |state| reads(state) > 0);
    let answer = page.command("read", &json!({}));
    assert_eq!((answer.status, answer.json), (200, json!({"ok": true})));
    page.service.wait_json("/api/overview", "a read", |state| reads(state) > reads(&before));
}

#[test]
fn energy_counter_is_set() {
    let page = Page::start(&[]);
    page.wait_for("charging_enabled", true);
    let answer = page.command("config", &json!({"energy_charged_kwh": 1234.5}));
    assert_eq!(answer.json, json!({"ok": true, "energy_charged_kwh": 1234.5}));
    let is_set = |state: &Value| {
        let values = state["batteries"][0]["values"].as_array();
        values.is_some_and(|values| {
            let is_it = |value: &&Value| value["key"] == "energy_charged";
            values.iter().find(is_it).is_some_and(|it| it["value"].as_f64() >= Some(1234.5))
        })
    };
    page.service.wait_json("/api/overview", "energy_charged", is_set);
    let both = json!({"energy_charged_kwh": 1, "poll_interval_s": 5});
    let answer = page.command("config", &both);
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(Page::error(&answer).contains("separate messages"), "{answer:?}");
}

#[test]
fn settings_are_refused_if_invalid_locked_or_from_others() {
    let page = Page::start(&[]);
    for (change, word) in [
        (json!({"poll_interval_s": 0.1}), "0.5 to 3600"),
        (json!({"interval": 5}), "poll_interval_s"),
        (json!([]), "JSON object"),
    ] {
        let answer = page.send("config", &[], &change);
        assert_eq!(answer.status, 400, "{change}: {answer:?}");
        assert!(Page::error(&answer).contains(word), "{answer:?}");
    }
    let answer = page.send("config", &[], &json!({"address": "C8:47:80:37:02:E8"}));
    assert_eq!(answer.status, 409, "{answer:?}");
    for command in ["config", "read"] {
        let answer = page.send(command, &["X-Forwarded-For: 203.0.113.9"], &json!({}));
        assert_eq!(answer.status, 403, "{command}");
    }
    let locked = Page::start(&[("ALLOW_CONFIG", "false")]);
    let answer = locked.send("config", &[], &json!({"poll_interval_s": 5}));
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(Page::error(&answer).contains("ALLOW_CONFIG"), "{answer:?}");
    assert_eq!(locked.send("read", &[], &json!({})).status, 200);
}

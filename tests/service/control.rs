//! Switches of the battery on the page.

use serde_json::{Value, json};

use crate::fixture::{Packs, Service};
use crate::http::{Answer, request};

const PATH: &str = "/api/devices/house/switch";

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
        request(&self.service.listen(), "POST", PATH, headers, body).expect("an answer")
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

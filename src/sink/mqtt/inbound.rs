//! What other people's messages mean. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::command::ConfigChange;
use crate::did_you_mean::closest;
use crate::model::energy::Energy;
use crate::model::profile::{INTERVAL_MS, SCAN_TIMEOUT_MS, TIMEOUT_MS, address_bytes};
use crate::model::reading::{Setting, Switch};

use super::discovery::ORIGIN;
use super::topics::Topics;

/// A `cmd/config` of this size is no mistake in typing.
const LARGEST_CONFIG: usize = 4096;

/// A message that concerns us. Batteries are counted as in the list given to [`Router::new`].
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Read this battery at once.
    Read(usize),
    /// Ask this battery differently; or why we do not understand how.
    Configure(usize, Result<ConfigChange, String>),
    /// Turn a switch of this battery; or why we do not understand how.
    Switch(usize, Switch, Result<bool, String>),
    /// Home Assistant has started.
    Birth,
    /// Our own message came back.
    Echo,
    /// The broker keeps one of our announcements of an entity: component and key.
    KeptEntity(usize, String, String),
    /// The broker keeps our announcement of a device, or of one module of it, with these
    /// components.
    KeptDevice(usize, Option<usize>, Map<String, Value>),
    /// The broker keeps an energy counter of ours.
    KeptTotal(usize, Flow, Energy),
    /// The broker keeps our list of active alarms.
    KeptAlarms(usize, Vec<Map<String, Value>>),
    /// A command that the broker keeps. It would be carried out at every connection, so it is not
    /// carried out at all.
    KeptCommand(String),
}

/// Which of the two energy counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Into the battery.
    In,
    /// Out of it.
    Out,
}

enum Route {
    Read(usize),
    Configure(usize),
    Switch(usize, Switch),
    Device(usize),
    Total(usize, Flow),
    Alarms(usize),
    Birth,
    Echo,
}

impl Route {
    /// We ourselves publish there.
    fn is_ours(&self) -> bool {
        matches!(self, Route::Device(_) | Route::Total(..) | Route::Alarms(_))
    }
}

/// Knows which topic means what.
pub struct Router {
    routes: BTreeMap<String, Route>,
    batteries: Vec<Topics>,
}

impl Router {
    /// For these batteries, at this broker.
    pub fn new(batteries: Vec<Topics>, birth: String, echo: String) -> Self {
        let mut routes = BTreeMap::from([(birth, Route::Birth), (echo, Route::Echo)]);
        for (index, topics) in batteries.iter().enumerate() {
            routes.insert(topics.read_command(), Route::Read(index));
            routes.insert(topics.config_command(), Route::Configure(index));
            for switch in Switch::ALL {
                routes.insert(topics.switch_command(switch), Route::Switch(index, switch));
            }
            routes.insert(topics.device(None), Route::Device(index));
            let [charged, discharged] = topics.totals();
            routes.insert(charged, Route::Total(index, Flow::In));
            routes.insert(discharged, Route::Total(index, Flow::Out));
            routes.insert(topics.alarms(), Route::Alarms(index));
        }
        Router { routes, batteries }
    }

    /// The meaning of a message; `None` when it has none for us.
    pub fn understand(&self, topic: &str, payload: &[u8], retained: bool) -> Option<Input> {
        match self.routes.get(topic) {
            Some(Route::Read(_) | Route::Configure(_) | Route::Switch(..)) if retained => {
                (!payload.is_empty()).then(|| Input::KeptCommand(topic.to_owned()))
            }
            Some(Route::Read(index)) => Some(Input::Read(*index)),
            Some(Route::Configure(index)) => Some(Input::Configure(*index, change(payload))),
            Some(Route::Switch(index, switch)) => {
                Some(Input::Switch(*index, *switch, on_or_off(payload)))
            }
            Some(Route::Birth) => (payload == b"online").then_some(Input::Birth),
            Some(Route::Echo) => Some(Input::Echo),
            Some(Route::Device(index)) => {
                let announcement = ours(payload).filter(|_| retained)?;
                Some(Input::KeptDevice(*index, None, components(announcement)))
            }
            Some(Route::Total(index, flow)) => {
                let text = std::str::from_utf8(payload).ok().filter(|_| retained)?;
                Some(Input::KeptTotal(*index, *flow, Energy::from_kwh(text)?))
            }
            Some(Route::Alarms(index)) if retained => {
                Some(Input::KeptAlarms(*index, serde_json::from_slice(payload).ok()?))
            }
            Some(Route::Alarms(_)) => None,
            None => {
                let mut batteries = self.batteries.iter().enumerate();
                let (index, (component, key)) =
                    batteries.find_map(|(i, topics)| Some((i, topics.parse_entity(topic)?)))?;
                let announcement = ours(payload).filter(|_| retained)?;
                if let Some(module) = Topics::module(component, key) {
                    return Some(Input::KeptDevice(index, Some(module), components(announcement)));
                }
                Some(Input::KeptEntity(index, component.to_owned(), key.to_owned()))
            }
        }
    }

    /// Every filter to subscribe to for good.
    pub fn filters(&self) -> Vec<String> {
        self.topics_where(|route| !route.is_ours())
    }

    /// Filters for what the broker keeps of us, which is asked for once after connecting.
    pub fn kept(&self) -> Vec<String> {
        let announcements = self.batteries.iter().flat_map(Topics::announcements);
        let ours = self.topics_where(|route| route.is_ours() && !matches!(route, Route::Device(_)));
        announcements.chain(ours).collect()
    }

    fn topics_where(&self, fits: impl Fn(&Route) -> bool) -> Vec<String> {
        let routes = self.routes.iter().filter(|(_, route)| fits(route));
        routes.map(|(topic, _)| topic.clone()).collect()
    }
}

fn components(mut announcement: Map<String, Value>) -> Map<String, Value> {
    match announcement.remove("components") {
        Some(Value::Object(components)) => components,
        _ => Map::new(),
    }
}

/// The announcement, when it is one of ours.
fn ours(payload: &[u8]) -> Option<Map<String, Value>> {
    let announcement: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let origin = announcement.get("origin").or_else(|| announcement.get("o"))?;
    (origin.get("name")?.as_str()? == ORIGIN).then_some(announcement)
}

const FIELDS: [&str; 6] =
    ["address", "adapter", "poll_interval_s", "timeout_s", "scan_timeout_s", "paused"];

/// The payload of `cmd/config`. Everything is checked before anything is applied.
fn change(payload: &[u8]) -> Result<ConfigChange, String> {
    if payload.len() > LARGEST_CONFIG {
        return Err(format!("the message is larger than {LARGEST_CONFIG} bytes"));
    }
    let fields: Map<String, Value> = serde_json::from_slice(payload).map_err(|error| {
        format!("this is no JSON object: {error}; an example is {{\"poll_interval_s\": 10}}")
    })?;
    let mut change = ConfigChange::default();
    for (name, value) in &fields {
        match name.as_str() {
            "address" => change.address = given(value).map(mac).transpose()?,
            "adapter" => change.adapter = Some(adapter(value)?),
            "poll_interval_s" => change.interval = seconds(name, value, INTERVAL_MS)?,
            "timeout_s" => change.timeout = seconds(name, value, TIMEOUT_MS)?,
            "scan_timeout_s" => change.scan_timeout = seconds(name, value, SCAN_TIMEOUT_MS)?,
            "paused" => change.paused = given(value).map(switch).transpose()?,
            unknown => return Err(unknown_field(unknown)),
        }
    }
    Ok(change)
}

/// The payload of a switch.
fn on_or_off(payload: &[u8]) -> Result<bool, String> {
    match payload.trim_ascii().to_ascii_lowercase().as_slice() {
        b"on" | b"true" | b"1" => Ok(true),
        b"off" | b"false" | b"0" => Ok(false),
        _ => Err("send ON or OFF".to_owned()),
    }
}

/// What the battery was switched to.
pub fn switched(setting: Setting) -> Value {
    json!({ "ok": true, setting.switch.name(): if setting.on { "ON" } else { "OFF" } })
}

/// What was applied, in the names and units in which it was asked for.
pub fn accepted(change: &ConfigChange) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| json!(time.as_secs_f64()));
    let fields = [
        ("ok", Some(json!(true))),
        ("address", change.address.as_ref().map(|address| json!(address))),
        ("adapter", change.adapter.as_ref().map(|adapter| json!(adapter))),
        ("poll_interval_s", seconds(change.interval)),
        ("timeout_s", seconds(change.timeout)),
        ("scan_timeout_s", seconds(change.scan_timeout)),
        ("paused", change.paused.map(Value::from)),
    ];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect())
}

/// Why nothing was applied.
pub fn refused(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

fn given(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

fn mac(value: &Value) -> Result<String, String> {
    let wrong = || format!("address: a Bluetooth address like C8:47:80:37:02:E8, not {value}");
    let bytes = value.as_str().and_then(|text| address_bytes(text.trim())).ok_or_else(wrong)?;
    Ok(bytes.map(|byte| format!("{byte:02X}")).join(":"))
}

/// Nothing, in any spelling, means "the first powered one".
fn adapter(value: &Value) -> Result<Option<String>, String> {
    let wrong = || format!("adapter: a name like hci0, or null for the first one, not {value}");
    let Some(value) = given(value) else { return Ok(None) };
    let text = value.as_str().ok_or_else(wrong)?.trim();
    let is_name = text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_name {
        return Err(wrong());
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn seconds(
    name: &str,
    value: &Value,
    limits: RangeInclusive<i64>,
) -> Result<Option<Duration>, String> {
    let Some(value) = given(value) else { return Ok(None) };
    let [least, most] = [limits.start(), limits.end()].map(|limit| *limit as f64 / 1000.0);
    let number = value.as_f64().filter(|number| (least..=most).contains(number));
    let number = number.ok_or_else(|| {
        format!("{name}: a number of seconds from {least} to {most}, not {value}")
    })?;
    Ok(Some(Duration::from_secs_f64(number)))
}

fn switch(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("paused: true or false, not {value}"))
}

fn unknown_field(name: &str) -> String {
    match closest(name, FIELDS).filter(|(field, errors)| *errors <= field.len() / 2) {
        Some((field, _)) => format!("there is no field \"{name}\"; did you mean \"{field}\"?"),
        None => format!("there is no field \"{name}\"; there are {}", FIELDS.join(", ")),
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("topics", &self.routes.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::{test_data, topics};

    fn router() -> Router {
        let topics = Topics::new("bms/{id}", "homeassistant", &test_data::profile());
        Router::new(vec![topics], topics::birth("homeassistant"), topics::echo("c"))
    }

    fn configured(payload: &str) -> Result<ConfigChange, String> {
        match router().understand("bms/rack/cmd/config", payload.as_bytes(), false) {
            Some(Input::Configure(0, change)) => change,
            other => panic!("no change but {other:?}"),
        }
    }

    #[test]
    fn every_field_is_optional_and_checked() {
        assert_eq!(configured("{}"), Ok(ConfigChange::default()));
        let all = configured(
            r#"{"address": "c8-47-80-37-02-e8", "adapter": "hci1", "poll_interval_s": 0.5,
                "timeout_s": 20, "scan_timeout_s": 5, "paused": true}"#,
        );
        let expected = ConfigChange {
            address: Some("C8:47:80:37:02:E8".into()),
            adapter: Some(Some("hci1".into())),
            interval: Some(Duration::from_millis(500)),
            timeout: Some(Duration::from_secs(20)),
            scan_timeout: Some(Duration::from_secs(5)),
            paused: Some(true),
        };
        assert_eq!(all, Ok(expected.clone()));
        assert_eq!(
            accepted(&expected).to_string(),
            r#"{"ok":true,"address":"C8:47:80:37:02:E8","adapter":"hci1","poll_interval_s":0.5,"timeout_s":20.0,"scan_timeout_s":5.0,"paused":true}"#
        );
    }

    #[test]
    fn no_adapter_in_any_spelling_is_the_first_one() {
        for payload in [r#"{"adapter": null}"#, r#"{"adapter": ""}"#, r#"{"adapter": " "}"#] {
            let change = configured(payload).expect(payload);
            assert_eq!(change.adapter, Some(None), "{payload}");
            assert_eq!(accepted(&change)["adapter"], Value::Null);
        }
        assert_eq!(configured("{}").expect("empty").adapter, None);
    }

    #[test]
    fn mistakes_are_named() {
        for (payload, word) in [
            (r#"{"address": "C8:47:80:37:02"}"#, "address"),
            (r#"{"address": 5}"#, "address"),
            (r#"{"adapter": "hci0; rm"}"#, "adapter"),
            (r#"{"poll_interval_s": 0.4}"#, "0.5 to 3600"),
            (r#"{"poll_interval_s": 3601}"#, "0.5 to 3600"),
            (r#"{"poll_interval_s": "10"}"#, "poll_interval_s"),
            (r#"{"poll_interval_s": 1e999}"#, "JSON"),
            (r#"{"timeout_s": -1}"#, "timeout_s"),
            (r#"{"timeout_s": 121}"#, "0.1 to 120"),
            (r#"{"scan_timeout_s": 0.5}"#, "1 to 60"),
            (r#"{"scan_timeout_s": 61}"#, "1 to 60"),
            (r#"{"paused": "yes"}"#, "paused"),
            (r#"{"poll_interval": 10}"#, "poll_interval_s"),
            (r#"{"adress": "x"}"#, "\"address\""),
            (r#"{"colour": "red"}"#, "there are"),
            ("10", "JSON object"),
            ("[]", "JSON object"),
            ("", "JSON object"),
            ("{", "JSON object"),
        ] {
            let error = configured(payload).expect_err(payload);
            assert!(error.contains(word), "{payload}: {error}");
        }
    }

    #[test]
    fn one_bad_field_applies_nothing() {
        assert!(configured(r#"{"poll_interval_s": 10, "paused": 1}"#).is_err());
    }

    #[test]
    fn a_huge_command_is_refused_unread() {
        let payload = format!(r#"{{"address": "{}"}}"#, "x".repeat(LARGEST_CONFIG));
        assert!(configured(&payload).expect_err("too large").contains("larger"));
    }

    #[test]
    fn retained_commands_are_not_carried_out() {
        let router = router();
        for topic in ["bms/rack/cmd/read", "bms/rack/cmd/config"] {
            let meaning = router.understand(topic, b"{}", true);
            assert_eq!(meaning, Some(Input::KeptCommand(topic.into())));
            assert!(router.understand(topic, b"{}", false).is_some());
        }
        assert_eq!(router.understand("bms/rack/cmd/read", b"", false), Some(Input::Read(0)));
    }

    #[test]
    fn a_switch_takes_on_and_off_in_all_spellings_and_nothing_else() {
        let router = router();
        let order =
            |payload: &[u8]| match router.understand("bms/rack/cmd/charging", payload, false) {
                Some(Input::Switch(0, Switch::Charging, order)) => order,
                other => panic!("{other:?}"),
            };
        for (payload, on) in [(&b"ON"[..], true), (b"off", false), (b" True ", true), (b"0", false)]
        {
            assert_eq!(order(payload), Ok(on));
        }
        for payload in [&b""[..], b"toggle", b"2", b"\xff"] {
            assert!(order(payload).is_err());
        }
        let kept = router.understand("bms/rack/cmd/balancing", b"ON", true);
        assert_eq!(kept, Some(Input::KeptCommand("bms/rack/cmd/balancing".into())));
        let done = switched(Setting { switch: Switch::Discharging, on: false });
        assert_eq!(done.to_string(), r#"{"ok":true,"discharging":"OFF"}"#);
    }

    #[test]
    fn only_online_is_a_birth() {
        let router = router();
        let status = |payload: &[u8]| router.understand("homeassistant/status", payload, false);
        assert_eq!(status(b"online"), Some(Input::Birth));
        assert_eq!(status(b"offline"), None);
    }

    #[test]
    fn kept_counters_and_alarms_are_understood() {
        let router = router();
        let kept = |topic: &str, payload: &str| {
            router.understand(&format!("bms/rack/{topic}"), payload.as_bytes(), true)
        };
        let charged = Energy::from_kwh("12.345").map(|it| Input::KeptTotal(0, Flow::In, it));
        assert_eq!(kept("energy_charged", "12.345"), charged);
        assert!(matches!(
            kept("energy_discharged", "0.0"),
            Some(Input::KeptTotal(0, Flow::Out, _))
        ));
        assert_eq!(kept("energy_charged", "unknown"), None);
        assert_eq!(router.understand("bms/rack/energy_charged", b"1.0", false), None, "our own");
        assert_eq!(kept("alarms", "[]"), Some(Input::KeptAlarms(0, Vec::new())));
        assert_eq!(kept("alarms", r#"["fuse_blown"]"#), None, "not in this form");
        for topic in ["bms/rack/energy_charged", "bms/rack/alarms"] {
            assert!(router.kept().contains(&topic.to_owned()));
            assert!(!router.filters().contains(&topic.to_owned()), "{topic} for good");
        }
    }

    #[test]
    fn only_our_own_kept_announcements_count() {
        let router = router();
        let topic = "homeassistant/sensor/rack/soc/config";
        let mine = br#"{"origin": {"name": "bms-reader"}}"#;
        let kept = Some(Input::KeptEntity(0, "sensor".into(), "soc".into()));
        assert_eq!(router.understand(topic, mine, true), kept);
        assert_eq!(router.understand(topic, br#"{"o": {"name": "bms-reader"}}"#, true), kept);
        assert_eq!(router.understand(topic, mine, false), None);
        for stranger in [&br#"{"origin": {"name": "zigbee2mqtt"}}"#[..], b"{}", b"", b"\xff"] {
            assert_eq!(router.understand(topic, stranger, true), None);
        }
        let device = br#"{"o": {"name": "bms-reader"}, "components": {"soc": {}}}"#;
        match router.understand("homeassistant/device/rack/config", device, true) {
            Some(Input::KeptDevice(0, None, components)) => assert!(components.contains_key("soc")),
            other => panic!("{other:?}"),
        }
    }
}

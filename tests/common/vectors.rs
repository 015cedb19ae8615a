//! Recorded exchanges: `tests/vectors/<driver>.json`. The format: `tests/vectors/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bms_reader::model::derive::derive;
use bms_reader::model::reading::{Setting, Switch};
use bms_reader::model::units::Millis;
use bms_reader::model::{Attempt, DeviceId, DeviceState, Profile, Secret, Snapshot};
use bms_reader::poll::CycleError;
use bms_reader::protocol::driver::{CapacityUnit, Medium};
use bms_reader::protocol::{CycleKind, DriverInfo, Options, Step, drivers};
use bms_reader::raw::raw;
use bms_reader::sim::conversation::{Conversation, Event};
use serde_json::{Map, Value};

use super::{Outcome, default_options, play};

/// Cycles within which a driver must have sent every request that it ever sends: those that stay
/// without an answer are tried twice, each time before the ones behind them.
const CYCLES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The driver sends exactly these bytes.
    Request,
    Response,
    /// An answer that must be refused.
    Bad,
}

#[derive(Debug, Clone)]
pub struct Vector {
    pub id: String,
    pub kind: Kind,
    pub info: &'static DriverInfo,
    pub options: Options,
    /// The switch that the request sets.
    pub write: Option<Setting>,
    pub request: Vec<u8>,
    pub response: Vec<u8>,
    /// The pieces in which the response arrived over Bluetooth, if they were recorded.
    pub notifications: Vec<Vec<u8>>,
    /// Text that the Bluetooth module sends between notifications.
    pub module_text: Vec<u8>,
    with: Vec<String>,
    /// The part of the `raw` JSON that this answer determines.
    pub expected: Value,
}

/// All vectors of a driver.
pub fn vectors(driver: &str) -> &'static [Vector] {
    static ALL: LazyLock<BTreeMap<&str, Vec<Vector>>> =
        LazyLock::new(|| drivers().iter().map(|info| (info.name, load(info))).collect());
    &ALL[driver]
}

pub fn vector(driver: &str, id: &str) -> &'static Vector {
    let found = vectors(driver).iter().find(|vector| vector.id == id);
    found.unwrap_or_else(|| panic!("{driver} has no vector {id}"))
}

pub fn path(driver: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/{driver}.json"))
}

pub fn json(driver: &str) -> Value {
    let text = fs::read_to_string(path(driver)).unwrap_or_else(|e| panic!("{driver}.json: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{driver}.json: {e}"))
}

/// Whether a driver has a file of vectors. The others have recorded conversations.
pub fn exist(driver: &str) -> bool {
    path(driver).exists()
}

/// The recorded conversations of a driver.
pub fn conversations(info: &DriverInfo) -> Vec<Conversation> {
    let driver = info.bluetooth.unwrap_or(info.name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/corpus/{driver}.json"));
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let file = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{driver}.json: {e}"));
    Conversation::all(&file).unwrap_or_else(|e| panic!("{driver}.json: {e}"))
}

/// A file that names several media has each of its vectors once per medium, unless the vector
/// chooses one.
fn load(info: &'static DriverInfo) -> Vec<Vector> {
    if !exist(info.name) {
        return Vec::new();
    }
    let file = json(info.name);
    let list = file["vectors"].as_array().expect("a list of vectors");
    let media = file["media"].as_array().map_or(&[Value::Null][..], Vec::as_slice);
    let each = list.iter().flat_map(|json| match &json["options"]["medium"] {
        Value::Null => media.iter().map(|medium| (json, medium)).collect(),
        own => vec![(json, own)],
    });
    each.map(|(json, medium)| parse(info, &file, json, medium)).collect()
}

fn parse(info: &'static DriverInfo, file: &Value, json: &Value, medium: &Value) -> Vector {
    let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("no {key}: {json}"));
    let id = text("id").to_owned();
    assert!(!text("origin").is_empty() && !text("source").is_empty(), "{id}");
    let bytes = match json["same_as"].as_str() {
        Some(other) => file["vectors"].as_array().unwrap().iter().find(|it| it["id"] == other),
        None => Some(json),
    };
    let bytes = bytes.unwrap_or_else(|| panic!("{id}: no such vector"));
    let notifications: Vec<_> =
        list(&bytes["notifications_hex"]).iter().map(|it| unhex(it)).collect();
    Vector {
        kind: match text("kind") {
            "request" => Kind::Request,
            "response" => Kind::Response,
            "bad" => Kind::Bad,
            kind => panic!("{id}: no kind {kind}"),
        },
        info,
        options: options(info, &[&json["options"], &file["options"]], medium),
        write: setting(&json["write"]),
        request: hex_or_text(bytes, "request"),
        response: match &notifications[..] {
            [] => hex_or_text(bytes, "response"),
            pieces => pieces.concat(),
        },
        notifications,
        module_text: file["module_text"].as_str().unwrap_or_default().into(),
        with: list(&json["with"]),
        expected: json["expected"].clone(),
        id,
    }
}

fn list(json: &Value) -> Vec<String> {
    let strings = json.as_array().into_iter().flatten();
    strings.map(|it| it.as_str().expect("a string").to_owned()).collect()
}

fn hex_or_text(json: &Value, what: &str) -> Vec<u8> {
    let text = json[format!("{what}_text")].as_str().map(|text| text.as_bytes().to_vec());
    let hex = json[format!("{what}_hex")].as_str().map(unhex);
    text.or(hex).unwrap_or_default()
}

pub fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).expect("hex")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// The configuration of the battery: from the vector, else from its file, else the default.
fn options(info: &DriverInfo, sources: &[&Value], medium: &Value) -> Options {
    let get = |key: &str| sources.iter().map(|source| &source[key]).find(|it| !it.is_null());
    let text = |key: &str| get(key).and_then(Value::as_str).map(str::to_owned);
    let default = default_options(info);
    Options {
        address: get("address")
            .map_or(default.address, |it| it.as_u64().unwrap().try_into().unwrap()),
        medium: match medium.as_str() {
            Some("serial") => Medium::Serial,
            Some("ble") => Medium::Ble,
            None => default.medium,
            Some(other) => panic!("no medium {other}"),
        },
        variant: text("variant"),
        barcode: text("barcode"),
        password: text("password").map(|password| Secret::new(&password)),
        mac: text("mac").map(|mac| unhex(&mac.replace(':', "")).try_into().unwrap()),
        capacity_unit: match text("capacity_unit").as_deref() {
            Some("mAh") => CapacityUnit::MilliampHours,
            _ => CapacityUnit::WattHours,
        },
        ..default
    }
}

fn setting(json: &Value) -> Option<Setting> {
    let name = json["switch"].as_str()?;
    let switch = Switch::ALL.into_iter().find(|switch| switch.name() == name).expect(name);
    Some(Setting { switch, on: json["on"].as_bool().expect("on") })
}

/// The exchanges of a battery. Answers to the same request are given in turn, the last one again
/// and again; a request that is not among them stays without an answer.
#[derive(Debug, Clone)]
pub struct Session {
    exchanges: Vec<&'static Vector>,
    used: Vec<bool>,
}

impl Session {
    pub fn new(exchanges: Vec<&'static Vector>) -> Self {
        Session { used: vec![false; exchanges.len()], exchanges }
    }

    pub fn exchanges(&self) -> &[&'static Vector] {
        &self.exchanges
    }

    pub fn answer(&mut self, request: &[u8]) -> Option<&'static Vector> {
        let same = || (0..self.exchanges.len()).filter(|&at| self.exchanges[at].request == request);
        let at = same().find(|&at| !self.used[at]).or_else(|| same().next_back())?;
        self.used[at] = true;
        Some(self.exchanges[at])
    }

    /// The answer in one piece.
    pub fn chunks(&mut self, request: &[u8]) -> Vec<Vec<u8>> {
        self.answer(request).map(|it| it.response.clone()).into_iter().collect()
    }
}

impl Vector {
    /// The exchanges of a conversation: each request with what followed it.
    pub fn of(info: &'static DriverInfo, conversation: &Conversation) -> Vec<Vector> {
        let mut exchanges: Vec<Vector> = Vec::new();
        for event in &conversation.events {
            match (event, exchanges.last_mut()) {
                (Event::Write(request), _) => exchanges.push(Vector {
                    id: format!("{}: {}", info.name, conversation.name),
                    kind: Kind::Response,
                    info,
                    options: conversation.options.clone(),
                    write: None,
                    request: request.clone(),
                    response: Vec::new(),
                    notifications: Vec::new(),
                    module_text: Vec::new(),
                    with: Vec::new(),
                    expected: Value::Null,
                }),
                (Event::Notify(bytes), Some(exchange)) => exchange.response.extend(bytes),
                (Event::Notify(_), None) => {}
            }
        }
        exchanges.retain(|exchange| !exchange.response.is_empty());
        exchanges
    }

    /// The exchanges that the driver needs before it sends this request, or for a complete reading.
    pub fn companions(&self) -> Vec<&'static Vector> {
        self.with.iter().map(|id| vector(self.info.name, id)).collect()
    }

    /// This exchange and those that it needs.
    pub fn session(&'static self) -> Session {
        Session::new([&[self][..], &self.companions()].concat())
    }

    /// Runs cycles until the request of this vector was sent, and returns the last one.
    pub fn read(&self, mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>>) -> Outcome {
        let mut driver = self.info.driver(&self.options);
        let mut cycle = || {
            driver.start(self.write.map_or(CycleKind::Read, CycleKind::Write));
            play(driver.as_mut(), &mut answer).unwrap_or_else(|e| panic!("{}: {e}", self.id))
        };
        let mut outcome = cycle();
        for _ in 1..CYCLES {
            if outcome.asked.contains(&self.request) {
                break;
            }
            outcome = cycle();
        }
        outcome
    }
}

/// What the `raw` JSON contains after a cycle with this end, without what depends on the time of the
/// attempt. Texts that describe alarms or give hints are left out, and of an error's message the
/// reason remains.
pub fn facts(info: &DriverInfo, end: Step) -> Value {
    let (reading, fault) = match end {
        Step::Done(reading) => (Some(*reading), None),
        Step::Failed(error) => (None, Some(CycleError::Protocol(error).fault())),
        other => panic!("a cycle cannot end with {other:?}"),
    };
    let mut state = DeviceState::new(Profile {
        id: DeviceId::new(info.name).unwrap(),
        name: info.name.to_owned(),
        brand: info.name.to_owned(),
        title: info.title.to_owned(),
        port: None,
        address: None,
        adapter: None,
        interval_ms: 1000,
        timeout_ms: 1000,
        scan_timeout_ms: None,
        controls: Vec::new(),
    });
    let connected = reading.is_some();
    state.attempt = Some(Attempt { number: 1, ended: Millis(0), took_ms: 0, connected, fault });
    state.snapshot = reading.map(|reading| {
        let (device, derived) = (state.profile.id.clone(), derive(&reading));
        Arc::new(Snapshot { device, sequence: 1, taken: Millis(0), took_ms: 0, reading, derived })
    });
    let mut raw = raw(&state);
    let mut facts = Map::new();
    if let Value::Object(mut status) = raw["status"].take() {
        status.shift_remove("last_update");
        status.shift_remove("alarms");
        facts.insert("got".into(), raw["got"].take());
        facts.insert("status".into(), status.into());
    }
    if let Value::Object(mut error) = raw["error"].take() {
        error.shift_remove("hint");
        let message = error["message"].as_str().unwrap();
        match message.split_once(": ").map(|(_, reason)| reason.to_owned()) {
            Some(reason) => error["message"] = reason.into(),
            None => drop(error.shift_remove("message")),
        }
        facts.insert("error".into(), error.into());
    }
    facts.into()
}

/// What `new` contains beyond `old`.
pub fn difference(new: &Value, old: &Value) -> Value {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new.clone() };
    let changed = new.iter().filter_map(|(key, value)| match old.get(key) {
        None => Some((key.clone(), value.clone())),
        Some(same) if same == value => None,
        Some(other) => Some((key.clone(), difference(value, other))),
    });
    Value::Object(changed.collect())
}

//! `scan`: what is connected and in reach, and the lines to put into the configuration.

mod probe;
mod text;

use std::time::Duration;

use serde_json::{Value, json};

use super::FINE;
use super::line::{Command, Flag, Takes};
use crate::model::{Fault, FaultKind};
use crate::poll::{CycleError, advertisement};
use crate::protocol::detection::{Guess, recognise};
use crate::protocol::{DriverInfo, detection};
use crate::transport::Bluetooth;
use crate::transport::ble::BleDevice;
use crate::transport::serial::{self, PortInfo};
use probe::Answer;

/// Batteries advertise every second or two.
const TIME: Duration = Duration::from_secs(5);

pub(super) const COMMAND: Command = Command {
    name: "scan",
    does: "List serial ports and Bluetooth devices, with the lines to put into the configuration",
    operand: None,
    flags: &[
        Flag::new("seconds", Takes::One("N"), "How long to look for Bluetooth devices").or("5"),
        Flag::new("json", Takes::Nothing, "One JSON object instead of text"),
        Flag::new(
            "probe",
            Takes::Words("PLACE"),
            "Ask who is there, with harmless read requests: at every port and on Bluetooth, or at \
             these ports and addresses only",
        ),
    ],
    prepare: |given| {
        let seconds = given.value("seconds", "a number from 1 to 120", |text| {
            text.parse().ok().filter(|seconds| (1..=120).contains(seconds))
        })?;
        let time = seconds.map_or(TIME, Duration::from_secs);
        let (wanted, as_json) = (given.list("probe").map(<[_]>::to_vec), given.has("json"));
        Ok(Box::pin(run(time, wanted, as_json)))
    },
};

/// What was found.
#[derive(Debug)]
struct Findings {
    ports: Vec<Port>,
    /// The strongest signal first; or why nothing is known.
    devices: Result<Vec<Device>, Fault>,
}

impl Findings {
    /// Places that somebody wants to have asked, and that are not there.
    fn missing<'a>(&self, wanted: &'a [String]) -> Vec<&'a String> {
        let devices = self.devices.as_ref().map(Vec::as_slice).unwrap_or_default();
        let known = |place: &&String| {
            self.ports.iter().any(|port| names(&port.found, place))
                || devices.iter().any(|it| it.found.address.eq_ignore_ascii_case(place))
        };
        wanted.iter().filter(|place| !known(place)).collect()
    }
}

/// A serial port or a bridge.
#[derive(Debug)]
struct Port {
    found: PortInfo,
    answer: Option<Answer>,
}

/// A Bluetooth device.
#[derive(Debug)]
struct Device {
    found: BleDevice,
    guesses: Vec<Guess>,
    answer: Option<Answer>,
}

/// `wanted`: whom to ask; nobody of them named means everybody.
async fn run(time: Duration, wanted: Option<Vec<String>>, as_json: bool) -> u8 {
    let findings = look(wanted.as_deref(), time).await;
    for place in findings.missing(wanted.as_deref().unwrap_or_default()) {
        eprintln!("bms-reader: {place} was not asked: it is no port, and no device in reach");
    }
    if as_json {
        println!("{}", object(&findings));
    } else {
        println!("{}", text::render(&findings).trim_end());
    }
    FINE
}

/// What is there, for people; nobody is asked anything.
pub(super) async fn around() -> String {
    text::render(&look(None, TIME).await)
}

async fn look(wanted: Option<&[String]>, time: Duration) -> Findings {
    let bluetooth = Bluetooth::default();
    let (ports, radio) = tokio::join!(ports(wanted), bluetooth.scan(None, time));
    let devices = match radio {
        Ok(found) => Ok(devices(found, wanted, &bluetooth).await),
        Err(error) => Err(CycleError::Link(error).fault()),
    };
    Findings { ports, devices }
}

async fn ports(wanted: Option<&[String]>) -> Vec<Port> {
    let mut found = serial::list();
    // A port that was named may be one that no list shows: a bridge, a pseudo-terminal.
    for place in wanted.unwrap_or_default().iter().filter(|place| probe::is_port(place)) {
        if !found.iter().any(|port| names(port, place)) {
            found.push(PortInfo { path: place.clone(), device: None });
        }
    }
    let asked = found.iter().filter(|port| {
        wanted.is_some_and(|list| list.is_empty() || list.iter().any(|place| names(port, place)))
    });
    let answers = probe::ports(asked.map(|port| port.path.clone())).await;
    let answer = |path: &str| answers.iter().find(|(asked, _)| asked == path);
    let answered = |found: PortInfo| {
        let answer = answer(&found.path).map(|(_, answer)| answer.clone());
        Port { answer, found }
    };
    found.into_iter().map(answered).collect()
}

fn names(port: &PortInfo, place: &str) -> bool {
    port.path == place || port.device.as_deref() == Some(place)
}

async fn devices(
    found: Vec<BleDevice>,
    wanted: Option<&[String]>,
    bluetooth: &Bluetooth,
) -> Vec<Device> {
    let mut devices = Vec::new();
    for found in found {
        let guesses = recognise(&advertisement(&found));
        let named = |list: &[String]| list.iter().any(|it| it.eq_ignore_ascii_case(&found.address));
        let asked =
            wanted.is_some_and(|list| named(list) || (list.is_empty() && !guesses.is_empty()));
        let answer = if asked { Some(probe::device(&found, bluetooth).await) } else { None };
        devices.push(Device { found, guesses, answer });
    }
    devices
}

impl Port {
    /// The type to configure.
    fn kind(&self) -> &'static str {
        answered(self.answer.as_ref()).map_or(detection::AUTO, |driver| driver.name)
    }

    fn environment(&self) -> Vec<(&'static str, &str)> {
        vec![("BMS_TYPE", self.kind()), ("BMS_PORT", &self.found.path)]
    }

    /// Somebody named it, and it is not there: nothing to configure.
    fn is_missing(&self) -> bool {
        let fault = self.answer.as_ref().and_then(|answer| answer.as_ref().err());
        fault.is_some_and(|fault| fault.kind == FaultKind::PortNotFound)
    }
}

impl Device {
    /// The type to configure; the search finds it where a guess would be a mere guess.
    fn kind(&self) -> &'static str {
        let likely = || self.guesses.first().filter(|guess| guess.likely).map(|it| it.driver);
        answered(self.answer.as_ref()).or_else(likely).map_or(detection::AUTO, |driver| driver.name)
    }

    fn environment(&self) -> Vec<(&'static str, &str)> {
        vec![("BMS_TYPE", self.kind()), ("BMS_ADDRESS", &self.found.address)]
    }

    /// Whether it may be a battery at all.
    fn is_of_interest(&self) -> bool {
        !self.guesses.is_empty() || self.answer.is_some()
    }
}

fn answered(answer: Option<&Answer>) -> Option<&'static DriverInfo> {
    answer.and_then(|answer| answer.as_ref().ok()).map(|answered| answered.driver)
}

fn object(findings: &Findings) -> Value {
    let map = |environment: Vec<(&'static str, &str)>| {
        environment.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    };
    let ports: Vec<Value> = findings
        .ports
        .iter()
        .map(|port| {
            let mut object = json!({"path": port.found.path, "device": port.found.device});
            if !port.is_missing() {
                object["environment"] = Value::Object(map(port.environment()));
            }
            put_answer(&mut object, port.answer.as_ref());
            object
        })
        .collect();
    let devices = findings.devices.as_ref().map(Vec::as_slice).unwrap_or_default();
    let devices: Vec<Value> = devices
        .iter()
        .map(|device| {
            let found = &device.found;
            let mut object = json!({
                "address": found.address,
                "name": found.name,
                "adapter": found.adapter,
                "rssi": found.rssi,
                "connected": found.connected,
                "services": found.services.iter().map(|it| text::uuid(*it)).collect::<Vec<_>>(),
                "types": device.guesses.iter().map(|it| it.driver.name).collect::<Vec<_>>(),
                "likely": device.guesses.first().is_some_and(|it| it.likely),
            });
            if device.is_of_interest() {
                object["environment"] = Value::Object(map(device.environment()));
            }
            put_answer(&mut object, device.answer.as_ref());
            object
        })
        .collect();
    json!({
        "serial": ports,
        "bluetooth": devices,
        "bluetooth_error": findings.devices.as_ref().err(),
    })
}

fn put_answer(object: &mut Value, answer: Option<&Answer>) {
    match answer {
        None => {}
        Some(Ok(answered)) => object["answered"] = json!(answered.driver.name),
        Some(Err(fault)) => object["error"] = json!(fault),
    }
}

#[cfg(test)]
mod tests;

//! What the battery drivers of Venus OS (Victron) read from MQTT: one JSON object for each battery.
//!
//! The field names and the behaviour are those of mr-manuel/venus-os_dbus-mqtt-battery 1.0.12 and of the
//! "Generic MQTT" of mr-manuel/venus-os_dbus-serialbattery 2.1. The former keeps what a message leaves
//! out, so it gets the same keys in every message, with `null` for what is unknown.

mod fields;
mod serial_battery;

use serde_json::{Map, Value, json};

use super::message::Message;
use super::topics::Topics;
use crate::model::units::{Milliamps, Millivolts};
use crate::model::{ActiveAlarm, DeviceState, Snapshot, Uptime};

/// Topic of [`Format::MqttBattery`], below the base topic.
pub const MQTT_BATTERY: &str = "victron";
/// Topic of [`Format::SerialBattery`], below the base topic.
pub const SERIAL_BATTERY: &str = "victron_serialbattery";
/// The driver gives up after 60 s without a message; a current reading is repeated earlier.
const REPEAT_MS: u64 = 15_000;

/// Which driver reads the messages of a battery, and what the user knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victron {
    pub format: Format,
    pub limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// dbus-mqtt-battery.
    MqttBattery,
    /// The "Generic MQTT" of dbus-serialbattery. It needs a reading every five seconds.
    SerialBattery,
}

impl Format {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "mqtt-battery" => Some(Format::MqttBattery),
            "serialbattery" => Some(Format::SerialBattery),
            _ => None,
        }
    }
}

/// Limits of the configuration for chargers and loads. Where the battery reports one, too, the lower applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub charge_voltage: Option<Millivolts>,
    pub charge_current: Option<Milliamps>,
    pub discharge_current: Option<Milliamps>,
}

/// A good reading, and what goes with it.
struct Source<'a> {
    snapshot: &'a Snapshot,
    limits: Limits,
    alarms: Vec<ActiveAlarm>,
}

impl Source<'_> {
    /// No current flows in where the battery forbids it.
    fn charge_current(&self) -> Option<Milliamps> {
        let reading = &self.snapshot.reading;
        current_limit(
            reading.switches.charging,
            reading.limits.charge_current,
            self.limits.charge_current,
        )
    }

    fn discharge_current(&self) -> Option<Milliamps> {
        let reading = &self.snapshot.reading;
        current_limit(
            reading.switches.discharging,
            reading.limits.discharge_current,
            self.limits.discharge_current,
        )
    }

    fn charge_voltage(&self) -> Option<Millivolts> {
        let reported = self.snapshot.reading.limits.charge_voltage;
        reported.into_iter().chain(self.limits.charge_voltage).min()
    }
}

/// The lower of both limits, as a positive current.
fn current_limit(
    allowed: Option<bool>,
    reported: Option<Milliamps>,
    configured: Option<Milliamps>,
) -> Option<Milliamps> {
    if allowed == Some(false) {
        return Some(Milliamps(0));
    }
    let limits = reported.into_iter().chain(configured);
    limits.map(|limit| Milliamps(limit.0.saturating_abs())).min()
}

/// The messages for one battery.
#[derive(Debug)]
pub struct Feed {
    settings: Victron,
    topic: String,
    /// Number and time of the reading that was sent last.
    sent: Option<(u64, Uptime)>,
    /// What was sent last, unless it was the message that stops chargers.
    last: Option<Value>,
    /// It is in the log that the battery lacks what the driver needs.
    reported: bool,
}

impl Feed {
    pub fn new(settings: Victron, topics: &Topics) -> Self {
        let key = match settings.format {
            Format::MqttBattery => MQTT_BATTERY,
            Format::SerialBattery => SERIAL_BATTERY,
        };
        Feed { settings, topic: topics.topic(key), sent: None, last: None, reported: false }
    }

    /// For a new connection.
    pub fn reset(&mut self) {
        self.sent = None;
    }

    /// The message that is due. After the last current reading one message stops the chargers.
    pub fn update(
        &mut self,
        state: &DeviceState,
        is_current: bool,
        now: Uptime,
    ) -> Option<Message> {
        let payload = is_current.then(|| self.payload(state)).flatten();
        let Some((sequence, payload)) = payload else { return self.stop() };
        let is_due = self.sent.is_none_or(|(sent, at)| {
            let repeats = self.settings.format == Format::MqttBattery;
            sent != sequence || (repeats && now.since(at) >= REPEAT_MS)
        });
        if !is_due {
            return None;
        }
        self.sent = Some((sequence, now));
        let message = self.message(&payload);
        self.last = Some(payload);
        Some(message)
    }

    /// `None` if the reading lacks what the driver needs.
    fn payload(&mut self, state: &DeviceState) -> Option<(u64, Value)> {
        let snapshot = state.snapshot.as_deref()?;
        // A bank has no totals while a member is missing.
        if snapshot.derived.bank.as_ref().is_some_and(|bank| !bank.missing.is_empty()) {
            return None;
        }
        let limits = self.settings.limits;
        let source = Source { snapshot, limits, alarms: state.active_alarms() };
        let id = &state.profile.id;
        let payload = match self.settings.format {
            Format::MqttBattery => fields::payload(&source),
            Format::SerialBattery => serial_battery::payload(&source, id.as_str()),
        };
        if let (Err(missing), false) = (&payload, self.reported) {
            self.reported = true;
            let remedy = match self.settings.format {
                Format::MqttBattery => "no driver of Venus OS can read this battery",
                Format::SerialBattery => "mqtt-battery needs less",
            };
            let setting = crate::remedy::setting("VICTRON");
            tracing::warn!("{id}: {setting}: the battery does not report its {missing}; {remedy}");
        }
        Some((snapshot.sequence, payload.ok()?))
    }

    /// The values of the last reading with a charge current of 0 and an alarm. The driver repeats them until
    /// it gives up, so that no charger relies on an old reading. dbus-serialbattery does so by itself.
    pub fn stop(&mut self) -> Option<Message> {
        self.sent = None;
        let mut last = self.last.take().filter(|_| self.settings.format == Format::MqttBattery)?;
        for (group, key, value) in
            [("Info", "MaxChargeCurrent", 0), ("Io", "AllowToCharge", 0), ("Alarms", "BmsCable", 2)]
        {
            last[group][key] = json!(value);
        }
        Some(self.message(&last))
    }

    /// Never retained: the driver takes a retained message for a new one at every start.
    fn message(&self, payload: &Value) -> Message {
        let event = Message::event(self.topic.clone(), payload.to_string());
        Message { at_least_once: false, ..event }
    }
}

/// Adds to `parent`, unless the value is unknown.
fn insert_known(parent: &mut Map<String, Value>, key: &str, value: Option<crate::model::Value>) {
    if let Some(value) = value {
        parent.insert(key.to_owned(), value.to_json());
    }
}

#[cfg(test)]
mod tests;

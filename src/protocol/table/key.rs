//! What a field of a profile can be: the keys that people know from MQTT and Home Assistant.

use super::scalar::Notation;
use crate::did_you_mean::closest;
use crate::model::reading::{Identity, SensorLocation, Switch};
use crate::model::units::Unit;
use crate::model::{Alarm, Reading};

/// What a field of a profile stands for.
#[derive(Debug, Clone, Copy, Default)]
pub enum Key {
    Number(&'static NumberKey),
    Text(&'static TextKey),
    /// Voltages of the cells.
    Cells,
    /// The highest and the lowest voltage of the cells, where these are not known.
    CellRange,
    Sensor(SensorLocation),
    /// One bit for each cell.
    BalancingCells,
    /// On where the number is not 0: `state heater_on`, `alarm cell_disconnected`.
    Flag(Flag),
    /// A status word with named bits: `word protection`.
    Word(&'static str),
    /// Keeps a number, or text, for counts and conditions.
    Variable(&'static str),
    /// The battery refuses the request with this code; 0 is a good reply.
    #[default]
    Refusal,
    /// The same in a reply of Modbus, which is no part of a profile.
    Exception,
}

/// A number of the reading.
#[derive(Debug)]
pub struct NumberKey {
    pub name: &'static str,
    /// Number of the smallest units in the unit that people read.
    pub factor: i64,
    /// Stores the number, if there is one. Returns what is stored then; `None` if it does not fit.
    pub access: fn(&mut Reading, Option<i64>) -> Option<i64>,
}

/// A text of the identity.
#[derive(Debug)]
pub struct TextKey {
    pub name: &'static str,
    pub field: fn(&mut Identity) -> &mut Option<String>,
}

/// What is on or off: a field, or one bit of a status word.
#[derive(Debug, Clone, Copy)]
pub enum Flag {
    Alarm(Alarm),
    Switch(Switch),
    /// A named state that is neither switch nor alarm.
    State(&'static str),
    /// Documented, and of no interest.
    Ignored,
}

impl Flag {
    pub fn note(self, on: bool, into: &mut Reading) {
        match self {
            Flag::Alarm(alarm) => into.alarms.note(alarm, on),
            Flag::Switch(Switch::Discharging) => into.switches.discharging = Some(on),
            Flag::Switch(_) => into.switches.charging = Some(on),
            Flag::State(name) => *into.states.entry(name).or_default() |= on,
            Flag::Ignored => {}
        }
    }
}

macro_rules! numbers {
    ($($name:literal $factor:literal $($field:ident).+;)*) => {
        &[$(NumberKey {
            name: $name,
            factor: $factor,
            access: |reading, number| access(&mut reading.$($field).+, number),
        }),*]
    };
}

static NUMBERS: &[NumberKey] = numbers! {
    "pack_voltage" 1000 pack.voltage;
    "pack_current" 1000 pack.current;
    "power" 1000 pack.power;
    "soc" 100 pack.soc;
    "soh" 100 pack.soh;
    "remaining_capacity" 1000 pack.remaining;
    "full_capacity" 1000 pack.full;
    "design_capacity" 1000 pack.design;
    "remaining_energy" 1000 pack.remaining_energy;
    "cycle_count" 1 pack.cycles;
    "error_code" 1 pack.error_code;
    "charge_voltage_limit" 1000 limits.charge_voltage;
    "discharge_voltage_limit" 1000 limits.discharge_voltage;
    "charge_current_limit" 1000 limits.charge_current;
    "discharge_current_limit" 1000 limits.discharge_current;
    "cell_voltage_upper_limit" 1000 limits.cell_upper;
    "cell_voltage_lower_limit" 1000 limits.cell_lower;
    "pack_voltage_upper_limit" 1000 limits.pack_upper;
    "pack_voltage_lower_limit" 1000 limits.pack_lower;
};

fn access<T: Unit>(slot: &mut Option<T>, number: Option<i64>) -> Option<i64> {
    if let Some(number) = number {
        *slot = T::from_i64(number);
    }
    slot.map(Unit::to_i64)
}

static TEXTS: &[TextKey] = &[
    TextKey { name: "manufacturer", field: |identity| &mut identity.manufacturer },
    TextKey { name: "model", field: |identity| &mut identity.model },
    TextKey { name: "hardware", field: |identity| &mut identity.hardware },
    TextKey { name: "software", field: |identity| &mut identity.software },
    TextKey { name: "serial", field: |identity| &mut identity.serial },
];

/// Keys with a form of their own.
const SPECIAL: &[Key] = &[
    Key::Cells,
    Key::CellRange,
    Key::Sensor(SensorLocation::Cells),
    Key::Sensor(SensorLocation::Mosfet),
    Key::Sensor(SensorLocation::Ambient),
    Key::Sensor(SensorLocation::Average),
    Key::BalancingCells,
    Key::Flag(Flag::Switch(Switch::Charging)),
    Key::Flag(Flag::Switch(Switch::Discharging)),
    Key::Refusal,
];

impl Key {
    /// As written in a profile, without `state`, `alarm` and `word`.
    pub fn name(&self) -> &'static str {
        match self {
            Key::Number(number) => number.name,
            Key::Text(text) => text.name,
            Key::Flag(Flag::Alarm(alarm)) => alarm.name(),
            Key::Flag(Flag::Switch(switch)) => switch.key(),
            Key::Flag(Flag::State(name)) | Key::Word(name) | Key::Variable(name) => name,
            Key::Cells => "cells",
            Key::CellRange => "cell_voltage_range",
            Key::Sensor(SensorLocation::Cells) => "temperatures",
            Key::Sensor(SensorLocation::Mosfet) => "mos_temp",
            Key::Sensor(SensorLocation::Ambient) => "ambient_temp",
            Key::Sensor(SensorLocation::Average) => "average_temp",
            Key::BalancingCells => "balancing_cells",
            Key::Refusal | Key::Exception | Key::Flag(Flag::Ignored) => "refusal",
        }
    }

    /// Every key, without those that begin with `$`, `state`, `alarm` or `word`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Key::all().map(|key| key.name())
    }

    fn all() -> impl Iterator<Item = Key> {
        let numbers = NUMBERS.iter().map(Key::Number);
        numbers.chain(TEXTS.iter().map(Key::Text)).chain(SPECIAL.iter().copied())
    }
}

impl Notation for Key {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            _ if text.starts_with('$') => return Ok(Key::Variable(leak(text))),
            Some(("state", _)) => return Flag::parse(text).map(Key::Flag),
            Some(("alarm", name)) => {
                return match Flag::parse(name)? {
                    flag @ Flag::Alarm(_) => Ok(Key::Flag(flag)),
                    _ => Err(format!("`{name}` is no alarm")),
                };
            }
            Some(("word", name)) => return identifier(name).map(Key::Word),
            _ => {}
        }
        Key::all().find(|key| key.name() == text).ok_or_else(|| {
            match closest(text, Key::names()) {
                Some((known, _)) => format!("there is no key `{text}`; did you mean `{known}`?"),
                None => format!(
                    "there is no key `{text}`. The keys are {}, `state NAME`, `alarm NAME`, `word NAME` for bits and \
                     $NAME for a variable",
                    Key::names().collect::<Vec<_>>().join(", ")
                ),
            }
        })
    }
}

impl Notation for Flag {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("state ") {
            return identifier(name).map(Flag::State);
        }
        match text {
            "charging_enabled" => return Ok(Flag::Switch(Switch::Charging)),
            "discharging_enabled" => return Ok(Flag::Switch(Switch::Discharging)),
            "ignored" => return Ok(Flag::Ignored),
            _ => {}
        }
        Alarm::from_name(text).map(Flag::Alarm).ok_or_else(|| {
            let names = Alarm::ALL.iter().map(|alarm| alarm.name());
            let hint = match closest(text, names) {
                Some((known, _)) => format!("did you mean `{known}`? "),
                None => String::new(),
            };
            format!(
                "there is no alarm `{text}`; {hint}A bit is an alarm, charging_enabled, \
                 discharging_enabled, ignored or `state NAME`"
            )
        })
    }
}

/// Names become parts of topics.
fn identifier(name: &str) -> Result<&'static str, String> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.bytes().all(valid) {
        Ok(leak(name))
    } else {
        Err(format!("`{name}` is not a name: write lower case letters, digits and _"))
    }
}

/// A reading names its states by `&'static str`. Profiles are loaded once per process.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

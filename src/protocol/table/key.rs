//! What a field of a profile can be: the keys that people know from MQTT and Home Assistant.

use super::scalar::Notation;
use crate::did_you_mean::closest;
use crate::model::reading::{Identity, Module, Probe, SensorLocation};
use crate::model::units::Unit;
use crate::model::{Alarm, Reading};

/// What a field of a profile stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Key {
    Number(&'static NumberKey),
    Text(&'static TextKey),
    /// Voltages of the cells.
    Cells,
    /// Sensors between the cells.
    Temperatures,
    /// One bit for each cell.
    BalancingCells,
    Switch(SwitchKey),
    /// A named state that is neither switch nor alarm: `state heater_on`.
    State(&'static str),
    /// A status word with named bits: `word protection`.
    Word(&'static str),
    /// An alarm that any number but 0 raises: `alarm cell_disconnected`.
    Alarm(Alarm),
    /// Keeps a number, or text, for counts and conditions.
    Variable(&'static str),
    /// The battery refuses the request with this code; 0 is a good reply.
    #[default]
    Refusal,
    /// State of charge as the ratio of the capacities that were read before.
    SocOfFull,
    SocOfDesign,
}

/// A number of the reading.
#[derive(Debug)]
pub struct NumberKey {
    pub name: &'static str,
    /// Number of the smallest units in the unit that people read.
    pub factor: i64,
    /// Returns whether the number fits.
    pub set: fn(&mut Reading, i64) -> bool,
    pub get: fn(&Reading) -> Option<i64>,
}

impl PartialEq for NumberKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A text of the identity.
#[derive(Debug)]
pub struct TextKey {
    pub name: &'static str,
    pub field: fn(&mut Identity) -> &mut Option<String>,
}

impl PartialEq for TextKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchKey {
    Charging,
    Discharging,
}

/// Meaning of one bit of a status word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    Raises(Alarm),
    Switch(SwitchKey),
    State(&'static str),
    /// Documented, and of no interest.
    Ignored,
}

macro_rules! numbers {
    ($($name:literal $factor:literal $($field:ident).+;)*) => {
        &[$(NumberKey {
            name: $name,
            factor: $factor,
            set: |reading, number| {
                let value = Unit::from_i64(number);
                if value.is_some() {
                    reading.$($field).+ = value;
                }
                value.is_some()
            },
            get: |reading| reading.$($field).+.map(Unit::to_i64),
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

/// Numbers that are not a field of their own.
static OTHERS: &[NumberKey] = &[
    probe("mos_temp", SensorLocation::Mosfet, |r, n| set_probe(r, SensorLocation::Mosfet, n)),
    probe("ambient_temp", SensorLocation::Ambient, |r, n| set_probe(r, SensorLocation::Ambient, n)),
    probe("average_temp", SensorLocation::Average, |r, n| set_probe(r, SensorLocation::Average, n)),
    NumberKey {
        name: "temperature",
        factor: 10,
        set: |reading, number| {
            let value = Unit::from_i64(number);
            reading.probes.push(Probe { location: SensorLocation::Cells, value });
            value.is_some()
        },
        get: |_| None,
    },
    NumberKey {
        name: "min_cell_voltage",
        factor: 1000,
        set: |reading, number| set_range(reading, number, true),
        get: |reading| reading.modules.first()?.range.map(|(low, _)| low.to_i64()),
    },
    NumberKey {
        name: "max_cell_voltage",
        factor: 1000,
        set: |reading, number| set_range(reading, number, false),
        get: |reading| reading.modules.first()?.range.map(|(_, high)| high.to_i64()),
    },
];

const fn probe(
    name: &'static str,
    location: SensorLocation,
    set: fn(&mut Reading, i64) -> bool,
) -> NumberKey {
    let get: fn(&Reading) -> Option<i64> = match location {
        SensorLocation::Mosfet => |reading| get_probe(reading, SensorLocation::Mosfet),
        SensorLocation::Ambient => |reading| get_probe(reading, SensorLocation::Ambient),
        _ => |reading| get_probe(reading, SensorLocation::Average),
    };
    NumberKey { name, factor: 10, set, get }
}

fn get_probe(reading: &Reading, location: SensorLocation) -> Option<i64> {
    let probe = reading.probes.iter().find(|probe| probe.location == location)?;
    probe.value.map(Unit::to_i64)
}

fn set_probe(reading: &mut Reading, location: SensorLocation, number: i64) -> bool {
    let Some(value) = Unit::from_i64(number) else { return false };
    // Of the packs of a stack, the hottest one is of interest.
    match reading.probes.iter_mut().find(|probe| probe.location == location) {
        Some(probe) => probe.value = probe.value.max(Some(value)),
        None => reading.probes.push(Probe { location, value: Some(value) }),
    }
    true
}

/// The cells of a battery that reports their range only.
fn set_range(reading: &mut Reading, number: i64, low: bool) -> bool {
    let Some(value) = Unit::from_i64(number) else { return false };
    if reading.modules.is_empty() {
        reading.modules.push(Module::default());
    }
    let range = reading.modules[0].range.get_or_insert((value, value));
    if low {
        range.0 = value;
    } else {
        range.1 = value;
    }
    true
}

static TEXTS: &[TextKey] = &[
    TextKey { name: "manufacturer", field: |identity| &mut identity.manufacturer },
    TextKey { name: "model", field: |identity| &mut identity.model },
    TextKey { name: "hardware", field: |identity| &mut identity.hardware },
    TextKey { name: "software", field: |identity| &mut identity.software },
    TextKey { name: "serial", field: |identity| &mut identity.serial },
];

/// Keys with a form of their own.
const SPECIAL: &[(&str, Key)] = &[
    ("cells", Key::Cells),
    ("temperatures", Key::Temperatures),
    ("balancing_cells", Key::BalancingCells),
    ("charging_enabled", Key::Switch(SwitchKey::Charging)),
    ("discharging_enabled", Key::Switch(SwitchKey::Discharging)),
    ("refusal", Key::Refusal),
    ("soc_of_full", Key::SocOfFull),
    ("soc_of_design", Key::SocOfDesign),
];

impl Key {
    /// As written in a profile.
    pub fn name(&self) -> &'static str {
        match self {
            Key::Number(number) => number.name,
            Key::Text(text) => text.name,
            Key::Alarm(alarm) => alarm.name(),
            Key::State(name) | Key::Word(name) | Key::Variable(name) => name,
            other => SPECIAL.iter().find(|(_, key)| key == other).map_or("", |(name, _)| name),
        }
    }

    /// Every key, without those that begin with `$`, `state` or `word`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let numbers = NUMBERS.iter().chain(OTHERS).map(|number| number.name);
        let texts = TEXTS.iter().map(|text| text.name);
        numbers.chain(texts).chain(SPECIAL.iter().map(|(name, _)| *name))
    }
}

impl Notation for Key {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return Ok(Key::Variable(leak(text)));
        }
        if let Some(name) = text.strip_prefix("state ") {
            return identifier(name).map(Key::State);
        }
        if let Some(name) = text.strip_prefix("alarm ") {
            return Meaning::parse(name).and_then(|meaning| match meaning {
                Meaning::Raises(alarm) => Ok(Key::Alarm(alarm)),
                _ => Err(format!("`{name}` is no alarm")),
            });
        }
        if let Some(name) = text.strip_prefix("word ") {
            return identifier(name).map(Key::Word);
        }
        let number =
            NUMBERS.iter().chain(OTHERS).find(|number| number.name == text).map(Key::Number);
        let found = number
            .or_else(|| TEXTS.iter().find(|key| key.name == text).map(Key::Text))
            .or_else(|| SPECIAL.iter().find(|(name, _)| *name == text).map(|(_, key)| *key));
        found.ok_or_else(|| match closest(text, Key::names()) {
        Some((known, _)) => format!("there is no key `{text}`; did you mean `{known}`?"),
        None => {
            let known: Vec<_> = Key::names().collect();
            format!(
                "there is no key `{text}`. The keys are {}, `state NAME`, `alarm NAME`, `word NAME` for bits and \
                 $NAME for a variable",
                known.join(", ")
            )
        }
    })
    }
}

impl Notation for Meaning {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("state ") {
            return identifier(name).map(Meaning::State);
        }
        match text {
            "charging_enabled" => return Ok(Meaning::Switch(SwitchKey::Charging)),
            "discharging_enabled" => return Ok(Meaning::Switch(SwitchKey::Discharging)),
            "ignored" => return Ok(Meaning::Ignored),
            _ => {}
        }
        Alarm::from_name(text).map(Meaning::Raises).ok_or_else(|| {
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

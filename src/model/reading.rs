//! What a driver measured in one cycle.
//!
//! `None` means that the battery does not report the value. It stays absent everywhere: never a
//! zero, never a NaN.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alarm::AlarmSet;
use super::named_enum::named_enum;
use super::units::{
    CentiPercent, DeciCelsius, Microohms, MilliampHours, Milliamps, Millivolts, MilliwattHours,
    Milliwatts,
};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub identity: Shared<Identity>,
    pub pack: Pack,
    /// The first one is cell 1.
    pub cells: Vec<Cell>,
    /// Temperature sensors in the order of the protocol.
    pub probes: Vec<Probe>,
    /// Modules of a stack in the order of their cells; empty for a battery in one piece.
    pub modules: Vec<Module>,
    pub switches: Switches,
    pub limits: ChargeLimits,
    pub alarms: AlarmSet,
    /// Other named states that are neither switch nor alarm (`heater_on`, `charger_online`).
    pub states: BTreeMap<&'static str, bool>,
    /// How often each protection has triggered, and other counts, by name.
    pub counters: BTreeMap<&'static str, u32>,
    pub received: Parts,
}

/// A part that hardly ever changes: the readings of a battery share it until one of them changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shared<T>(Arc<T>);

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(part: T) -> Self {
        Shared(Arc::new(part))
    }
}

impl Reading {
    /// The parts that arrived, as the driver noted them. Where it notes none, values show them.
    pub fn parts(&self) -> Parts {
        if self.received != Parts::default() {
            return self.received;
        }
        Parts {
            device_info: *self.identity != Identity::default(),
            cell_info: !self.cells.is_empty() || self.pack != Pack::default(),
            settings: false,
        }
    }

    /// The temperatures of the sensors at this location; `None` for one that is not fitted.
    pub fn probes_at(
        &self,
        location: SensorLocation,
    ) -> impl Iterator<Item = Option<DeciCelsius>> + Clone {
        let probes = self.probes.iter().filter(move |probe| probe.location == location);
        probes.map(|probe| probe.value)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub hardware: Option<String>,
    pub software: Option<String>,
    pub serial: Option<String>,
    /// ISO date: `2022-03-28`.
    pub manufactured: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    pub voltage: Option<Millivolts>,
    pub current: Option<Milliamps>,
    /// As reported; where it is `None`, `derive` computes the power.
    pub power: Option<Milliwatts>,
    pub soc: Option<CentiPercent>,
    pub soh: Option<CentiPercent>,
    pub remaining: Option<MilliampHours>,
    /// Charge when full, as the battery has learned it.
    pub full: Option<MilliampHours>,
    pub design: Option<MilliampHours>,
    /// For batteries that count in watt-hours.
    pub remaining_energy: Option<MilliwattHours>,
    pub cycles: Option<u32>,
    /// 0 is "no error".
    pub error_code: Option<u32>,
    /// As reported; where it is `None`, `derive` uses the sign of the current.
    pub activity: Option<Activity>,
    pub console_status: ConsoleStatus,
}

/// The states that a text console prints for the pack: `Charge`, `Normal`, `Low`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsoleStatus {
    pub base: Option<String>,
    pub voltage: Option<String>,
    pub current: Option<String>,
    pub temperature: Option<String>,
}

/// Limits that the battery sets for chargers and loads at the moment, and those of its own
/// protections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChargeLimits {
    pub charge_voltage: Option<Millivolts>,
    pub discharge_voltage: Option<Millivolts>,
    pub charge_current: Option<Milliamps>,
    /// Negative, like every discharge current.
    pub discharge_current: Option<Milliamps>,
    /// The battery stops charging when a cell exceeds it.
    pub cell_upper: Option<Millivolts>,
    /// The battery stops discharging when a cell falls below it.
    pub cell_lower: Option<Millivolts>,
    pub pack_upper: Option<Millivolts>,
    pub pack_lower: Option<Millivolts>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub voltage: Option<Millivolts>,
    /// Of the cell or of its balance wire.
    pub resistance: Option<Microohms>,
    /// Where each cell has a sensor of its own.
    pub temperature: Option<DeciCelsius>,
    /// This cell is being balanced now.
    pub balancing: Option<bool>,
    /// As printed by a text console.
    pub voltage_status: Option<String>,
    /// As printed by a text console.
    pub temperature_status: Option<String>,
}

impl Cell {
    /// A cell of which only the voltage is known.
    pub fn of(voltage: Millivolts) -> Self {
        Cell { voltage: Some(voltage), ..Cell::default() }
    }
}

/// One module of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    pub serial: Option<String>,
    /// Indices into [`Reading::cells`]; empty when only the range is known.
    pub cells: Range<usize>,
    /// Lowest and highest cell voltage as reported; where it is `None`, `derive` looks at `cells`.
    pub range: Option<(Millivolts, Millivolts)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub location: SensorLocation,
    /// `None` for a sensor that the protocol provides for and this battery lacks. It keeps its
    /// number.
    pub value: Option<DeciCelsius>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SensorLocation {
    /// The numbered sensors `temp_1` to `temp_N`.
    Cells,
    Mosfet,
    /// Inside the battery's case.
    Ambient,
    /// The mean of the cells as the battery reports it.
    Average,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    pub charging: Option<bool>,
    pub discharging: Option<bool>,
    /// Balancing is allowed; [`Cell::balancing`] is what happens now.
    pub balancing: Option<bool>,
}

impl Switches {
    pub fn get(&self, switch: Switch) -> Option<bool> {
        match switch {
            Switch::Charging => self.charging,
            Switch::Discharging => self.discharging,
            Switch::Balancing => self.balancing,
        }
    }
}

named_enum! {
    /// A switch that an operator may turn.
    Switch {
        Charging = "charging",
        Discharging = "discharging",
        Balancing = "balancing",
    }
}

impl Switch {
    /// Key of the published state.
    pub fn key(self) -> &'static str {
        match self {
            Switch::Charging => "charging_enabled",
            Switch::Discharging => "discharging_enabled",
            Switch::Balancing => "balancing_enabled",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Switch::Charging => "Charging",
            Switch::Discharging => "Discharging",
            Switch::Balancing => "Balancing allowed",
        }
    }
}

/// The wanted state of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    #[serde(rename = "name")]
    pub switch: Switch,
    pub on: bool,
}

/// For people: `charging off`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.switch.name(), if self.on { "on" } else { "off" })
    }
}

named_enum! {
    Activity {
        Charging = "charging",
        Discharging = "discharging",
        Idle = "idle",
    }
}

impl Activity {
    /// By the sign of the current.
    pub fn of(current: Milliamps) -> Self {
        match current.0 {
            0 => Activity::Idle,
            1.. => Activity::Charging,
            _ => Activity::Discharging,
        }
    }
}

/// The parts of a reading that arrived (`got` in the `raw` JSON).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Parts {
    pub device_info: bool,
    pub cell_info: bool,
    pub settings: bool,
}

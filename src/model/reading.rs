//! What a driver measured in one cycle. Every field is optional: `None` means that this brand did
//! not say, and stays absent all the way to the user. Never a zero, never a NaN.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::alarm::AlarmSet;
use super::snapshot::Activity;
use super::units::{
    CentiPercent, DeciCelsius, Microohms, MilliampHours, Milliamps, Millivolts, MilliwattHours,
    Milliwatts,
};

/// One cycle's worth of facts about a battery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Who the battery says it is.
    pub identity: Identity,
    /// The pack as a whole.
    pub pack: Pack,
    /// Cells in order; the first one is cell 1.
    pub cells: Vec<Cell>,
    /// Temperature sensors in the order the battery lists them.
    pub probes: Vec<Probe>,
    /// Modules of a stack in the order of their cells; none for a battery that is one piece.
    pub modules: Vec<Module>,
    /// What the battery lets happen.
    pub switches: Switches,
    /// What the battery asks of chargers and loads, and where it protects itself.
    pub limits: ChargeLimits,
    /// Protections and warnings.
    pub alarms: AlarmSet,
    /// Further named states that are neither switch nor alarm (`heater_on`, `charger_online`).
    pub states: BTreeMap<&'static str, bool>,
    /// How often each protection has struck so far, and other counts, by name.
    pub counters: BTreeMap<&'static str, u32>,
    /// Which parts of the conversation arrived.
    pub received: Parts,
}

/// Names, numbers and versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub manufacturer: Option<String>,
    /// Model as the battery names it.
    pub model: Option<String>,
    /// Hardware version.
    pub hardware: Option<String>,
    /// Firmware version.
    pub software: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Day on which it was made: `2022-03-28`.
    pub manufactured: Option<String>,
}

/// The pack as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    /// Terminal voltage.
    pub voltage: Option<Millivolts>,
    /// Positive while charging.
    pub current: Option<Milliamps>,
    /// Power where the battery itself reports it; otherwise it is derived.
    pub power: Option<Milliwatts>,
    /// State of charge.
    pub soc: Option<CentiPercent>,
    /// State of health.
    pub soh: Option<CentiPercent>,
    /// Charge left.
    pub remaining: Option<MilliampHours>,
    /// Charge when full, as learned by the battery.
    pub full: Option<MilliampHours>,
    /// Charge when full, as sold.
    pub design: Option<MilliampHours>,
    /// Energy left, where the battery counts in watt-hours.
    pub remaining_energy: Option<MilliwattHours>,
    /// Full cycles so far.
    pub cycles: Option<u32>,
    /// The battery's own error number; 0 is "no error".
    pub error_code: Option<u32>,
    /// What it says it is doing, where it says so; otherwise the sign of the current tells.
    pub activity: Option<Activity>,
    /// A console's words, as it prints them.
    pub console_status: ConsoleStatus,
}

/// What a text console calls the state of a battery: `Charge`, `Normal`, `Low`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsoleStatus {
    /// What it is doing.
    pub base: Option<String>,
    /// Of its voltages.
    pub voltage: Option<String>,
    /// Of its current.
    pub current: Option<String>,
    /// Of its temperatures.
    pub temperature: Option<String>,
}

/// What the battery asks of chargers and loads at this moment, and where it protects itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChargeLimits {
    /// Charge no higher than this.
    pub charge_voltage: Option<Millivolts>,
    /// Discharge no lower than this.
    pub discharge_voltage: Option<Millivolts>,
    /// Charge with no more than this.
    pub charge_current: Option<Milliamps>,
    /// Discharge with no more than this; negative like every discharge.
    pub discharge_current: Option<Milliamps>,
    /// A cell above it stops the charge.
    pub cell_upper: Option<Millivolts>,
    /// A cell below it stops the discharge.
    pub cell_lower: Option<Millivolts>,
    /// A pack above it stops the charge.
    pub pack_upper: Option<Millivolts>,
    /// A pack below it stops the discharge.
    pub pack_lower: Option<Millivolts>,
}

impl Pack {
    /// What it takes to tell how long the charge will last.
    pub fn charge_and_current(&self) -> Option<(MilliampHours, Milliamps)> {
        self.remaining.zip(self.current)
    }
}

/// One cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// Its voltage.
    pub voltage: Option<Millivolts>,
    /// Its (or its wire's) resistance.
    pub resistance: Option<Microohms>,
    /// Its own temperature, where each cell has a sensor.
    pub temperature: Option<DeciCelsius>,
    /// Whether it is being balanced.
    pub balancing: Option<bool>,
    /// A console's word for the state of its voltage.
    pub voltage_status: Option<String>,
    /// A console's word for the state of its temperature.
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
    /// Its serial number.
    pub serial: Option<String>,
    /// Where its cells stand in the list of all cells; empty when only its range is known.
    pub cells: Range<usize>,
    /// Its lowest and highest cell where the battery reports them; otherwise its cells tell.
    pub range: Option<(Millivolts, Millivolts)>,
}

/// One temperature sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Where it sits.
    pub location: SensorLocation,
    /// `None`: fitted in the protocol, but not in this battery. It keeps its number.
    pub value: Option<DeciCelsius>,
}

/// Where a temperature was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SensorLocation {
    /// Among the cells: the numbered sensors `temp_1` to `temp_N`.
    Cells,
    /// At the power transistors.
    Mosfet,
    /// In the battery's case.
    Ambient,
    /// The battery's own mean over its cells.
    Average,
}

/// What the battery lets happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// Charging transistor on.
    pub charging: Option<bool>,
    /// Discharging transistor on.
    pub discharging: Option<bool>,
    /// Balancing allowed; whether a cell is being balanced right now is a matter of the cell.
    pub balancing: Option<bool>,
}

/// A switch of the battery that an operator may turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Charging transistor.
    Charging,
    /// Discharging transistor.
    Discharging,
    /// Balancing.
    Balancing,
}

impl Switch {
    /// Every switch.
    pub const ALL: [Switch; 3] = [Switch::Charging, Switch::Discharging, Switch::Balancing];

    /// Its name in topics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Switch::Charging => "charging",
            Switch::Discharging => "discharging",
            Switch::Balancing => "balancing",
        }
    }

    /// Key of the value that says how it stands.
    pub fn key(self) -> &'static str {
        match self {
            Switch::Charging => "charging_enabled",
            Switch::Discharging => "discharging_enabled",
            Switch::Balancing => "balancing_enabled",
        }
    }
}

/// What a battery is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    #[serde(rename = "name")]
    pub switch: Switch,
    /// Its new state.
    pub on: bool,
}

/// For people: `charging off`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.switch.name(), if self.on { "on" } else { "off" })
    }
}

impl Switches {
    /// The state of one of them.
    pub fn get(&self, switch: Switch) -> Option<bool> {
        match switch {
            Switch::Charging => self.charging,
            Switch::Discharging => self.discharging,
            Switch::Balancing => self.balancing,
        }
    }
}

/// Which parts of the conversation arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Names and versions.
    pub device_info: bool,
    /// The live values.
    pub cell_info: bool,
    /// Settings of the battery.
    pub settings: bool,
}

//! Readings, alarms, faults, and everything that is computed from them.
//!
//! Nothing here does IO, reads a clock or is async, so every rule is a plain function.

// Plain data.
pub mod alarm;
pub mod broker;
pub mod derived;
pub mod device_state;
pub mod energy;
pub mod fault;
pub mod installation;
pub mod profile;
pub mod reading;
pub mod secret;
pub mod snapshot;
pub mod staleness;
pub mod thresholds;
pub mod time_zone;
pub mod units;
pub mod value;

// Computations.
pub mod active_alarms;
pub mod alarm_diff;
mod alarm_message;
pub mod bank;
mod capacity_run;
pub mod catalog;
pub mod cell_health;
pub mod derive;
pub mod derived_state;
pub mod energy_base;
pub mod energy_counter;
pub mod entries;
pub mod forecast;
pub mod health_report;
pub mod plausible;
pub mod threshold_monitor;

mod named_enum;

pub use alarm::{Alarm, AlarmSet, Severity};
pub use alarm_diff::AlarmDiff;
pub use broker::BrokerState;
pub use derived::{ActiveAlarm, AlarmKey, AlarmSource, Derived};
pub use device_state::{Attempt, Counters, DeviceState, LinkState};
pub use energy::{Energy, EnergyTotals};
pub use energy_base::{EnergySource, Restored};
pub use entries::{Entry, EntryKey, entries};
pub use fault::{Fault, FaultKind};
pub use installation::Installation;
pub use profile::{DeviceId, Profile};
pub use reading::{
    Activity, Cell, ChargeLimits, ConsoleStatus, Identity, Module, Pack, Parts, Probe, Reading,
    SensorLocation, Setting, Shared, Switch, Switches,
};
pub use secret::Secret;
pub use snapshot::Snapshot;
pub use thresholds::{AlarmThresholds, Threshold};
pub use time_zone::TimeZone;
pub use units::{
    CentiPercent, DeciCelsius, Microohms, MilliampHours, Milliamps, Millis, Millivolts,
    MilliwattHours, Milliwatts, Uptime,
};
pub use value::Value;

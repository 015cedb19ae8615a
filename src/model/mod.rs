//! What a battery is: readings, alarms, faults, and the tables that describe them.
//!
//! Nothing here does IO, looks at a clock or is async, so every rule can be tested as a function.

pub mod active_alarms;
pub mod alarm;
pub mod alarm_diff;
pub mod bank;
pub mod broker;
pub mod catalog;
pub mod derive;
pub mod derived_state;
pub mod energy;
mod entries;
pub mod fault;
pub mod forecast;
pub mod plausible;
pub mod profile;
pub mod reading;
pub mod secret;
pub mod snapshot;
pub mod thresholds;
pub mod units;
pub mod value;

pub use active_alarms::{ActiveAlarm, AlarmKey};
pub use alarm::{Alarm, AlarmSet, Severity};
pub use alarm_diff::AlarmDiff;
pub use broker::{BrokerState, DiscoveredDevice};
pub use energy::EnergyTotals;
pub use fault::{Fault, FaultKind};
pub use profile::{DeviceId, Profile};
pub use reading::Reading;
pub use secret::Secret;
pub use snapshot::{Attempt, Counters, Derived, DeviceState, LinkState, Restored, Snapshot};
pub use thresholds::AlarmThresholds;
pub use value::Value;

//! What a battery is: readings, alarms, faults, and the tables that describe them.
//!
//! Nothing here does IO, looks at a clock or is async, so every rule can be tested as a function.

pub mod alarm;
pub mod bank;
pub mod catalog;
pub mod derive;
mod entries;
pub mod fault;
pub mod forecast;
pub mod ledger;
pub mod limits;
pub mod past;
pub mod plausible;
pub mod profile;
pub mod reading;
pub mod secret;
pub mod snapshot;
pub mod surroundings;
pub mod units;
pub mod value;
pub mod worry;

pub use alarm::{Alarm, AlarmSet, Severity};
pub use fault::{Fault, FaultKind};
pub use ledger::Totals;
pub use limits::Limits;
pub use profile::{DeviceId, Profile};
pub use reading::Reading;
pub use secret::Secret;
pub use snapshot::{Attempt, Counters, Derived, DeviceState, LinkState, Restored, Snapshot};
pub use surroundings::{BrokerState, Finding};
pub use value::Value;

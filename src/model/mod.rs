//! What a battery is: readings, alarms, faults, and the tables that describe them.
//!
//! Nothing here does IO, looks at a clock or is async, so every rule can be tested as a function.

pub mod alarm;
pub mod catalog;
pub mod derive;
mod entries;
pub mod fault;
pub mod profile;
pub mod reading;
pub mod secret;
pub mod snapshot;
pub mod surroundings;
pub mod units;
pub mod value;

pub use alarm::{Alarm, AlarmSet, Severity};
pub use fault::{Fault, FaultKind};
pub use profile::{DeviceId, Profile};
pub use reading::Reading;
pub use secret::Secret;
pub use snapshot::{Attempt, Counters, Derived, DeviceState, LinkState, Snapshot};
pub use surroundings::{BrokerState, Finding};
pub use value::Value;

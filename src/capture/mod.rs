//! Records the traffic with the batteries as JSON lines, for bug reports.
//!
//! A capture contains every byte in both directions with its time, the events of the connection and
//! the result of each attempt. Secrets are redacted before they are written. `replay` feeds the
//! bytes to the driver again, which must return the same readings and errors.

mod event;
mod recorder;
mod traffic_log;

pub use event::{DriverSetup, Entry, Event, FORMAT};
pub use recorder::Recorder;
pub use traffic_log::TrafficLog;

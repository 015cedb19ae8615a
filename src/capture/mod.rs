//! What was said on the wires, as JSON lines: a bug report that carries its own test.
//!
//! Every byte in both directions is written down with its time, and so are the events of the link
//! and what came of each attempt. Secrets are blanked before they are written. A replay plays the
//! bytes back through the driver, so it must come to the same readings and the same errors.

mod event;
mod recorder;
mod traffic_log;

pub use event::{DriverSetup, Entry, Event};
pub use recorder::Recorder;
pub use traffic_log::TrafficLog;

/// Version of the format, in the first line of a capture.
pub const FORMAT: u32 = 1;

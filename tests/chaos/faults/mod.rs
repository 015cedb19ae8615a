//! The faults. Each group has a file, and one fault of a group is active at a time.

mod bluetooth;
mod broker;
mod gateway;
mod http;
mod mqtt;
mod port;
mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::plan::Random;
use crate::rig::Rig;

/// A way in which the surroundings of the program fail.
#[derive(Debug)]
pub struct Fault {
    /// Unique, as it names a row of the report.
    pub name: &'static str,
    pub group: &'static str,
    /// Starts the fault; the result ends it. Both return at once: what takes longer is done in a
    /// thread, see [`repeat`].
    pub apply: fn(&mut Rig, &mut Random) -> Undo,
}

/// Ends a fault.
pub type Undo = Box<dyn FnOnce(&mut Rig)>;

/// Every fault, by group.
pub const FAULTS: &[&[Fault]] = &[
    broker::FAULTS,
    port::FAULTS,
    gateway::FAULTS,
    bluetooth::FAULTS,
    process::FAULTS,
    http::FAULTS,
    mqtt::FAULTS,
];

/// For a fault that is over at once.
pub fn nothing() -> Undo {
    Box::new(|_| {})
}

/// Calls `work` in a thread until the fault ends. A call must not take longer than a second.
pub fn repeat(mut work: impl FnMut() + Send + 'static) -> Undo {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            work();
        }
    });
    Box::new(move |_| {
        stop.store(true, Ordering::Relaxed);
        let _ = thread.join();
    })
}

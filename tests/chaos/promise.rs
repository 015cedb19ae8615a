//! What the program promises.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    Values,
    Fresh,
    Online,
    Recovery,
    Running,
    Resources,
    Energy,
    Stop,
}

impl Promise {
    pub const ALL: [Promise; 8] = [
        Promise::Values,
        Promise::Fresh,
        Promise::Online,
        Promise::Recovery,
        Promise::Running,
        Promise::Resources,
        Promise::Energy,
        Promise::Stop,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Promise::Values => "true values",
            Promise::Fresh => "no old value",
            Promise::Online => "`online` right",
            Promise::Recovery => "well within 60 s",
            Promise::Running => "never ends",
            Promise::Resources => "resources",
            Promise::Energy => "energy",
            Promise::Stop => "clean stop",
        }
    }
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Broken {
    pub promise: Promise,
    /// Since the start of the observer.
    pub at: Duration,
    pub detail: String,
}

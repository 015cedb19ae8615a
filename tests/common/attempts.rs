//! What the program logs about its attempts to connect.

#![allow(dead_code, reason = "every test crate uses its own part of it")]

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Subscriber;

/// A log in memory.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Writes everything from DEBUG on to it.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let writer = self.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Since the log had that length.
    pub fn since(&self, from: usize) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()[from..]).into_owned()
    }

    /// How many times the back-off of that battery ended early.
    pub fn early_ends(&self, from: usize, endpoint: &str) -> usize {
        let end = format!("{endpoint}: worth another attempt");
        self.since(from).matches(&end).count()
    }

    /// The pauses of that battery in seconds, at most.
    pub fn pauses(&self, from: usize, endpoint: &str) -> Vec<f32> {
        let text = self.since(from);
        let start = format!("{endpoint}: next attempt within ");
        let pauses = text.split(&start).skip(1);
        pauses.filter_map(|pause| pause.split(' ').next()?.parse().ok()).collect()
    }

    /// The present one.
    pub fn pause(&self, from: usize, endpoint: &str) -> Option<f32> {
        self.pauses(from, endpoint).pop()
    }
}

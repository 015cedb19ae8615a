//! Writes a capture to a file, off the path of the batteries.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use super::event::{Entry, Event};

/// Lines that may wait for a slow disk; further ones are counted and left out.
const WAITING: usize = 1024;
/// A capture that was forgotten must not fill the disk.
const LARGEST: u64 = 64 * 1024 * 1024;

/// A handle for writing lines; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    lines: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Opens the file, behind what it holds already. The task ends when every handle is gone.
    pub fn open(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        let (lines, waiting) = mpsc::channel(WAITING);
        let shown = path.display().to_string();
        let writer = tokio::task::spawn_blocking(move || {
            if let Err(error) = write_all(file, size, waiting) {
                warn!("BMS_CAPTURE: nothing more is written to {shown}: {error}");
            }
        });
        Ok((Recorder { lines, lost: Arc::default() }, writer))
    }

    /// Hands a line over without waiting.
    pub(super) fn write(&self, entry: Entry) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            let gap = Entry { event: Event::Gap { lines: lost }, ..entry.clone() };
            if self.lines.try_send(gap).is_ok() {
                self.lost.fetch_sub(lost, Ordering::Relaxed);
            }
        }
        if self.lines.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(file: File, mut size: u64, mut waiting: mpsc::Receiver<Entry>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    while let Some(entry) = waiting.blocking_recv() {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        size = size.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        if size > LARGEST {
            out.flush()?;
            let limit = LARGEST / 1024 / 1024;
            return Err(io::Error::other(format!("it has grown to {limit} MiB")));
        }
        out.write_all(&line)?;
        if waiting.is_empty() {
            out.flush()?;
        }
    }
    out.flush()
}

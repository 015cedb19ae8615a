//! Writes a capture to a file without delaying the batteries.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use super::event::{Entry, Event};

/// Lines that may wait for a slow disk; more are dropped and counted.
const QUEUE: usize = 1024;
/// A forgotten capture must not fill the disk.
const MAX_SIZE: u64 = 64 * 1024 * 1024;

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    lines: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Appends to the file. The task ends when every handle is dropped.
    pub fn open(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        // It contains serial numbers, and frames whose secrets no driver knows.
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        let (lines, queue) = mpsc::channel(QUEUE);
        let shown = path.display().to_string();
        let writer = tokio::task::spawn_blocking(move || {
            if let Err(error) = write_all(file, size, queue) {
                warn!("capture: stopped writing to {shown}: {error}");
            }
        });
        Ok((Recorder { lines, dropped: Arc::default() }, writer))
    }

    pub(super) fn write(&self, entry: Entry) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let gap = Entry { event: Event::Gap { lines: dropped }, ..entry.clone() };
            if self.lines.try_send(gap).is_ok() {
                self.dropped.fetch_sub(dropped, Ordering::Relaxed);
            }
        }
        if self.lines.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(file: File, mut size: u64, mut queue: mpsc::Receiver<Entry>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    while let Some(entry) = queue.blocking_recv() {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        size = size.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        if size > MAX_SIZE {
            out.flush()?;
            let limit = MAX_SIZE / 1024 / 1024;
            return Err(io::Error::other(format!("the file has reached {limit} MiB")));
        }
        out.write_all(&line)?;
        if queue.is_empty() {
            out.flush()?;
        }
    }
    out.flush()
}

//! The log on stderr. While the service runs, a thread of its own writes it: a pipe that is not read
//! must stop neither the batteries nor the broker, nor the stop of the program.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::{CommandError, misconfigured};
use crate::config::{LogSettings, log_filter};

/// Lines that wait for stderr, in bytes. A pipe holds another 64 KiB.
const CAPACITY: usize = 128 * 1024;
/// The stop of the program waits this long for the last lines, and then as long for the line that is being written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(150);

/// Set when the service starts; the commands write without a queue.
static QUEUED: OnceLock<QueuedStderr> = OnceLock::new();
/// Changes the filter of the running log.
static FILTER: OnceLock<reload::Handle<Targets, tracing_subscriber::Registry>> = OnceLock::new();

#[derive(Debug)]
struct QueuedStderr {
    queue: LogQueue,
    /// Not `io::stderr()`, whose lock would block others during a write.
    stderr: File,
    /// The thread that writes; empty before it runs.
    writer: OnceLock<ThreadId>,
}

/// Logs to stderr, in colour on a terminal.
pub(super) fn start(log: &LogSettings) -> Result<(), CommandError> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let filtered = tracing_subscriber::registry().with(filter);
    let _ = FILTER.set(handle);
    // A second start in one process (tests) keeps the first log.
    let _ = match log.json {
        true => filtered.with(lines.json()).try_init(),
        false => filtered.with(lines).try_init(),
    };
    Ok(())
}

/// Applies a level as `LOG_LEVEL` does, until the program ends.
pub(super) fn set_level(level: &'static str) {
    if let (Some(handle), Ok(filter)) = (FILTER.get(), log_filter(level).parse::<Targets>()) {
        // Fails only after the end of the log.
        let _ = handle.reload(filter);
    }
}

/// Logs to stderr from a thread. Where no thread can be started, the caller writes.
pub(super) fn start_queued(log: &LogSettings) -> Result<(), CommandError> {
    start(log)?;
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return Ok(()) };
    let queued = QueuedStderr {
        queue: LogQueue::new(CAPACITY),
        stderr: stderr.into(),
        writer: OnceLock::new(),
    };
    let Ok(()) = QUEUED.set(queued) else { return Ok(()) };
    let thread = thread::Builder::new().name("log".to_owned()).spawn(|| {
        if let Some(QueuedStderr { queue, stderr, .. }) = QUEUED.get() {
            queue.write_to(stderr, |lost| {
                tracing::warn!("log: {lost} lines were lost, because stderr was not read");
            });
        }
    });
    if let (Ok(thread), Some(queued)) = (thread, QUEUED.get()) {
        let _ = queued.writer.set(thread.thread().id());
    }
    Ok(())
}

/// Logs to this writer as plain text without times.
pub(super) fn start_in(
    log: &LogSettings,
    writer: impl Write + Clone + Send + Sync + 'static,
) -> Result<(), CommandError> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .with_target(false);
    let _ = tracing_subscriber::registry().with(filter(log)?).with(lines).try_init();
    Ok(())
}

/// Ends the log: waits a moment until its last lines are written.
pub(super) fn flush() {
    if let Some(queued) = QUEUED.get().filter(|queued| queued.writer.get().is_some()) {
        queued.queue.flush(FLUSH_TIMEOUT);
    }
}

/// `Targets` is the filter without regular expressions,
/// which would add 0.2 MB to the static binary.
fn filter(log: &LogSettings) -> Result<Targets, CommandError> {
    log.filter.parse().map_err(|error| {
        misconfigured(format!(
            "RUST_LOG is not a log filter ({error}); for example: warn,bms_reader=debug"
        ))
    })
}

struct Stderr;

enum LineWriter<'a> {
    Queue(&'a LogQueue),
    /// For the writing thread itself.
    File(&'a File),
    Stderr,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        match QUEUED.get().and_then(|queued| Some((queued, queued.writer.get()?))) {
            None => LineWriter::Stderr,
            Some((queued, writer)) if *writer == thread::current().id() => {
                LineWriter::File(&queued.stderr)
            }
            Some((queued, _)) => LineWriter::Queue(&queued.queue),
        }
    }
}

impl Write for LineWriter<'_> {
    /// Called once for each line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            LineWriter::Queue(queue) => queue.push(line),
            // Nothing can be reported about an error here.
            LineWriter::File(file) => drop((&**file).write_all(line)),
            LineWriter::Stderr => drop(io::stderr().write_all(line)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way to the thread that writes them.
#[derive(Debug)]
struct LogQueue {
    /// In bytes.
    capacity: usize,
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// In `waiting`.
    bytes: usize,
    /// Since the queue was full. Until this is reported all further lines are lost, so that the
    /// report stands where they are missing.
    lost: u64,
    /// A line that left the queue is not written yet.
    writing: bool,
    /// The program stops. Tasks that still run log nothing any more.
    closed: bool,
}

impl LogQueue {
    fn new(capacity: usize) -> Self {
        LogQueue { capacity, lines: Mutex::default(), changed: Condvar::new() }
    }

    /// Never waits.
    fn push(&self, line: &[u8]) {
        let mut lines = self.lines();
        if lines.closed {
            return;
        }
        if lines.lost > 0 || lines.bytes + line.len() > self.capacity {
            lines.lost += 1;
        } else {
            lines.bytes += line.len();
            lines.waiting.push_back(line.to_vec());
        }
        self.changed.notify_all();
    }

    /// Writes the lines, forever. `report_lost` writes how many were lost.
    fn write_to(&self, mut output: impl Write, report_lost: impl Fn(u64)) {
        loop {
            let mut lines = self.lines();
            lines.writing = false;
            self.changed.notify_all();
            let idle = |lines: &mut Lines| lines.waiting.is_empty() && lines.lost == 0;
            let waited = self.changed.wait_while(lines, idle);
            let mut lines = waited.unwrap_or_else(PoisonError::into_inner);
            lines.writing = true;
            match lines.waiting.pop_front() {
                Some(line) => {
                    lines.bytes -= line.len();
                    drop(lines);
                    // A closed stderr loses the log, and nothing else.
                    let _ = output.write_all(&line);
                }
                None => {
                    let lost = std::mem::take(&mut lines.lost);
                    drop(lines);
                    report_lost(lost);
                }
            }
        }
    }

    fn flush(&self, limit: Duration) {
        let unwritten =
            |lines: &mut Lines| lines.writing || !lines.waiting.is_empty() || lines.lost > 0;
        let mut lines = self.lines();
        lines.closed = true;
        let waited = self.changed.wait_timeout_while(lines, limit, unwritten);
        let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        lines.lost += lines.waiting.drain(..).count() as u64;
        // A line is cut only if the pipe takes no more of it.
        drop(self.changed.wait_timeout_while(lines, limit, |lines| lines.writing));
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Accepts a line when the test takes it.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(line).into_owned();
            self.0.send(text).map(|()| line.len()).map_err(io::Error::other)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(capacity: usize) -> (Arc<LogQueue>, Receiver<String>) {
        let queue = Arc::new(LogQueue::new(capacity));
        let (sender, receiver) = sync_channel(0);
        let (written, report) = (queue.clone(), sender.clone());
        thread::spawn(move || {
            written.write_to(Pipe(sender), |lost| drop(report.send(format!("{lost} lost"))));
        });
        (queue, receiver)
    }

    #[test]
    fn lost_lines_are_reported_where_they_are_missing() {
        let (queue, pipe) = start(20);
        queue.push(b"in the pipe");
        wait_for_writer(&queue);
        // The next two fit, the third does not, and the fourth must not overtake the report.
        for line in ["first 10 b", "second 10.", "third", "4"] {
            queue.push(line.as_bytes());
        }
        let next = || pipe.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!([next(), next(), next()], ["in the pipe", "first 10 b", "second 10."]);
        assert_eq!(next(), "2 lost");
        queue.push(b"later");
        assert_eq!(next(), "later");
    }

    /// Waits until the writer has taken the first line.
    fn wait_for_writer(queue: &LogQueue) {
        while !queue.lines().waiting.is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn flush_waits_for_the_last_line_but_not_forever() {
        let (queue, pipe) = start(100);
        queue.push(b"last");
        wait_for_writer(&queue);
        queue.flush(Duration::from_millis(1));
        assert!(queue.lines().writing, "the pipe is not read");
        let reader = thread::spawn(move || pipe.recv_timeout(Duration::from_secs(30)).unwrap());
        queue.flush(Duration::from_secs(60));
        let lines = queue.lines();
        assert!(!lines.writing && lines.waiting.is_empty());
        assert_eq!(reader.join().unwrap(), "last");
    }

    #[test]
    fn flush_ends_the_log_with_a_whole_line() {
        let (queue, pipe) = start(100);
        queue.push(b"in the pipe");
        wait_for_writer(&queue);
        queue.push(b"waits too long");
        queue.flush(Duration::from_millis(1));
        queue.push(b"after the end");
        let next = || pipe.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!([next(), next()], ["in the pipe", "1 lost"]);
        assert!(pipe.recv_timeout(Duration::from_millis(20)).is_err());
    }
}

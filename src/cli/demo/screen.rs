//! What the demo shows: on a terminal a table that is updated in place with the newest log lines
//! below it, otherwise a line for each read.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write, stdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::cli::table::{Row, cut, render};
use crate::cli::terminal::{self, Size};
use crate::clock;

const REFRESH: Duration = Duration::from_millis(500);
/// More than fit on any screen.
const MAX_LOG_LINES: usize = 100;

/// The other screen of the terminal, without a cursor and without wrapping of long lines.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_REST_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The newest log lines, for the screen.
#[derive(Debug, Clone, Default)]
pub(super) struct LogLines(Arc<Mutex<VecDeque<String>>>);

impl LogLines {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The log writes each line as a whole.
impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(String::from_utf8_lossy(bytes).trim_end().to_owned());
        if lines.len() > MAX_LOG_LINES {
            lines.pop_front();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the log belongs on the screen: it would write over the table.
pub(super) fn shows_log() -> bool {
    stdout().is_terminal() && io::stderr().is_terminal()
}

/// Shows the batteries until the stop.
pub(super) async fn show(
    header: Vec<String>,
    log: LogLines,
    board: Board,
    stop: CancellationToken,
) {
    match terminal::size() {
        Some(size) => show_table(header, log, board, stop, size).await,
        None => show_lines(header, board, stop).await,
    }
}

async fn show_table(
    header: Vec<String>,
    log: LogLines,
    board: Board,
    stop: CancellationToken,
    mut size: Size,
) {
    let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let screen = Screen::enter();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
            _ = resized.recv() => {
                size = spawn_blocking(terminal::size).await.ok().flatten().unwrap_or(size);
            }
        }
        print(&frame(&header, &rows(&board), &log.all(), size));
    }
    drop(screen);
    // The last values stay on the screen of the shell.
    println!("{}", render(&rows(&board), size.columns).join("\n"));
}

/// Restores the terminal, however the demo ends.
struct Screen;

impl Screen {
    fn enter() -> Self {
        print(ENTER);
        Screen
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print(LEAVE);
    }
}

/// A reader that is gone does not end the demo.
fn print(text: &str) {
    let mut stdout = stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn rows(board: &Board) -> Vec<Row> {
    let now = clock::now();
    board.states().map(|state| Row::of(&state, now)).collect()
}

/// Everything on the screen. The header and the table come first, and the log gets the lines that are left.
fn frame(header: &[String], rows: &[Row], log: &[String], size: Size) -> String {
    let mut lines: Vec<String> = header.iter().map(|line| cut(line, size.columns)).collect();
    lines.push(String::new());
    lines.extend(render(rows, size.columns));
    if lines.len() > size.rows {
        let hidden = lines.len() - size.rows + 1;
        lines.truncate(size.rows.saturating_sub(1));
        lines.push(cut(&format!("{hidden} more"), size.columns));
    }
    let room = size.rows.saturating_sub(lines.len() + 1);
    let newest = &log[log.len().saturating_sub(room)..];
    if !newest.is_empty() {
        lines.push(String::new());
        lines.extend(newest.iter().map(|line| cut(line, size.columns)));
    }
    let lines = lines.join(&format!("{CLEAR_REST_OF_LINE}\r\n"));
    format!("{HOME}{lines}{CLEAR_REST_OF_LINE}{CLEAR_BELOW}")
}

async fn show_lines(header: Vec<String>, board: Board, stop: CancellationToken) {
    println!("{}", header.join("\n"));
    let mut updates = board.updates();
    let mut shown: Vec<(String, u64)> = Vec::new();
    while let Some(states) = stop.run_until_cancelled(updates.next()).await {
        for state in states {
            let id = state.profile.id.to_string();
            let number = state.attempt.as_ref().map_or(0, |attempt| attempt.number);
            let known = shown.iter_mut().find(|(known, _)| *known == id);
            let last = match known {
                Some((_, last)) => std::mem::replace(last, number),
                None => {
                    shown.push((id, number));
                    0
                }
            };
            if number > last {
                println!("{}", Row::of(&state, clock::now()).words());
            }
        }
        // A reader that is gone does not end the demo.
        let _ = stdout().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceId, Profile};

    fn profiles() -> impl Iterator<Item = Profile> {
        (1..=9).map(|number| {
            let id = DeviceId::new(&format!("rack_{number}")).unwrap();
            Profile { name: format!("Rack {number}"), ..Profile::new(id, "daren", "Daren") }
        })
    }

    /// The lines on the screen.
    fn screen(columns: usize, rows: usize) -> Vec<String> {
        let header = ["Dashboard: http://127.0.0.1:8099/".to_owned(), "x".repeat(300)];
        let mut log = LogLines::default();
        for number in 0..200 {
            let line = format!("WARN line {number} {}\n", "y".repeat(100));
            log.write_all(line.as_bytes()).unwrap();
        }
        let board = Board::new(profiles());
        let size = Size { columns, rows };
        let frame = frame(&header, &super::rows(&board), &log.all(), size);
        let frame = frame.strip_prefix(HOME).unwrap().strip_suffix(CLEAR_BELOW).unwrap();
        frame
            .split("\r\n")
            .map(|line| line.strip_suffix(CLEAR_REST_OF_LINE).unwrap().to_owned())
            .collect()
    }

    #[test]
    fn frame_fits_the_terminal() {
        for (columns, rows) in [(60, 20), (80, 24), (120, 40), (60, 8), (20, 3), (1, 1)] {
            let lines = screen(columns, rows);
            assert!(lines.len() <= rows, "{columns}x{rows}: {lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
        }
    }

    #[test]
    fn log_is_below_the_table_and_ends_with_the_newest_line() {
        let lines = screen(80, 24);
        assert_eq!(lines[0], "Dashboard: http://127.0.0.1:8099/");
        assert!(lines[3].starts_with("Battery"), "{lines:#?}");
        assert!(lines[12].starts_with("Rack 9"), "{lines:#?}");
        assert_eq!(lines[13], "");
        assert!(lines[23].starts_with("WARN line 199 y"), "{lines:#?}");
    }

    #[test]
    fn rows_without_room_are_counted() {
        let lines = screen(80, 8);
        assert_eq!(lines.last().map(String::as_str), Some("6 more"));
    }
}

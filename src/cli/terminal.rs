//! The terminal that stdout is connected to.

use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// For a terminal that does not know its size, such as a serial console.
const DEFAULT: Size = Size { columns: 80, rows: 24 };
/// Wider lines are hard to read, and a size beyond these is a mistake.
const MAX: Size = Size { columns: 500, rows: 500 };

/// `None` when stdout is not a terminal.
pub(super) fn size() -> Option<Size> {
    stdout().is_terminal().then(|| ask().unwrap_or(DEFAULT))
}

/// `stty` asks the terminal at its stdin. The system call is not available without `unsafe`.
fn ask() -> Option<Size> {
    let terminal = stdout().as_fd().try_clone_to_owned().ok()?;
    let mut stty = Command::new("stty");
    let output = stty.arg("size").stdin(terminal).stderr(Stdio::null()).output().ok()?;
    parse(&String::from_utf8(output.stdout).ok()?)
}

/// Parses the number of rows and of columns.
fn parse(text: &str) -> Option<Size> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok().filter(|n| *n > 0));
    let (rows, columns): (usize, usize) = (numbers.next()??, numbers.next()??);
    Some(Size { columns: columns.min(MAX.columns), rows: rows.min(MAX.rows) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_rows_then_columns() {
        assert_eq!(parse("20 60\n"), Some(Size { columns: 60, rows: 20 }));
        assert_eq!(parse("9999 9999\n"), Some(MAX));
        for unknown in ["", "0 0\n", "24\n", "stty: not a terminal\n"] {
            assert_eq!(parse(unknown), None, "{unknown:?}");
        }
    }
}

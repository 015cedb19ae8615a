//! The shell of a simulated text console: echo, prompt, and mixed line ends.
//!
//! It shares no constants with the driver on purpose: a shared mistake would stay hidden.

use super::{Corruption, PackState};

/// Line ends seen on real consoles, used in turn.
const ENDS: [&str; 4] = ["\r\n", "\n", "\r\r\n", "\n\r"];

const SUCCESS: &str = "Command completed successfully";

#[derive(Debug, Default)]
pub struct Shell {
    pub debug: bool,
    lines: usize,
}

pub fn request_end(buffer: &[u8]) -> Option<usize> {
    buffer.iter().position(|byte| matches!(byte, b'\r' | b'\n')).map(|end| end + 1)
}

pub fn command(request: &[u8]) -> Option<&str> {
    std::str::from_utf8(request).ok().map(str::trim)
}

impl Shell {
    /// Without lines the command is unknown.
    pub fn reply(&mut self, command: &str, lines: Option<Vec<String>>) -> Vec<u8> {
        match lines {
            _ if command.is_empty() => format!("\r\n{}", self.prompt()).into_bytes(),
            Some(lines) => self.succeed(command, &lines),
            None => self.fail(command, &format!("Unknown command '{command}' - try 'help'")),
        }
    }

    pub fn succeed(&mut self, command: &str, lines: &[String]) -> Vec<u8> {
        self.frame(command, lines.iter().map(String::as_str).chain([SUCCESS]))
    }

    pub fn fail(&mut self, command: &str, message: &str) -> Vec<u8> {
        self.frame(command, [message])
    }

    fn prompt(&self) -> &'static str {
        if self.debug { "pylon_debug>" } else { "pylon>" }
    }

    fn frame<'a>(&mut self, command: &'a str, lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        let mut text = String::new();
        for line in [command, "@"].into_iter().chain(lines).chain(["$$"]) {
            text += line;
            text += ENDS[self.lines % ENDS.len()];
            self.lines += 1;
        }
        (text + self.prompt()).into_bytes()
    }
}

pub fn base_state(state: &PackState) -> &'static str {
    match state.current.0 {
        0 => "Idle",
        1.. => "Charge",
        _ => "Dischg",
    }
}

/// The state of a value: whether an alarm is active whose name contains one of these words.
pub fn level(state: &PackState, high: &str, low: &str) -> &'static str {
    let active = |word: &str| state.alarms.iter().any(|alarm| alarm.name().contains(word));
    match (active(high), active(low)) {
        (true, _) => "High",
        (_, true) => "Low",
        _ => "Normal",
    }
}

/// The columns of the lowest and the highest value.
pub fn range(values: impl Iterator<Item = i32> + Clone) -> String {
    let low = values.clone().min().unwrap_or_default();
    format!("{low:<7}{:<7}", values.max().unwrap_or_default())
}

/// A console has no checksum; a damaged digit is the closest equivalent.
pub fn corrupt(corrupt: Corruption, reply: &[u8]) -> Vec<u8> {
    let mut shell = Shell { debug: reply.ends_with(b"pylon_debug>"), lines: 0 };
    let echo = reply.split(|byte| matches!(byte, b'\r' | b'\n')).next().and_then(command);
    match corrupt {
        Corruption::Refused(_) => shell.reply(echo.unwrap_or_default(), None),
        Corruption::Foreign => shell.succeed("time", &["RTC 2026-01-01 00:00:00".to_owned()]),
        Corruption::Checksum => {
            let mut reply = reply.to_vec();
            if let Some(middle) = middle_of_longest_number(&reply) {
                reply[middle] = b'O';
            }
            reply
        }
    }
}

fn middle_of_longest_number(text: &[u8]) -> Option<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for (at, byte) in text.iter().enumerate() {
        if !byte.is_ascii_digit() {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    (!longest.is_empty()).then_some(longest.start + longest.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_has_echo_frame_and_prompt() {
        let mut shell = Shell::default();
        let reply = shell.succeed("time", &["RTC 1".to_owned()]);
        let text = "time\r\n@\nRTC 1\r\r\nCommand completed successfully\n\r$$\r\npylon>";
        assert_eq!(reply, text.as_bytes());
        shell.debug = true;
        assert!(shell.reply("x", None).ends_with(b"pylon_debug>"));
    }

    #[test]
    fn corrupted_reply_has_one_error() {
        let good = Shell::default().succeed("pwr", &["1 402855 34000".to_owned()]);
        let damaged = corrupt(Corruption::Checksum, &good);
        assert!(String::from_utf8(damaged).unwrap().contains("1 402O55 34000"));
        let refused = String::from_utf8(corrupt(Corruption::Refused(4), &good)).unwrap();
        assert!(refused.contains("Unknown command 'pwr'") && refused.ends_with("pylon>"));
        assert!(corrupt(Corruption::Foreign, &good).starts_with(b"time\r\n"));
    }
}

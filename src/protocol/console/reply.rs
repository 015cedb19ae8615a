//! Parses the bytes of a console into whole replies.

use crate::protocol::receive_buffer::ReceiveBuffer;

/// The longest known reply, a table of 120 cells, has 14 kB.
const MAX_REPLY: usize = 64 * 1024;
/// Bytes kept before the echo, which ends them.
const MAX_PREFIX: usize = 512;

/// The prompt behind a reply; it shows whether the console is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    User,
    Debug,
}

/// Neither prompt is a suffix of the other.
const PROMPTS: [(&[u8], Prompt); 2] = [(b"pylon_debug>", Prompt::Debug), (b"pylon>", Prompt::User)];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Trimmed lines without the echo, the frame marks and empty lines. A byte that is not printable
    /// ASCII becomes U+FFFD, so that a damaged number does not parse as a different number.
    pub lines: Vec<String>,
    pub prompt: Prompt,
}

impl Reply {
    /// Whether the reply ends with the success line of the console.
    pub fn succeeded(&self) -> bool {
        self.lines.iter().any(|line| line.eq_ignore_ascii_case("Command completed successfully"))
    }

    /// The line of the console for a command that it does not know in this mode.
    pub fn unknown_command(&self) -> Option<&str> {
        let is_complaint =
            |line: &&String| line.to_ascii_lowercase().starts_with("unknown command");
        self.lines.iter().find(is_complaint).map(String::as_str)
    }

    /// The first line, for error messages.
    pub fn headline(&self) -> &str {
        self.lines.first().map_or("nothing", String::as_str)
    }
}

/// Collects the reply to one command.
#[derive(Debug, Default)]
pub struct ReplyParser {
    command: Vec<u8>,
    line: ReceiveBuffer,
    lines: Vec<String>,
    /// The echo of our command was received.
    echoed: bool,
    /// A line followed the echo.
    started: bool,
    /// The `@` mark behind the echo was received.
    opened: bool,
    /// A prompt directly behind the echo: an empty reply, or a stale prompt.
    bare_prompt: Option<Prompt>,
    /// Bytes behind the echo.
    size: usize,
    pub received: usize,
}

impl ReplyParser {
    pub fn new(command: &str) -> Self {
        ReplyParser { command: command.as_bytes().to_vec(), ..ReplyParser::default() }
    }

    /// Bytes received since the command.
    /// Returns the reply with the last byte of its prompt.
    pub fn push(&mut self, byte: u8) -> Option<Reply> {
        self.received += 1;
        match byte {
            b'\r' | b'\n' => self.end_line(),
            // Some adapters insert zero bytes.
            0 => {}
            byte => self.line.push(byte),
        }
        if !self.echoed {
            let excess = self.line.len().saturating_sub(MAX_PREFIX);
            self.line.consume(excess);
            return None;
        }
        self.size += 1;
        if self.size > MAX_REPLY {
            self.restart();
        }
        let (_, prompt) = PROMPTS.iter().find(|(text, _)| self.line.ends_with(text))?;
        if !self.started {
            self.bare_prompt = Some(*prompt);
            return None;
        }
        let lines = std::mem::take(&mut self.lines);
        *self = ReplyParser { received: self.received, ..ReplyParser::default() };
        Some(Reply { lines, prompt: *prompt })
    }

    /// Call after the timeout: a prompt directly behind the echo was the whole reply.
    pub fn finish(&mut self) -> Option<Reply> {
        let prompt = self.bare_prompt.take().filter(|_| !self.started)?;
        Some(Reply { lines: Vec::new(), prompt })
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if self.is_echo(line) {
            self.echoed = true;
            self.started = false;
            self.opened = false;
            self.size = 0;
            self.lines.clear();
        } else if self.echoed && !line.is_empty() {
            self.started = true;
            match line {
                // A second `@`: another reply is mixed into ours, and the rest is ambiguous.
                b"@" if self.opened => self.restart(),
                b"@" => self.opened = true,
                b"$$" => {}
                _ => self.lines.push(line.iter().map(|byte| character(*byte)).collect()),
            }
        }
    }

    /// Drops everything received; the reply has to start again from its echo.
    fn restart(&mut self) {
        let command = std::mem::take(&mut self.command);
        *self = ReplyParser { command, received: self.received, ..ReplyParser::default() };
    }

    /// A prompt, noise or the end of an older reply may precede the first echo, but not the start of a
    /// longer command: `getpwr` ends with `pwr`.
    fn is_echo(&self, line: &[u8]) -> bool {
        let Some(before) = line.strip_suffix(self.command.as_slice()) else { return false };
        if self.command.is_empty() {
            return false;
        }
        match before {
            [] | [.., b'>'] => true,
            [.., a, b, c] if [a, b, c].iter().all(|byte| byte.is_ascii_lowercase()) => false,
            _ => !self.echoed,
        }
    }
}

fn character(byte: u8) -> char {
    match byte {
        b'\t' => ' ',
        0x20..=0x7E => char::from(byte),
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(command: &str, text: &[u8]) -> Vec<Reply> {
        let mut parser = ReplyParser::new(command);
        text.iter().filter_map(|byte| parser.push(*byte)).collect()
    }

    #[test]
    fn mixed_line_ends_give_the_same_reply() {
        for text in [
            "time\n@\nRTC 1\nCommand completed successfully\n$$\npylon>",
            "time\n\r@\r\r\nRTC 1\r\r\nCommand completed successfully\r\r\n$$\r\n\rpylon>",
            "pylon>time\r@\rRTC 1  \rCommand completed successfully\r$$\rpylon>",
        ] {
            let replies = replies("time", text.as_bytes());
            assert_eq!(replies.len(), 1);
            assert_eq!(replies[0].lines, ["RTC 1", "Command completed successfully"]);
            assert!(replies[0].succeeded() && replies[0].prompt == Prompt::User);
        }
    }

    #[test]
    fn prompt_counts_only_behind_the_echo() {
        let text = b"pylon>\r\npylon>login debug\r\n@\r\n$$\r\npylon_debug>";
        let debug = replies("login debug", text);
        assert_eq!(debug.len(), 1);
        assert_eq!(debug[0].prompt, Prompt::Debug);
        assert_eq!(debug[0].headline(), "nothing");
        assert!(replies("pwr", b"pylon_debug>").is_empty());
        assert!(replies("pwr", b"getpwr\r\n@\r\n1#\r\npylon_debug>").is_empty(), "another command");
    }

    #[test]
    fn second_echo_restarts_the_reply() {
        let text = b"getpwr\r\n@\r\n1#\r\ngetpwr\r\n@\r\n2#\r\n$$\r\npylon_debug>";
        assert_eq!(replies("getpwr", text)[0].lines, ["2#"]);
    }

    #[test]
    fn interleaved_replies_are_dropped() {
        let other = "bat 2\r\n@\r\n3300\r\nCommand completed successfully\r\n$$\r\npylon>";
        for end in [other.len(), other.len() / 2] {
            let text = format!("bat 1\r\n@\r\n3317\r\n{}\r\n3318\r\n$$\r\npylon>", &other[..end]);
            assert!(replies("bat 1", text.as_bytes()).is_empty(), "{text}");
            let text = text + "bat 1\r\n@\r\n3317\r\n3318\r\n$$\r\npylon>";
            assert_eq!(replies("bat 1", text.as_bytes())[0].lines, ["3317", "3318"]);
        }
    }

    #[test]
    fn bare_prompt_is_a_reply_only_after_the_timeout() {
        let mut parser = ReplyParser::new("login debug");
        let text = b"login debug\r\npylon_debug>";
        assert!(text.iter().all(|byte| parser.push(*byte).is_none()));
        assert_eq!(parser.finish().map(|reply| reply.prompt), Some(Prompt::Debug));
        assert_eq!(parser.finish(), None);
        let stale = b"time\npylon>time\r\n@\r\nRTC 1\r\npylon>";
        assert_eq!(replies("time", stale)[0].lines, ["RTC 1"]);
    }

    #[test]
    fn damaged_byte_becomes_a_replacement_character() {
        let reply = &replies("bat", b"bat\r\n3\xB317\r\n3\x00317\r\npylon>")[0];
        assert_eq!(reply.lines, ["3\u{FFFD}17", "3317"]);
    }

    #[test]
    fn endless_reply_is_dropped() {
        let mut parser = ReplyParser::new("pwr");
        let mut feed = |bytes: &[u8]| bytes.iter().filter_map(|b| parser.push(*b)).count();
        assert_eq!(feed(b"pwr\r\n"), 0);
        for _ in 0..3 * MAX_REPLY {
            assert_eq!(feed(b"x\n"), 0);
        }
        assert_eq!(feed(b"pylon>"), 0);
        assert_eq!(feed(b"pwr\r\n@\r\npylon>"), 1);
        assert!(parser.lines.capacity() < 2 * MAX_REPLY);
    }
}

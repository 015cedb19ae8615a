//! From bytes to whole answers.

/// Bytes that an answer may have: the longest, a table of 120 cells, has 14 kB.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Bytes in front of the echo that are worth keeping: it ends them.
const LONGEST_PREFIX: usize = 512;

/// What the console awaits its next command with: it tells whether somebody is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// `pylon>`.
    User,
    /// `pylon_debug>`.
    Debug,
}

/// The prompts of the family. Neither is the end of the other.
const PROMPTS: [(&[u8], Prompt); 2] = [(b"pylon_debug>", Prompt::Debug), (b"pylon>", Prompt::User)];

/// One whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its lines, trimmed, without the echo, the frame and empty ones. A byte that is no character
    /// of ASCII became U+FFFD, so that no number with a hole in it is read as another number.
    pub lines: Vec<String>,
    /// What came behind it.
    pub prompt: Prompt,
}

impl Reply {
    /// Whether the console says that the command worked.
    pub fn succeeded(&self) -> bool {
        self.lines.iter().any(|line| line.eq_ignore_ascii_case("Command completed successfully"))
    }

    /// What the console says when it does not know the command, at least in this mode.
    pub fn complaint(&self) -> Option<&str> {
        let complains = |line: &&String| line.to_ascii_lowercase().starts_with("unknown command");
        self.lines.iter().find(complains).map(String::as_str)
    }

    /// The first line, for messages.
    pub fn headline(&self) -> &str {
        self.lines.first().map_or("nothing", String::as_str)
    }
}

/// Gathers the answer to one command.
#[derive(Debug, Default)]
pub struct Listener {
    command: Vec<u8>,
    line: Vec<u8>,
    lines: Vec<String>,
    /// The echo of our command came.
    echoed: bool,
    /// Something stood behind the echo.
    begun: bool,
    /// The mark behind the echo came.
    opened: bool,
    /// A prompt came right behind the echo: that of an answer without a word, or a stale one.
    bare: Option<Prompt>,
    /// Bytes of the answer so far.
    size: usize,
    received: usize,
}

impl Listener {
    /// Waits for the answer to this command.
    pub fn for_answer_to(command: &str) -> Self {
        Listener { command: command.as_bytes().to_vec(), ..Listener::default() }
    }

    /// Bytes that came so far.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Takes one byte; gives the answer once its prompt is there.
    pub fn hear(&mut self, byte: u8) -> Option<Reply> {
        self.received += 1;
        match byte {
            b'\r' | b'\n' => self.end_line(),
            // Padding of some adapters.
            0 => {}
            byte => self.line.push(byte),
        }
        if !self.echoed {
            let excess = self.line.len().saturating_sub(LONGEST_PREFIX);
            self.line.drain(..excess);
            return None;
        }
        self.size += 1;
        if self.size > LONGEST_ANSWER {
            self.begin_again();
        }
        let (_, prompt) = PROMPTS.iter().find(|(text, _)| self.line.ends_with(text))?;
        if !self.begun {
            self.bare = Some(*prompt);
            return None;
        }
        let lines = std::mem::take(&mut self.lines);
        *self = Listener { received: self.received, ..Listener::default() };
        Some(Reply { lines, prompt: *prompt })
    }

    /// Nothing more will come: a prompt right behind the echo was the whole answer.
    pub fn conclude(&mut self) -> Option<Reply> {
        let prompt = self.bare.take().filter(|_| !self.begun)?;
        Some(Reply { lines: Vec::new(), prompt })
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if self.is_echo(line) {
            self.echoed = true;
            self.begun = false;
            self.opened = false;
            self.size = 0;
            self.lines.clear();
        } else if self.echoed && !line.is_empty() {
            self.begun = true;
            match line {
                // The answer to another command stands in ours, and whose the rest is cannot be told.
                b"@" if self.opened => self.begin_again(),
                b"@" => self.opened = true,
                b"$$" => {}
                _ => self.lines.push(line.iter().map(|byte| character(*byte)).collect()),
            }
        }
    }

    /// Forgets all but what is waited for: the answer has to come once more, from its echo on.
    fn begin_again(&mut self) {
        let command = std::mem::take(&mut self.command);
        *self = Listener { command, received: self.received, ..Listener::default() };
    }

    /// Something may stand in front of the first echo: a prompt, noise, the end of an older answer.
    /// Not the beginning of a longer command, though: `pwr` is the end of `getpwr`.
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
        let mut listener = Listener::for_answer_to(command);
        text.iter().filter_map(|byte| listener.hear(*byte)).collect()
    }

    #[test]
    fn every_mixture_of_line_ends_is_the_same_answer() {
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
    fn the_prompt_tells_the_mode_and_only_counts_behind_the_echo() {
        let text = b"pylon>\r\npylon>login debug\r\n@\r\n$$\r\npylon_debug>";
        let debug = replies("login debug", text);
        assert_eq!(debug.len(), 1);
        assert_eq!(debug[0].prompt, Prompt::Debug);
        assert_eq!(debug[0].headline(), "nothing");
        assert!(replies("pwr", b"pylon_debug>").is_empty());
        assert!(replies("pwr", b"getpwr\r\n@\r\n1#\r\npylon_debug>").is_empty(), "another command");
    }

    #[test]
    fn a_second_echo_begins_the_answer_anew() {
        let text = b"getpwr\r\n@\r\n1#\r\ngetpwr\r\n@\r\n2#\r\n$$\r\npylon_debug>";
        assert_eq!(replies("getpwr", text)[0].lines, ["2#"]);
    }

    #[test]
    fn an_answer_with_another_one_in_it_is_none() {
        let other = "bat 2\r\n@\r\n3300\r\nCommand completed successfully\r\n$$\r\npylon>";
        for end in [other.len(), other.len() / 2] {
            let text = format!("bat 1\r\n@\r\n3317\r\n{}\r\n3318\r\n$$\r\npylon>", &other[..end]);
            assert!(replies("bat 1", text.as_bytes()).is_empty(), "{text}");
            let text = text + "bat 1\r\n@\r\n3317\r\n3318\r\n$$\r\npylon>";
            assert_eq!(replies("bat 1", text.as_bytes())[0].lines, ["3317", "3318"]);
        }
    }

    #[test]
    fn a_prompt_right_behind_the_echo_is_an_answer_only_when_nothing_follows() {
        let mut listener = Listener::for_answer_to("login debug");
        let text = b"login debug\r\npylon_debug>";
        assert!(text.iter().all(|byte| listener.hear(*byte).is_none()));
        assert_eq!(listener.conclude().map(|reply| reply.prompt), Some(Prompt::Debug));
        assert_eq!(listener.conclude(), None);
        let stale = b"time\npylon>time\r\n@\r\nRTC 1\r\npylon>";
        assert_eq!(replies("time", stale)[0].lines, ["RTC 1"]);
    }

    #[test]
    fn a_damaged_byte_leaves_a_mark() {
        let reply = &replies("bat", b"bat\r\n3\xB317\r\n3\x00317\r\npylon>")[0];
        assert_eq!(reply.lines, ["3\u{FFFD}17", "3317"]);
    }

    #[test]
    fn an_endless_answer_is_forgotten() {
        let mut listener = Listener::for_answer_to("pwr");
        let mut feed = |bytes: &[u8]| bytes.iter().filter_map(|b| listener.hear(*b)).count();
        assert_eq!(feed(b"pwr\r\n"), 0);
        for _ in 0..3 * LONGEST_ANSWER {
            assert_eq!(feed(b"x\n"), 0);
        }
        assert_eq!(feed(b"pylon>"), 0);
        assert_eq!(feed(b"pwr\r\n@\r\npylon>"), 1);
        assert!(listener.lines.capacity() < 2 * LONGEST_ANSWER);
    }
}

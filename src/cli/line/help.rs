//! What is said about commands: one line of usage each, and help.

use std::fmt::{self, Write};

use super::{Command, Flag, PROGRAM, Takes};

/// Help is no wider, so that it can be read.
const WIDTH: usize = 100;
/// More than this many flags make a line of usage that nobody reads.
const SHOWN_IN_USAGE: usize = 3;

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.name)?;
        match self.takes {
            Takes::Nothing => Ok(()),
            Takes::One(value) => write!(f, " {value}"),
            Takes::Maybe(value) => write!(f, " [{value}]"),
            Takes::Words(value) => write!(f, " [{value}...]"),
            Takes::List(value) => write!(f, " {value},..."),
        }
    }
}

impl Command {
    /// Name, operand and flags in one line.
    pub fn usage(&self) -> String {
        let mut usage = format!("{PROGRAM} {}", self.name);
        let shown = || self.shown();
        for flag in shown().filter(|flag| flag.required) {
            let _ = write!(usage, " {flag}");
        }
        if shown().count() > SHOWN_IN_USAGE {
            usage.push_str(" [OPTIONS]");
        } else {
            for flag in shown().filter(|flag| !flag.required) {
                let _ = write!(usage, " [{flag}]");
            }
        }
        if let Some((operand, _)) = self.operand {
            let _ = write!(usage, " {operand}");
        }
        usage
    }

    /// What `--help` says.
    pub fn help(&self) -> String {
        let mut help = wrapped(&format!("{}.", self.does), 0);
        let _ = write!(help, "\n\nUsage: {}\n\n", self.usage());
        let operand = self.operand.map(|(name, what)| (name.to_owned(), what.to_owned()));
        let flags = self.shown().map(|flag| {
            let default = flag.default.map(|it| format!(" [default: {it}]")).unwrap_or_default();
            (flag.to_string(), format!("{}{default}", flag.help))
        });
        help.push_str(&columns(operand.into_iter().chain(flags).chain([this_help("This help")])));
        help
    }

    fn shown(&self) -> impl Iterator<Item = &Flag> {
        self.flags.iter().filter(|flag| !flag.hidden)
    }
}

/// What `--help` says without a command.
pub(super) fn overview(commands: &[&Command]) -> String {
    let purpose = concat!(env!("CARGO_PKG_DESCRIPTION"), ".");
    let service = "Without a command it runs as a service, configured by environment variables: \
                   BMS_PORT, MQTT_HOST and so on. `bms-reader check` tells what is wrong with them.";
    let (purpose, service) = (wrapped(purpose, 0), wrapped(service, 0));
    let rows = commands.iter().map(|it| (it.name.to_owned(), it.does.to_owned()));
    let version = ("-V, --version".to_owned(), "Which version this is".to_owned());
    let commands = columns(rows);
    let flags = columns([this_help("This help, or that of the command before it"), version]);
    format!("{purpose}\n\n{service}\n\nUsage: {PROGRAM} [COMMAND]\n\n{commands}\n{flags}")
}

fn this_help(what: &str) -> (String, String) {
    ("-h, --help".to_owned(), what.to_owned())
}

/// Names on the left, what they mean on the right.
fn columns(rows: impl IntoIterator<Item = (String, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let indent = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 4;
    let mut text = String::new();
    for (name, meaning) in rows {
        let name = format!("  {name}");
        let _ = writeln!(text, "{name:indent$}{}", wrapped(&meaning, indent));
    }
    text
}

/// The text in lines that are not too long, the later ones indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        if column > indent && column + 1 + word.len() > WIDTH {
            let _ = write!(lines, "\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += word.len();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::COMMANDS;

    #[test]
    fn everything_that_a_person_may_say_is_told_and_fits_the_screen() {
        for command in COMMANDS {
            let help = command.help();
            for flag in command.flags {
                let told = help.contains(&format!("  {flag}"));
                assert_eq!(told, !flag.hidden, "{} {flag}\n{help}", command.name);
            }
            assert!(help.lines().all(|line| line.len() <= WIDTH), "{help}");
            assert!(overview(COMMANDS).contains(&format!("\n  {} ", command.name)));
        }
        assert!(overview(COMMANDS).lines().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn usage_tells_what_must_be_there_and_few_flags() {
        let usage = |name| {
            let command = COMMANDS.iter().find(|command| command.name == name);
            command.map(|command| command.usage()).unwrap_or_default()
        };
        assert_eq!(usage("check"), "bms-reader check");
        assert_eq!(usage("decode"), "bms-reader decode --type TYPE");
        assert_eq!(usage("replay"), "bms-reader replay FILE");
        assert_eq!(usage("read"), "bms-reader read [--device ID] [--capture FILE]");
        assert_eq!(usage("scan"), "bms-reader scan [--seconds N] [--json] [--probe [PLACE...]]");
        assert_eq!(usage("simulate"), "bms-reader simulate [OPTIONS]");
    }
}

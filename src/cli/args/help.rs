//! Usage and help, made from the table of commands.

use std::fmt::{self, Write};

use super::{Command, Flag, FlagValue, PROGRAM};
use crate::protocol;

/// Columns of the help.
const WIDTH: usize = 100;
/// With more flags the usage shows `[OPTIONS]`.
const MAX_FLAGS_IN_USAGE: usize = 3;

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.name)?;
        match self.value {
            FlagValue::None => Ok(()),
            FlagValue::One(value) => write!(f, " {value}"),
            FlagValue::Optional(value) => write!(f, " [{value}]"),
            FlagValue::Many(value) => write!(f, " [{value}...]"),
            FlagValue::List(value) => write!(f, " {value},..."),
        }
    }
}

impl Command {
    /// Name, flags and positional argument in one line.
    pub fn usage(&self) -> String {
        let (required, optional): (Vec<_>, Vec<_>) = self.visible().partition(|flag| flag.required);
        let mut words = vec![PROGRAM.to_owned(), self.name.to_owned()];
        words.extend(required.iter().map(ToString::to_string));
        if required.len() + optional.len() > MAX_FLAGS_IN_USAGE {
            words.push("[OPTIONS]".to_owned());
        } else {
            words.extend(optional.iter().map(|flag| format!("[{flag}]")));
        }
        words.extend(self.positional.map(|(name, _)| name.to_owned()));
        words.join(" ")
    }

    /// The text of `--help`.
    pub fn help(&self) -> String {
        let positional = self.positional.map(|(name, about)| (name.to_owned(), about.to_owned()));
        let flags = self.visible().map(|flag| {
            let default = flag.default.map(|text| format!(" [default: {text}]"));
            (flag.to_string(), format!("{}{}", flag.help, default.unwrap_or_default()))
        });
        let rows = positional.into_iter().chain(flags).chain([help_row("Print this help")]);
        let (about, usage) = (wrapped(&format!("{}.", self.about), 0), self.usage());
        let types = match self.visible().any(|flag| flag.value == FlagValue::One("TYPE")) {
            true => {
                let names: Vec<_> = protocol::names().collect();
                format!("\n{}\n", wrapped(&format!("Types: {}", names.join(", ")), 0))
            }
            false => String::new(),
        };
        format!("{about}\n\nUsage: {usage}\n\n{}{types}", columns(rows))
    }

    fn visible(&self) -> impl Iterator<Item = &Flag> {
        self.flags.iter().filter(|flag| !flag.hidden)
    }
}

/// The text of `--help` without a command.
pub(super) fn overview(commands: &[&Command]) -> String {
    let about = wrapped(concat!(env!("CARGO_PKG_DESCRIPTION"), "."), 0);
    let service = wrapped(
        "Without a command it runs as a service, configured by environment variables such as \
         BMS_PORT and MQTT_HOST. `bms-reader check` tries the configuration.",
        0,
    );
    let rows = commands.iter().map(|command| (command.name.to_owned(), command.about.to_owned()));
    let version = ("-V, --version".to_owned(), "Print the version".to_owned());
    let flags = columns([help_row("Print this help, or the help of a command"), version]);
    format!("{about}\n\n{service}\n\nUsage: {PROGRAM} [COMMAND]\n\n{}\n{flags}", columns(rows))
}

fn help_row(about: &str) -> (String, String) {
    ("-h, --help".to_owned(), about.to_owned())
}

/// Names on the left, descriptions on the right.
fn columns(rows: impl IntoIterator<Item = (String, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let indent = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 4;
    let mut text = String::new();
    for (name, about) in rows {
        let name = format!("  {name}");
        let _ = writeln!(text, "{name:indent$}{}", wrapped(&about, indent));
    }
    text
}

/// The text in lines of at most [`WIDTH`] columns, all but the first one indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if indent + line.len() + 1 + word.len() <= WIDTH => {
                line.extend([" ", word]);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::COMMANDS;

    #[test]
    fn help_shows_every_visible_flag_within_the_width() {
        for command in COMMANDS {
            let help = command.help();
            for flag in command.flags {
                let shown = help.contains(&format!("  {flag}"));
                assert_eq!(shown, !flag.hidden, "{} {flag}\n{help}", command.name);
            }
            assert!(help.lines().all(|line| line.len() <= WIDTH), "{help}");
            assert!(overview(COMMANDS).contains(&format!("\n  {} ", command.name)));
        }
        assert!(overview(COMMANDS).lines().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn help_about_types_lists_them() {
        for name in ["decode", "simulate"] {
            let command = COMMANDS.iter().find(|command| command.name == name).unwrap();
            let help = command.help().replace('\n', " ");
            for info in protocol::drivers() {
                assert!(help.contains(&format!(" {}", info.name)), "{name}: {}", info.name);
            }
        }
    }

    #[test]
    fn usage_shows_required_and_few_optional_flags() {
        let usage = |name| {
            let command = COMMANDS.iter().find(|command| command.name == name);
            command.map(|command| command.usage()).unwrap_or_default()
        };
        assert_eq!(usage("check"), "bms-reader check");
        assert_eq!(usage("decode"), "bms-reader decode --type TYPE");
        assert_eq!(usage("replay"), "bms-reader replay FILE");
        assert_eq!(usage("read"), "bms-reader read [--device ID] [--capture FILE] [--json]");
        assert_eq!(usage("scan"), "bms-reader scan [--seconds N] [--json] [--probe [TARGET...]]");
        assert_eq!(usage("simulate"), "bms-reader simulate [OPTIONS]");
    }
}

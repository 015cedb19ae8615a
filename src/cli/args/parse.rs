//! Parses the command line.

use std::ffi::OsString;

use lexopt::Arg::{self, Long, Short};
use lexopt::ValueExt;

use super::help::overview;
use super::{Command, Flag, FlagValue, PROGRAM};
use crate::config::with_placeholder;
use crate::did_you_mean::closest;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    Service,
    Command(Matches),
    /// Help or the version.
    Print(String),
}

/// Parses the arguments, without the name of the program.
pub fn parse(
    commands: &'static [&'static Command],
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Invocation, String> {
    let mut command = None;
    parse_into(&mut command, commands, arguments)
        .map_err(|error| usage_error(command, &error.to_string()))
}

/// An error about the command line, with the usage of the command.
pub fn usage_error(command: Option<&Command>, reason: &str) -> String {
    let usage = command.map_or_else(|| format!("{PROGRAM} [COMMAND]"), Command::usage);
    let name = command.map(|command| format!(" {}", command.name)).unwrap_or_default();
    format!("{reason}\n\nUsage: {usage}\nFor more: {PROGRAM}{name} --help")
}

/// Sets `command` as soon as it is known, for the usage in an error.
fn parse_into(
    command: &mut Option<&'static Command>,
    commands: &'static [&'static Command],
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Invocation, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut help = false;
    let mut matches: Option<Matches> = None;
    // The first word of a command of two words.
    let mut first = None;
    while let Some(argument) = parser.next()? {
        match (argument, &mut matches) {
            (Short('h') | Long("help"), _) => help = true,
            (Short('V') | Long("version"), _) => {
                return Ok(Invocation::Print(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"))));
            }
            (Arg::Value(word), None) if word == "help" => help = true,
            (Arg::Value(word), None) => {
                let word = word.to_string_lossy();
                let name = first.map_or(word.to_string(), |first| format!("{first} {word}"));
                let mut words = commands.iter().filter_map(|command| first_word(command));
                first = words.find(|word| *word == name);
                if first.is_some() {
                    continue;
                }
                let found = commands.iter().copied().find(|command| name == command.name);
                let known = commands.iter().map(|command| command.name);
                let found = found.ok_or_else(|| unknown("command", &name, known))?;
                *command = Some(found);
                matches = Some(Matches { command: found, positional: None, flags: Vec::new() });
            }
            (Arg::Value(word), Some(matches)) => matches.add_positional(word.string()?)?,
            (Long(name), Some(matches)) => {
                let flags = matches.command.flags;
                let found = flags.iter().find(|flag| flag.name == name);
                let known = flags.iter().map(|flag| flag.name);
                let flag = found.ok_or_else(|| unknown("option", name, known))?;
                matches.add_flag(flag, &mut parser)?;
            }
            (other, _) => return Err(other.unexpected()),
        }
    }
    match matches {
        None if help => Ok(Invocation::Print(overview(commands))),
        None => match first {
            None => Ok(Invocation::Service),
            Some(first) => {
                let all = commands.iter().filter(|command| first_word(command) == Some(first));
                let names: Vec<_> = all.map(|command| command.name).collect();
                Err(format!("incomplete command; did you mean {}?", names.join(" or ")).into())
            }
        },
        Some(matches) if help => Ok(Invocation::Print(matches.command.help())),
        Some(matches) => match matches.missing() {
            Some(missing) => Err(format!("missing argument: {missing}").into()),
            None => Ok(Invocation::Command(matches)),
        },
    }
}

/// The first word of a command that has two.
fn first_word(command: &Command) -> Option<&'static str> {
    command.name.split_once(' ').map(|(first, _)| first)
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let dashes = if what == "option" { "--" } else { "" };
    let near = closest(name, known).map(|(near, _)| format!("; did you mean {dashes}{near}?"));
    format!("unknown {what} {dashes}{name}{}", near.unwrap_or_default())
}

/// A command and its arguments.
#[derive(Debug)]
pub struct Matches {
    pub command: &'static Command,
    positional: Option<String>,
    flags: Vec<(&'static str, Vec<String>)>,
}

impl Matches {
    /// The positional argument; empty if the command has none.
    pub fn positional(&self) -> &str {
        self.positional.as_deref().unwrap_or_default()
    }

    pub fn has(&self, flag: &str) -> bool {
        self.values(flag).is_some()
    }

    /// All values of a flag; `None` if it is absent.
    pub fn values(&self, name: &str) -> Option<&[String]> {
        debug_assert!(self.command.flags.iter().any(|flag| flag.name == name), "{name}");
        self.flags.iter().find(|(given, _)| *given == name).map(|(_, values)| values.as_slice())
    }

    /// The value of a flag, or its default.
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.values(name) {
            Some(values) => values.first().map(String::as_str),
            None => self.command.flags.iter().find(|flag| flag.name == name)?.default,
        }
    }

    /// The parsed value of a flag, or its default. `expected` describes a valid value.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let error = |text| format!("--{name} is {text:?}, but must be {expected}");
        self.value(name).map(|text| parse(text).ok_or_else(|| error(text))).transpose()
    }

    fn add_positional(&mut self, word: String) -> Result<(), String> {
        if self.command.positional.is_none() || self.positional.is_some() {
            let word = with_placeholder(&word);
            return Err(format!("{}: unexpected argument '{word}'", self.command.name));
        }
        self.positional = Some(word);
        Ok(())
    }

    fn add_flag(
        &mut self,
        flag: &'static Flag,
        parser: &mut lexopt::Parser,
    ) -> Result<(), lexopt::Error> {
        let is_list = matches!(flag.value, FlagValue::List(_));
        let values: Vec<OsString> = match flag.value {
            FlagValue::None => Vec::new(),
            FlagValue::One(_) | FlagValue::List(_) => vec![value(flag, parser)?],
            // An error means that there are none.
            FlagValue::Optional(_) => {
                parser.values().map(|values| values.take(1).collect()).unwrap_or_default()
            }
            FlagValue::Many(_) => parser.values().map(Iterator::collect).unwrap_or_default(),
        };
        let mut values: Vec<String> =
            values.into_iter().map(ValueExt::string).collect::<Result<_, _>>()?;
        if is_list {
            values = values.iter().flat_map(|value| value.split(',')).map(str::to_owned).collect();
        }
        match self.flags.iter_mut().find(|(given, _)| *given == flag.name) {
            None => self.flags.push((flag.name, values)),
            Some((_, all)) if is_list => all.extend(values),
            Some(_) => return Err(format!("--{} is repeated", flag.name).into()),
        }
        Ok(())
    }

    /// A required argument that is absent.
    fn missing(&self) -> Option<String> {
        let is_missing = |flag: &&Flag| flag.required && !self.has(flag.name);
        let flag = self.command.flags.iter().find(is_missing).map(ToString::to_string);
        let positional = self.command.positional.filter(|_| self.positional.is_none());
        flag.or(positional.map(|(name, description)| format!("{name} ({description})")))
    }
}

/// The value of a flag. The next flag is none: `--device --capture x` lacks a value. With an equals
/// sign a value may begin with a dash.
fn value(flag: &Flag, parser: &mut lexopt::Parser) -> Result<OsString, lexopt::Error> {
    let attached = parser.optional_value();
    let mut next =
        || parser.try_raw_args().and_then(|arguments| arguments.as_slice().first().cloned());
    let is_flag = |next: &OsString| next.as_encoded_bytes().starts_with(b"--");
    match attached {
        Some(value) => Ok(value),
        None if next().is_some_and(|next| is_flag(&next)) => {
            Err(format!("missing argument for option '--{}'", flag.name).into())
        }
        None => parser.value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::COMMANDS;

    fn invocation(line: &str) -> Result<Invocation, String> {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
        parse(COMMANDS, words)
    }

    fn matches(line: &str) -> Matches {
        match invocation(line) {
            Ok(Invocation::Command(matches)) => matches,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn first_line_of_error(line: &str) -> String {
        let error = invocation(line).expect_err(line);
        error.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn value_follows_a_blank_or_an_equals_sign() {
        for line in ["read --device a --capture b", "read --device=a --capture=b"] {
            let matches = matches(line);
            assert_eq!((matches.value("device"), matches.value("capture")), (Some("a"), Some("b")));
        }
        assert_eq!(matches("read").value("device"), None);
        assert_eq!(matches("read --device=").value("device"), Some(""));
        assert_eq!(matches("read --device=--x").value("device"), Some("--x"));
        assert_eq!(matches("replay x.jsonl").positional(), "x.jsonl");
        assert_eq!(matches("replay -- --x").positional(), "--x");
        let two_words = matches("profile check x.yaml");
        assert_eq!((two_words.command.name, two_words.positional()), ("profile check", "x.yaml"));
    }

    #[test]
    fn list_values_are_collected() {
        let list = |line, name| matches(line).values(name).map(<[_]>::to_vec);
        let addresses = list("simulate --address 1,2 --address 3", "address").unwrap();
        assert_eq!(addresses, ["1", "2", "3"]);
        let endpoints = list("scan --probe /dev/ttyUSB0 AA:BB --json", "probe").unwrap();
        assert_eq!(endpoints, ["/dev/ttyUSB0", "AA:BB"]);
        assert_eq!(list("scan --probe --json", "probe"), Some(Vec::new()));
        assert_eq!(list("scan --probe", "probe"), Some(Vec::new()));
        assert_eq!(list("scan", "probe"), None);
    }

    #[test]
    fn optional_value_may_be_absent() {
        let rate = |line| matches(line).value("baud-pacing").map(str::to_owned);
        assert_eq!(rate("simulate --baud-pacing 2400").as_deref(), Some("2400"));
        assert_eq!(rate("simulate --baud-pacing=2400").as_deref(), Some("2400"));
        assert_eq!(rate("simulate --baud-pacing --seed 2"), None);
        assert!(matches("simulate --baud-pacing --seed 2").has("baud-pacing"));
        assert!(!matches("simulate").has("baud-pacing"));
    }

    #[test]
    fn default_applies_until_flag_is_set() {
        let seconds = |line| {
            matches(line).parsed("seconds", "a number", |text| text.parse::<u8>().ok()).unwrap()
        };
        assert_eq!((seconds("scan"), seconds("scan --seconds 7")), (Some(5), Some(7)));
        let wrong = matches("scan --seconds x").parsed("seconds", "a number", |_| None::<u8>);
        assert_eq!(wrong.unwrap_err(), "--seconds is \"x\", but must be a number");
    }

    #[test]
    fn error_names_the_wrong_argument() {
        let errors = [
            ("raed", "unknown command raed; did you mean read?"),
            ("nonsense", "unknown command nonsense"),
            ("--device x", "invalid option '--device'"),
            ("read --devcie x", "unknown option --devcie; did you mean --device?"),
            ("read --device", "missing argument for option '--device'"),
            ("read --device --capture x", "missing argument for option '--device'"),
            ("read --device a --device b", "--device is repeated"),
            ("read x", "read: unexpected argument 'x'"),
            ("scan esphome://a/b?key=x", "scan: unexpected argument 'esphome://a/b?key=KEY'"),
            ("replay a b", "replay: unexpected argument 'b'"),
            ("simulate --baud-pacing 1 2", "simulate: unexpected argument '2'"),
            ("scan --json=1", "unexpected argument for option '--json': \"1\""),
            ("decode", "missing argument: --type TYPE"),
            ("replay", "missing argument: FILE (written by `read --capture` or BMS_CAPTURE)"),
            ("check -x", "invalid option '-x'"),
            (
                "profile",
                "incomplete command; did you mean profile check or profile show or profile new?",
            ),
            ("profile chekc x", "unknown command profile chekc; did you mean profile check?"),
            ("profile check x y", "profile check: unexpected argument 'y'"),
        ];
        for (line, expected) in errors {
            assert_eq!(first_line_of_error(line), expected, "{line}");
        }
        let error = invocation("decode").unwrap_err();
        assert!(error.contains("\nUsage: bms-reader decode --type TYPE\n"), "{error}");
        assert!(error.ends_with("bms-reader decode --help"), "{error}");
        let error = invocation("raed").unwrap_err();
        assert!(error.ends_with(": bms-reader --help"), "{error}");
    }

    #[test]
    fn help_flag_works_in_any_position() {
        for line in ["--help", "-h", "help"] {
            assert!(
                matches!(invocation(line), Ok(Invocation::Print(help)) if help.contains("[COMMAND]"))
            );
        }
        let of_replay = |help: &str| help.starts_with("Replay a capture");
        for line in ["replay --help", "replay -h", "help replay", "replay x --help", "-h replay"] {
            assert!(
                matches!(invocation(line), Ok(Invocation::Print(help)) if of_replay(&help)),
                "{line}"
            );
        }
        assert!(
            matches!(invocation("--version"), Ok(Invocation::Print(text)) if text.starts_with(PROGRAM))
        );
        assert!(matches!(invocation(""), Ok(Invocation::Service)));
    }
}

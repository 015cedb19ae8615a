//! The words of a command line, put in their places.

use std::ffi::OsString;

use lexopt::Arg::{self, Long, Short};
use lexopt::ValueExt;

use super::help::overview;
use super::{Command, Flag, PROGRAM, Takes};
use crate::did_you_mean::closest;

/// What the line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Nothing in particular: the service.
    Service,
    /// A command.
    Command(Given),
    /// Help about the program or a command, to print.
    Help(String),
    /// The program's version.
    Version,
}

/// A line that cannot be obeyed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}\n\nUsage: {usage}\nMore is told by: {program}{name} --help", program = PROGRAM)]
pub struct Misuse {
    reason: String,
    usage: String,
    /// The command, after a blank.
    name: String,
}

impl Misuse {
    /// About a command, or about the choice of one.
    pub fn new(command: Option<&Command>, reason: String) -> Self {
        let usage = command.map_or_else(|| format!("{PROGRAM} [COMMAND]"), Command::usage);
        let name = command.map(|command| format!(" {}", command.name)).unwrap_or_default();
        Misuse { reason, usage, name }
    }
}

/// Reads the arguments, of which the first is no longer the program's name.
pub fn parse(
    commands: &'static [&'static Command],
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Asked, Misuse> {
    let mut words = lexopt::Parser::from_args(arguments);
    let mut given: Option<Given> = None;
    let mut help = false;
    loop {
        let command = given.as_ref().map(|given| given.command);
        let misuse = |reason| Misuse::new(command, reason);
        let word = words.next().map_err(|error| misuse(error.to_string()))?;
        let Some(word) = word else { break };
        match (word, &mut given) {
            (Short('h') | Long("help"), _) => help = true,
            (Short('V') | Long("version"), _) => return Ok(Asked::Version),
            (Arg::Value(word), None) if word == "help" => help = true,
            (Arg::Value(word), None) => {
                let command = find(commands, &word.to_string_lossy()).map_err(misuse)?;
                given = Some(Given { command, operand: None, flags: Vec::new() });
            }
            (Arg::Value(word), Some(given)) => given.operand(word).map_err(misuse)?,
            (Long(name), Some(given)) => {
                let flag = given.command.flag(name).map_err(misuse)?;
                given.take(flag, &mut words).map_err(misuse)?;
            }
            (other, _) => return Err(misuse(other.unexpected().to_string())),
        }
    }
    match given {
        given if help => Ok(Asked::Help(match given {
            Some(given) => given.command.help(),
            None => overview(commands),
        })),
        None => Ok(Asked::Service),
        Some(given) => match given.missing() {
            Some(missing) => Err(Misuse::new(Some(given.command), format!("{missing} is missing"))),
            None => Ok(Asked::Command(given)),
        },
    }
}

fn find(commands: &'static [&'static Command], name: &str) -> Result<&'static Command, String> {
    let known = || commands.iter().map(|command| command.name);
    commands
        .iter()
        .copied()
        .find(|command| command.name == name)
        .ok_or_else(|| format!("there is no command {name}{}", meant(name, known(), "")))
}

impl Command {
    fn flag(&'static self, name: &str) -> Result<&'static Flag, String> {
        let known = || self.flags.iter().map(|flag| flag.name);
        self.flags.iter().find(|flag| flag.name == name).ok_or_else(|| {
            let near = meant(name, known(), "--");
            format!("{} knows no --{name}{near}", self.name)
        })
    }
}

/// `; did you mean ...?`, where something is near.
fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, before: &str) -> String {
    match closest(name, known) {
        Some((near, _)) => format!("; did you mean {before}{near}?"),
        None => String::new(),
    }
}

/// What a command was told.
#[derive(Debug)]
pub struct Given {
    /// The command.
    pub command: &'static Command,
    operand: Option<String>,
    /// Each flag that was given, with its values.
    flags: Vec<(&'static str, Vec<String>)>,
}

impl Given {
    /// The thing without a flag; empty where the command has none.
    pub fn operand_text(&self) -> &str {
        self.operand.as_deref().unwrap_or_default()
    }

    /// Whether the flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.list(name).is_some()
    }

    /// All values, if the flag was given.
    pub fn list(&self, name: &str) -> Option<&[String]> {
        debug_assert!(self.command.flags.iter().any(|flag| flag.name == name), "{name}");
        self.flags.iter().find(|(given, _)| *given == name).map(|(_, values)| values.as_slice())
    }

    /// The value, or the flag's default.
    pub fn text(&self, name: &str) -> Option<&str> {
        let default = || self.command.flags.iter().find(|flag| flag.name == name)?.default;
        match self.list(name) {
            Some(values) => values.first().map(String::as_str),
            None => default(),
        }
    }

    /// The value as something else, or the flag's default; `wanted` says what it has to be.
    pub fn value<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let wrong = |text: &str| format!("--{name} {text}: it must be {wanted}");
        self.text(name).map(|text| read(text).ok_or_else(|| wrong(text))).transpose()
    }

    fn operand(&mut self, word: OsString) -> Result<(), String> {
        let word = word.string().map_err(|error| error.to_string())?;
        if self.command.operand.is_none() || self.operand.is_some() {
            return Err(format!("{}: what is {word} for?", self.command.name));
        }
        self.operand = Some(word);
        Ok(())
    }

    /// Takes from the line what belongs to this flag.
    fn take(&mut self, flag: &'static Flag, words: &mut lexopt::Parser) -> Result<(), String> {
        let values: Vec<OsString> = match flag.takes {
            Takes::Nothing => Vec::new(),
            Takes::One(_) | Takes::List(_) => {
                vec![words.value().map_err(|error| error.to_string())?]
            }
            // An error says that there are none.
            Takes::Maybe(_) => words.values().map(|it| it.take(1).collect()).unwrap_or_default(),
            Takes::Words(_) => words.values().map(Iterator::collect).unwrap_or_default(),
        };
        let values = values.into_iter().map(|it| it.string().map_err(|error| error.to_string()));
        let mut values: Vec<String> = values.collect::<Result<_, _>>()?;
        let list = matches!(flag.takes, Takes::List(_));
        if list {
            values = values.iter().flat_map(|it| it.split(',')).map(str::to_owned).collect();
        }
        match self.flags.iter_mut().find(|(given, _)| *given == flag.name) {
            None => self.flags.push((flag.name, values)),
            Some((_, all)) if list => all.extend(values),
            Some(_) => return Err(format!("--{} is given twice", flag.name)),
        }
        Ok(())
    }

    /// What must be there and is not.
    fn missing(&self) -> Option<String> {
        let lacks = |flag: &&Flag| flag.required && !self.has(flag.name);
        let flag = self.command.flags.iter().find(lacks).map(ToString::to_string);
        let operand = self.command.operand.filter(|_| self.operand.is_none());
        flag.or(operand.map(|(name, what)| format!("{name} ({what})")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::COMMANDS;

    fn asked(line: &str) -> Result<Asked, String> {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
        parse(COMMANDS, words).map_err(|misuse| misuse.to_string())
    }

    fn given(line: &str) -> Given {
        match asked(line) {
            Ok(Asked::Command(given)) => given,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// The first line of the complaint.
    fn complaint(line: &str) -> String {
        let said = asked(line).expect_err(line);
        said.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn values_come_after_a_blank_or_an_equals_sign() {
        for line in ["read --device a --capture b", "read --device=a --capture=b"] {
            let given = given(line);
            assert_eq!((given.text("device"), given.text("capture")), (Some("a"), Some("b")));
        }
        assert_eq!(given("read").text("device"), None);
        assert_eq!(given("read --device=").text("device"), Some(""));
        assert_eq!(given("replay x.jsonl").operand_text(), "x.jsonl");
        assert_eq!(given("replay -- --x").operand_text(), "--x");
    }

    #[test]
    fn lists_are_collected() {
        let list = |line, name| given(line).list(name).map(<[_]>::to_vec);
        let addresses = list("simulate --address 1,2 --address 3", "address").unwrap();
        assert_eq!(addresses, ["1", "2", "3"]);
        let places = list("scan --probe /dev/ttyUSB0 AA:BB --json", "probe").unwrap();
        assert_eq!(places, ["/dev/ttyUSB0", "AA:BB"]);
        assert_eq!(list("scan --probe --json", "probe"), Some(Vec::new()));
        assert_eq!(list("scan --probe", "probe"), Some(Vec::new()));
        assert_eq!(list("scan", "probe"), None);
    }

    #[test]
    fn a_value_may_be_left_out_where_that_means_something() {
        let rate = |line| given(line).text("baud-pacing").map(str::to_owned);
        assert_eq!(rate("simulate --baud-pacing 2400").as_deref(), Some("2400"));
        assert_eq!(rate("simulate --baud-pacing=2400").as_deref(), Some("2400"));
        assert_eq!(rate("simulate --baud-pacing --seed 2"), None);
        assert!(given("simulate --baud-pacing --seed 2").has("baud-pacing"));
        assert!(!given("simulate").has("baud-pacing"));
    }

    #[test]
    fn defaults_count_until_something_else_is_said() {
        let seconds = |line| {
            given(line).value("seconds", "a number", |text| text.parse::<u8>().ok()).unwrap()
        };
        assert_eq!((seconds("scan"), seconds("scan --seconds 7")), (Some(5), Some(7)));
        let wrong = given("scan --seconds x").value("seconds", "a number", |_| None::<u8>);
        assert_eq!(wrong.unwrap_err(), "--seconds x: it must be a number");
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let complaints = [
            ("raed", "there is no command raed; did you mean read?"),
            ("nonsense", "there is no command nonsense"),
            ("--device x", "invalid option '--device'"),
            ("read --devcie x", "read knows no --devcie; did you mean --device?"),
            ("read --device", "missing argument for option '--device'"),
            ("read --device a --device b", "--device is given twice"),
            ("read x", "read: what is x for?"),
            ("replay a b", "replay: what is b for?"),
            ("simulate --baud-pacing 1 2", "simulate: what is 2 for?"),
            ("scan --json=1", "unexpected argument for option '--json': \"1\""),
            ("decode", "--type TYPE is missing"),
            ("replay", "FILE (what `read --capture` or BMS_CAPTURE wrote) is missing"),
            ("check -x", "invalid option '-x'"),
        ];
        for (line, expected) in complaints {
            assert_eq!(complaint(line), expected, "{line}");
        }
        let said = asked("decode").unwrap_err();
        assert!(said.contains("\nUsage: bms-reader decode --type TYPE\n"), "{said}");
        assert!(said.ends_with("bms-reader decode --help"), "{said}");
        let said = asked("raed").unwrap_err();
        assert!(said.ends_with(": bms-reader --help"), "{said}");
    }

    #[test]
    fn help_is_given_wherever_it_is_asked_for() {
        for line in ["--help", "-h", "help"] {
            assert!(matches!(asked(line), Ok(Asked::Help(help)) if help.contains("[COMMAND]")));
        }
        let of_replay = |help: &str| help.starts_with("SimOptions a capture back");
        for line in ["replay --help", "replay -h", "help replay", "replay x --help", "-h replay"] {
            assert!(matches!(asked(line), Ok(Asked::Help(help)) if of_replay(&help)), "{line}");
        }
        assert!(matches!(asked("--version"), Ok(Asked::Version)));
        assert!(matches!(asked(""), Ok(Asked::Service)));
    }
}

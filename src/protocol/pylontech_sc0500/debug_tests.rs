use super::*;
use crate::model::Reading;
use crate::protocol::console::ConsoleDriver;
use crate::protocol::{Driver, Step};

const OURS: &str = "PPTAP02218C10427";

fn driver() -> ConsoleDriver<Debug> {
    ConsoleDriver::new(Debug::new(Barcode::parse(OURS).unwrap(), &Options::default()))
}

/// A console with one module.
struct Console {
    debug: bool,
    /// `getpwr` returns values, with or without a preceding `tbar`.
    authorised: bool,
    serial: Option<&'static str>,
    accepts_login: bool,
    commands: Vec<String>,
}

impl Console {
    fn new() -> Self {
        Console {
            debug: false,
            authorised: false,
            serial: Some(OURS),
            accepts_login: true,
            commands: Vec::new(),
        }
    }

    fn answer(&mut self, command: &str) -> String {
        let mut lines = match command {
            "login debug" => {
                self.debug = self.accepts_login;
                Vec::new()
            }
            "info" => {
                let number = self.serial.map(|number| format!("Module Barcode : {number}"));
                ["Device name : CMU_A".to_owned()].into_iter().chain(number).collect()
            }
            "getpwr" if self.debug && self.authorised => {
                let head = "49768# 0# 29300# 43259# Idle# Normal# Normal# Normal#".to_owned();
                let cells = vec!["3317# 26300# Normal# Normal#".to_owned(); 15];
                [vec![head], cells, vec!["0# 666#".to_owned()]].concat()
            }
            _ if command == format!("tbar {OURS}") && self.debug => {
                self.authorised = self.serial == Some(OURS);
                vec![
                    if self.authorised { "Test result:pass" } else { "Test result:fail" }
                        .to_owned(),
                ]
            }
            other => vec![format!("Unknown command '{other}' - try 'help'")],
        };
        if !lines.iter().any(|line| line.starts_with("Unknown")) {
            lines.push("Command completed successfully".to_owned());
        }
        let prompt = if self.debug { "pylon_debug>" } else { "pylon>" };
        format!("{command}\r\n@\r\n{}\r\n$$\r\n{prompt}", lines.join("\r\n"))
    }

    /// Runs one cycle; returns its last step and the commands sent.
    fn cycle(&mut self, driver: &mut ConsoleDriver<Debug>) -> (Step, Vec<String>) {
        self.commands.clear();
        driver.start(CycleKind::Read);
        loop {
            match driver.step() {
                Step::Pause(_) => driver.advance(),
                Step::Send(bytes) => {
                    let command = String::from_utf8(bytes).unwrap().trim_end().to_owned();
                    driver.advance();
                    let answer = self.answer(&command);
                    self.commands.push(command);
                    driver.receive(answer.as_bytes());
                }
                Step::Await(_) => driver.handle_timeout(),
                end => return (end, self.commands.clone()),
            }
        }
    }
}

fn reason(end: &Step) -> String {
    match end {
        Step::Failed(error @ ProtocolError::Login { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tbar_is_sent_only_if_getpwr_has_no_data() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.authorised = true;
    let (end, commands) = console.cycle(&mut driver);
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(commands, ["login debug", "info", "getpwr"]);
    assert_eq!(console.cycle(&mut driver).1, ["getpwr"], "log-in and identity are kept");

    let (mut console, mut driver) = (Console::new(), self::driver());
    let (end, commands) = console.cycle(&mut driver);
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(commands, ["login debug", "info", "getpwr", &format!("tbar {OURS}"), "getpwr"]);
    assert_eq!(console.cycle(&mut driver).1, ["getpwr"]);
}

#[test]
fn tbar_is_never_sent_to_another_controller() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.serial = Some("PPTAP09999C10427");
    for _ in 0..3 {
        let (end, commands) = console.cycle(&mut driver);
        let reason = reason(&end);
        assert!(reason.contains("PPTAP09999C10427") && reason.contains("was not sent"), "{reason}");
        assert!(commands.iter().all(|command| !command.starts_with("tbar")), "{commands:?}");
    }
    console.serial = Some(OURS);
    assert!(
        matches!(console.cycle(&mut driver).0, Step::Done(_)),
        "the configured controller is back"
    );
}

#[test]
fn refused_tbar_is_not_repeated() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.serial = None;
    let (end, commands) = console.cycle(&mut driver);
    assert!(reason(&end).contains("refused `tbar`: Test result:fail"));
    assert_eq!(commands.iter().filter(|command| command.starts_with("tbar")).count(), 1);
    for _ in 0..3 {
        let (end, commands) = console.cycle(&mut driver);
        assert!(reason(&end).contains("not sent again"));
        assert_eq!(commands, ["getpwr"]);
    }
}

#[test]
fn logout_is_followed_by_a_login_in_the_same_cycle() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.authorised = true;
    console.cycle(&mut driver);
    console.debug = false;
    let (end, commands) = console.cycle(&mut driver);
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(commands, ["getpwr", "login debug", "info", "getpwr"]);
}

#[test]
fn refused_login_reports_the_reply() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.accepts_login = false;
    let (end, commands) = console.cycle(&mut driver);
    assert!(reason(&end).contains("Command completed successfully"), "{}", reason(&end));
    assert_eq!(commands, ["login debug"]);
}

#[test]
fn corrupted_login_is_repeated_once() {
    let mut driver = driver();
    let mut reply_with = |answer: &str| {
        loop {
            match driver.step() {
                Step::Pause(_) => driver.advance(),
                Step::Send(bytes) => {
                    driver.advance();
                    driver.receive(answer.as_bytes());
                    return String::from_utf8(bytes).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let unknown = "p login debug\r\n@\r\nUnknown command 'p login debug'\r\n$$\r\npylon>";
    assert_eq!(reply_with(unknown), "login debug\n");
    assert_eq!(reply_with("login debug\r\n@\r\n$$\r\npylon_debug>"), "login debug\n");
    assert_eq!(reply_with(""), "info\n");
}

#[test]
fn incomplete_reply_ends_the_login_without_tbar() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.authorised = true;
    console.cycle(&mut driver);
    driver.start(CycleKind::Read);
    assert!(matches!(driver.step(), Step::Send(_)));
    driver.advance();
    driver.receive(b"getpwr\r\n@\r\n49768# 0# 29300# 43259# Idle# Nor");
    driver.handle_timeout();
    let Step::Failed(ProtocolError::Timeout { received, .. }) = driver.step() else {
        panic!("{:?}", driver.step())
    };
    assert!(received > ECHO_LENGTH);
    assert_eq!(console.cycle(&mut driver).1, ["login debug", "info", "getpwr"]);
}

#[test]
fn contradicting_module_counts_give_no_serials() {
    let mut reading = Reading { cells: vec![Default::default(); 30], ..Reading::default() };
    let serials = ["A".to_owned(), "B".to_owned(), "C".to_owned()];
    divide_into_modules(&mut reading, serials.iter().collect());
    assert_eq!(reading.modules.len(), 2);
    assert!(reading.modules.iter().all(|module| module.serial.is_none()));
    divide_into_modules(&mut reading, serials[..2].iter().collect());
    assert_eq!(reading.modules[1].serial.as_deref(), Some("B"));
    assert_eq!(reading.modules[1].cells, 15..30);
}

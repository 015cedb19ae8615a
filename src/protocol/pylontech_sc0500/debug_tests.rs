use super::*;
use crate::protocol::console::Terminal;
use crate::protocol::{Driver, Step};

const OURS: &str = "PPTAP02218C10427";

fn driver() -> Terminal<Debug> {
    Terminal::new(Debug::new(Barcode::parse(OURS).unwrap(), &Options::default()))
}

/// A console of one module that answers as its fields say.
struct Console {
    debug: bool,
    /// `tbar` is needed, and was sent.
    open: bool,
    number: Option<&'static str>,
    lets_in: bool,
    heard: Vec<String>,
}

impl Console {
    fn new() -> Self {
        let number = Some(OURS);
        Console { debug: false, open: false, number, lets_in: true, heard: Vec::new() }
    }

    fn answer(&mut self, command: &str) -> String {
        let mut lines = match command {
            "login debug" => {
                self.debug = self.lets_in;
                Vec::new()
            }
            "info" => {
                let number = self.number.map(|number| format!("Module Barcode : {number}"));
                ["Device name : CMU_A".to_owned()].into_iter().chain(number).collect()
            }
            "getpwr" if self.debug && self.open => {
                let head = "49768# 0# 29300# 43259# Idle# Normal# Normal# Normal#".to_owned();
                let cells = vec!["3317# 26300# Normal# Normal#".to_owned(); 15];
                [vec![head], cells, vec!["0# 666#".to_owned()]].concat()
            }
            _ if command == format!("tbar {OURS}") && self.debug => {
                self.open = self.number == Some(OURS);
                vec![if self.open { "Test result:pass" } else { "Test result:fail" }.to_owned()]
            }
            other => vec![format!("Unknown command '{other}' - try 'help'")],
        };
        if !lines.iter().any(|line| line.starts_with("Unknown")) {
            lines.push("Command completed successfully".to_owned());
        }
        let prompt = if self.debug { "pylon_debug>" } else { "pylon>" };
        format!("{command}\r\n@\r\n{}\r\n$$\r\n{prompt}", lines.join("\r\n"))
    }

    /// One cycle; gives its end and the commands that it took.
    fn cycle(&mut self, driver: &mut Terminal<Debug>) -> (Step, Vec<String>) {
        self.heard.clear();
        driver.start(CycleKind::Read);
        loop {
            match driver.step() {
                Step::Pause(_) => driver.advance(),
                Step::Send(bytes) => {
                    let command = String::from_utf8(bytes).unwrap().trim_end().to_owned();
                    driver.advance();
                    let answer = self.answer(&command);
                    self.heard.push(command);
                    driver.receive(answer.as_bytes());
                }
                Step::Await(_) => driver.handle_timeout(),
                end => return (end, self.heard.clone()),
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
fn the_number_is_sent_only_where_nothing_comes_without_it() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.open = true;
    let (end, heard) = console.cycle(&mut driver);
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(heard, ["login debug", "info", "getpwr"]);
    assert_eq!(console.cycle(&mut driver).1, ["getpwr"], "log-in and names are kept");

    let (mut console, mut driver) = (Console::new(), self::driver());
    let (end, heard) = console.cycle(&mut driver);
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(heard, ["login debug", "info", "getpwr", &format!("tbar {OURS}"), "getpwr"]);
    assert_eq!(console.cycle(&mut driver).1, ["getpwr"]);
}

#[test]
fn another_controller_never_hears_our_number() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.number = Some("PPTAP09999C10427");
    for _ in 0..3 {
        let (end, heard) = console.cycle(&mut driver);
        let reason = reason(&end);
        assert!(reason.contains("PPTAP09999C10427") && reason.contains("was not sent"), "{reason}");
        assert!(heard.iter().all(|command| !command.starts_with("tbar")), "{heard:?}");
    }
    console.number = Some(OURS);
    assert!(matches!(console.cycle(&mut driver).0, Step::Done(_)), "the right one is back");
}

#[test]
fn a_refused_number_is_not_sent_again() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.number = None;
    let (end, heard) = console.cycle(&mut driver);
    assert!(reason(&end).contains("refused `tbar`: Test result:fail"));
    assert_eq!(heard.iter().filter(|command| command.starts_with("tbar")).count(), 1);
    for _ in 0..3 {
        let (end, heard) = console.cycle(&mut driver);
        assert!(reason(&end).contains("not sent again"));
        assert_eq!(heard, ["getpwr"]);
    }
}

#[test]
fn a_console_that_fell_back_is_logged_in_again_in_the_same_cycle() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.open = true;
    console.cycle(&mut driver);
    console.debug = false;
    let (end, heard) = console.cycle(&mut driver);
    assert!(matches!(end, Step::Done(_)), "{end:?}");
    assert_eq!(heard, ["getpwr", "login debug", "info", "getpwr"]);
}

#[test]
fn a_refused_log_in_is_told_in_the_consoles_words() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.lets_in = false;
    let (end, heard) = console.cycle(&mut driver);
    assert!(reason(&end).contains("Command completed successfully"), "{}", reason(&end));
    assert_eq!(heard, ["login debug"]);
}

#[test]
fn the_rest_of_a_half_typed_command_costs_one_more_log_in() {
    let mut driver = driver();
    let mut types = |answer: &str| {
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
    assert_eq!(types(unknown), "login debug\n");
    assert_eq!(types("login debug\r\n@\r\n$$\r\npylon_debug>"), "login debug\n");
    assert_eq!(types(""), "info\n");
}

#[test]
fn a_cut_answer_ends_the_log_in_and_sends_no_number() {
    let (mut console, mut driver) = (Console::new(), driver());
    console.open = true;
    console.cycle(&mut driver);
    driver.start(CycleKind::Read);
    assert!(matches!(driver.step(), Step::Send(_)));
    driver.advance();
    driver.receive(b"getpwr\r\n@\r\n49768# 0# 29300# 43259# Idle# Nor");
    driver.handle_timeout();
    let Step::Failed(ProtocolError::Timeout { received, .. }) = driver.step() else {
        panic!("{:?}", driver.step())
    };
    assert!(received > MERE_ECHO);
    assert_eq!(console.cycle(&mut driver).1, ["login debug", "info", "getpwr"]);
}

#[test]
fn module_counts_that_contradict_each_other_leave_the_numbers_away() {
    let mut reading = Reading { cells: vec![Default::default(); 30], ..Reading::default() };
    let serials = ["A".to_owned(), "B".to_owned(), "C".to_owned()];
    divide_into_modules(&mut reading, serials.iter().collect());
    assert_eq!(reading.modules.len(), 2);
    assert!(reading.modules.iter().all(|module| module.serial.is_none()));
    divide_into_modules(&mut reading, serials[..2].iter().collect());
    assert_eq!(reading.modules[1].serial.as_deref(), Some("B"));
    assert_eq!(reading.modules[1].cells, 15..30);
}

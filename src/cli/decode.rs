//! `decode`: frames as hex, or the text of a console, on stdin; one JSON object on stdout.
//!
//! The frames are played to the real driver: when it asks a question, it gets the chunks that
//! follow that question in the input; chunks without a question above them answer whatever is asked
//! first. Silence follows the last chunk.

use std::io::Read;
use std::sync::Arc;

use super::line::{Command, Flag, Takes};
use super::{FAILED, FINE, MISCONFIGURED};
use crate::model::derive::derive;
use crate::model::units::Millis;
use crate::model::{Attempt, DeviceId, DeviceState, Fault, FaultKind, Profile, Reading, Snapshot};
use crate::poll::CycleError;
use crate::protocol::driver::Medium;
use crate::protocol::{self, CycleKind, Driver, DriverInfo, Options, ProtocolError, Step, console};
use crate::raw::raw;

/// More than any capture of one reading holds.
const LONGEST_INPUT: u64 = 4 * 1024 * 1024;
/// A driver ends within a fixed number of steps; this is far beyond it.
const MOST_STEPS: usize = 10_000;

pub(super) const COMMAND: Command = Command {
    name: "decode",
    does: "Decode frames given as hex lines on stdin into one JSON object",
    operand: None,
    flags: &[Flag::new("type", Takes::One("TYPE"), "The brand").required()],
    prepare: |given| {
        let brand = given.text("type").unwrap_or_default().to_owned();
        Ok(Box::pin(async move { run(&brand) }))
    },
};

fn run(brand: &str) -> u8 {
    let Some((info, id)) = protocol::find(brand).zip(DeviceId::new(brand)) else {
        let known: Vec<_> = protocol::DRIVERS.iter().map(|info| info.name).collect();
        eprintln!("bms-reader: no type named {brand}; known are: {}", known.join(", "));
        return MISCONFIGURED;
    };
    let mut text = String::new();
    if let Err(error) = std::io::stdin().take(LONGEST_INPUT).read_to_string(&mut text) {
        eprintln!("bms-reader: cannot read stdin: {error}");
        return FAILED;
    }
    let state = decode(info, id, &text);
    let mut object = raw(&state);
    if let Some(status) = object["status"].as_object_mut() {
        // Nobody knows when these frames were recorded.
        status.shift_remove("last_update");
    }
    println!("{object}");
    if state.snapshot.is_some() { FINE } else { FAILED }
}

/// The state of a battery that said what is in `text`.
fn decode(info: &'static DriverInfo, id: DeviceId, text: &str) -> DeviceState {
    let mut state = DeviceState::new(Profile {
        id,
        name: info.title.to_owned(),
        brand: info.name.to_owned(),
        title: info.title.to_owned(),
        port: None,
        address: None,
        adapter: None,
        interval_ms: 0,
        controls: Vec::new(),
    });
    let result = match info.text {
        true => play_text(info, text),
        false => Dialogue::parse(text).and_then(|dialogue| dialogue.play_to_any(info)),
    };
    let (fault, reading) = match result {
        Ok(reading) => (None, Some(reading)),
        Err(fault) => (Some(fault), None),
    };
    let connected = reading.is_some();
    state.attempt = Some(Attempt { number: 1, ended: Millis(0), took_ms: 0, connected, fault });
    state.snapshot = reading.map(|reading| {
        let (device, derived) = (state.profile.id.clone(), derive(&reading));
        Arc::new(Snapshot { device, sequence: 1, taken: Millis(0), took_ms: 0, reading, derived })
    });
    state
}

/// A question, if it was given, and the chunks after it.
type Exchange = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// What was said, in order.
#[derive(Debug, Default, Clone)]
struct Dialogue {
    exchanges: Vec<Exchange>,
}

impl Dialogue {
    fn parse(text: &str) -> Result<Self, Fault> {
        let mut dialogue = Dialogue::default();
        for (index, line) in text.lines().enumerate() {
            let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            let (question, hex) = match line.strip_prefix('>') {
                Some(rest) => (true, rest),
                None => (false, line.as_str()),
            };
            if hex.is_empty() {
                continue;
            }
            let bytes = from_hex(hex).ok_or_else(|| not_hex(index + 1))?;
            if question {
                dialogue.exchanges.push((Some(bytes), Vec::new()));
            } else if let Some((_, chunks)) = dialogue.exchanges.last_mut() {
                chunks.push(bytes);
            } else {
                dialogue.exchanges.push((None, vec![bytes]));
            }
        }
        Ok(dialogue)
    }

    /// The frames may have come by Bluetooth, from any address on a bus, and in any dialect: the
    /// way that makes sense of them is theirs. Of the failures the most telling one counts, and silence tells
    /// least.
    fn play_to_any(&self, info: &DriverInfo) -> Result<Reading, Fault> {
        let mut worst: Option<Fault> = None;
        for options in ways(info) {
            let mut driver = (info.new)(&options);
            // The second time, a driver may put its question in another form.
            for ask in [CycleKind::Read, CycleKind::Read, CycleKind::Identify] {
                let mut dialogue = self.clone();
                let answer = |question: &[u8], rest| dialogue.answer(ask, question, rest);
                match play(&mut *driver, ask, answer) {
                    Ok(reading) => return Ok(reading),
                    Err(error) => worst = Some(more_specific(worst, error)),
                }
            }
        }
        Err(worst.unwrap_or_else(|| not_hex(0)))
    }

    /// The chunks that answer this question: those given below it, else those given without any
    /// question, else what the last answer left over. When the frames are but a part of a reading,
    /// each question finds its own among all that were given without one.
    fn answer(
        &mut self,
        ask: CycleKind,
        question: &[u8],
        left_over: std::vec::IntoIter<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let named = self.exchanges.iter().position(|(q, _)| q.as_deref() == Some(question));
        let unnamed = || self.exchanges.iter().position(|(q, _)| q.is_none());
        match named.or_else(unnamed) {
            Some(index) if named.is_none() && ask == CycleKind::Identify => {
                self.exchanges[index].1.clone()
            }
            Some(index) => self.exchanges.remove(index).1,
            None => left_over.collect(),
        }
    }
}

/// Obeys a driver; `answer` gives the chunks that answer a question, given what is left of the
/// answer before.
fn play(
    driver: &mut dyn Driver,
    ask: CycleKind,
    mut answer: impl FnMut(&[u8], std::vec::IntoIter<Vec<u8>>) -> Vec<Vec<u8>>,
) -> Result<Reading, ProtocolError> {
    driver.start(ask);
    let mut chunks = Vec::new().into_iter();
    for _ in 0..MOST_STEPS {
        match driver.step() {
            Step::Send(question) => {
                chunks = answer(&question, chunks).into_iter();
                driver.advance();
            }
            Step::Pause(_) => driver.advance(),
            Step::Await(_) => match chunks.next() {
                Some(chunk) => driver.receive(&chunk),
                None => driver.handle_timeout(),
            },
            Step::Done(reading) => return Ok(*reading),
            Step::Failed(error) => return Err(error),
        }
    }
    Err(ProtocolError::Timeout { query: "the frames".into(), received: 0 })
}

/// The text of a console answers every command: the driver finds the echo of what it typed. What
/// people copy from a terminal may lack the prompt at the end.
fn play_text(info: &DriverInfo, text: &str) -> Result<Reading, Fault> {
    let text = format!("{}\r\n{}", text.trim_end(), console::PROMPT);
    let mut worst: Option<Fault> = None;
    // Names alone are worth something only where there are no values.
    for ask in [CycleKind::Read, CycleKind::Identify] {
        for options in ways(info) {
            let mut driver = (info.new)(&options);
            let answer = |_: &[u8], _| vec![text.clone().into_bytes()];
            match play(&mut *driver, ask, answer) {
                Ok(reading) => return Ok(reading),
                Err(error) => worst = Some(more_specific(worst, error)),
            }
        }
    }
    Err(worst.unwrap_or_else(|| not_hex(0)))
}

/// Every way in which frames of this brand may have come.
fn ways(info: &DriverInfo) -> Vec<Options> {
    let default = Options::default();
    let mut addresses = vec![default.address];
    addresses.extend(info.addresses.clone().filter(|address| *address != default.address));
    let radio = info.gatt.map(|_| Options { medium: Medium::Ble, ..default.clone() });
    let wire = addresses.into_iter().filter(|_| info.serial.is_some());
    let wire = wire.map(|address| Options { address, ..default.clone() });
    let variants =
        info.variants.iter().chain(info.replay_variants).map(|name| Some((*name).to_owned()));
    let variants: Vec<Option<String>> = std::iter::once(None).chain(variants).collect();
    let in_each = |way: Options| {
        variants.iter().map(move |variant| Options { variant: variant.clone(), ..way.clone() })
    };
    radio.into_iter().chain(wire).flat_map(in_each).collect()
}

fn more_specific(known: Option<Fault>, error: ProtocolError) -> Fault {
    let quiet = |fault: &Fault| fault.kind == FaultKind::Timeout;
    let new = about_the_input(CycleError::Protocol(error).fault());
    known.filter(|known| !quiet(known) || quiet(&new)).unwrap_or(new)
}

/// On a wire other things can be done about the same fault.
fn about_the_input(fault: Fault) -> Fault {
    let hint = match fault.kind {
        FaultKind::Timeout => {
            "nothing or too little was given on stdin: give whole answers, from the first byte to \
             the last, and check the type"
        }
        FaultKind::BadChecksum => "digits were lost or changed: compare with the recording",
        FaultKind::BadFrame | FaultKind::UnsupportedFrame => {
            "check the type, and that nothing but answers was given; a request begins with >"
        }
        FaultKind::AuthFailed => {
            "begin the line of a request with >, and give its answer too; if that is a refusal, the \
             password was wrong"
        }
        _ => return fault,
    };
    Fault::new(fault.kind, fault.message, hint)
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn not_hex(line: usize) -> Fault {
    Fault::new(
        FaultKind::BadFrame,
        format!("line {line} is not a sequence of bytes in hex"),
        "write two digits for each byte; blanks do not matter; a request begins with >",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_whole_bytes_and_nothing_else() {
        assert_eq!(from_hex("7E0d"), Some(vec![0x7E, 0x0D]));
        assert_eq!(from_hex("7E0"), None);
        assert_eq!(from_hex("7G"), None);
        assert_eq!(from_hex("+7"), None);
    }

    #[test]
    fn chunks_belong_to_the_question_above_them() {
        let dialogue = Dialogue::parse("01 02\n\n03\n> AA\n04\n> BB\n05\n06\n").unwrap();
        let expected: Vec<Exchange> = vec![
            (None, vec![vec![1, 2], vec![3]]),
            (Some(vec![0xAA]), vec![vec![4]]),
            (Some(vec![0xBB]), vec![vec![5], vec![6]]),
        ];
        assert_eq!(dialogue.exchanges, expected);
    }

    /// A reading of JBD needs two answers; each of them, and those that need none, decode alone.
    #[test]
    fn a_part_of_a_reading_is_decoded_too() {
        let basic = "DD03001D0618000001F201F400002C7C00000000000080640304030B8B0B8A0B84FA8D77";
        let cells = "DD0400080F450F3D0F370F3DFEC677";
        let name = "DD0500194A42442D53503034533033342D4C34532D323030412D422D55FA0877";
        let told = |frames: &[&str]| {
            let dialogue = Dialogue::parse(&frames.join("\n")).unwrap();
            let reading = dialogue.play_to_any(&protocol::jbd::INFO).unwrap();
            let voltages = reading.cells.iter().filter(|cell| cell.voltage.is_some()).count();
            (reading.pack.soc.is_some(), voltages, reading.identity.model.is_some())
        };
        assert_eq!(told(&[basic, cells, name]), (true, 4, true));
        assert_eq!(told(&[basic]), (true, 0, false));
        assert_eq!(told(&[cells]), (false, 4, false));
        assert_eq!(told(&[name, cells]), (false, 4, true));
        let damaged = basic.replace("FA8D", "FA8E");
        let fault = Dialogue::parse(&damaged).unwrap().play_to_any(&protocol::jbd::INFO);
        assert_eq!(fault.unwrap_err().kind, FaultKind::BadChecksum);
    }

    #[test]
    fn advice_is_about_the_input() {
        for (brand, text) in
            [("daren", ""), ("daren", "7E"), ("jbd", "DD03"), ("pylontech-sc0500", "")]
        {
            let info = protocol::find(brand).unwrap();
            let state = decode(info, DeviceId::new(brand).unwrap(), text);
            let fault = state.attempt.unwrap().fault.unwrap();
            assert!(fault.hint.starts_with("nothing or too little"), "{brand} {text}: {fault:?}");
        }
        let info = protocol::find("jbd").unwrap();
        let state = decode(info, DeviceId::new("jbd").unwrap(), "DDA50300FFFD77");
        let fault = state.attempt.unwrap().fault.unwrap();
        assert!(fault.hint.contains("a request with >"), "{fault:?}");
    }

    #[test]
    fn a_line_that_is_not_hex_is_named() {
        let fault = Dialogue::parse("01\nxyz\n").unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadFrame);
        assert!(fault.message.contains("line 2"), "{fault}");
    }

    #[test]
    fn frames_of_every_dialect_are_understood_without_their_questions() {
        let frames = "a501900802100000753001f4ea\na5019408030100000200000048\n\
                      a5019508010ec00ec20ec720d7\n";
        let dialogue = Dialogue::parse(frames).unwrap();
        let reading = dialogue.play_to_any(protocol::find("daly").unwrap()).unwrap();
        assert_eq!(reading.cells.len(), 3);
        assert_eq!(reading.pack.soc.map(|soc| soc.0), Some(5000));
    }
}

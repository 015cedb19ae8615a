//! `decode`: frames in hex, or the text of a console, on stdin; one JSON object on stdout.
//!
//! The real driver reads the recording: it receives the chunks that follow its request there;
//! chunks without a request above them answer the first request. Then it times out.

use std::io::{IsTerminal, Read};
use std::sync::Arc;

use serde_json::Value;

use super::args::FlagValue::One;
use super::args::{Command, Flag, PROGRAM};
use super::{CommandError, FAILED, Outcome, SUCCESS, failed, misconfigured, print, unknown_type};
use crate::model::derive::derive;
use crate::model::plausible::remove_impossible;
use crate::model::units::Millis;
use crate::model::{Attempt, DeviceId, DeviceState, Fault, FaultKind, Profile, Reading, Snapshot};
use crate::poll::CycleError;
use crate::protocol::driver::Medium;
use crate::protocol::{self, CycleKind, Driver, DriverInfo, Options, ProtocolError, Step, console};
use crate::raw::raw;

/// In bytes; ten times the longest recording of one reading, a console with 120 cells. Each address and
/// dialect of the type searches all of it.
const MAX_INPUT: u64 = 256 * 1024;
/// Far more steps than any driver needs.
const MAX_STEPS: usize = 10_000;

const INCOMPLETE: &str = "the input is empty or incomplete: give whole answers, from the first \
                          byte to the last, and check the type";

pub(super) const COMMAND: Command = Command {
    name: "decode",
    about: "Decode frames in hex from stdin into one JSON object",
    positional: None,
    flags: &[Flag { required: true, ..Flag::new("type", One("TYPE"), "Type of the battery") }],
    prepare: |matches| {
        let brand = matches.value("type").unwrap_or_default().to_owned();
        Ok(Box::pin(async move { run(&brand) }))
    },
};

fn run(brand: &str) -> Outcome {
    let (info, id) = protocol::find(brand)
        .zip(DeviceId::new(brand))
        .ok_or_else(|| misconfigured(unknown_type(brand, COMMAND.name)))?;
    if std::io::stdin().is_terminal() {
        let what = if info.text { "the text of the console" } else { "the frames in hex" };
        eprintln!("{PROGRAM}: paste {what}, then press Enter and Ctrl+D");
    }
    let mut decoded = decode(info, &read(std::io::stdin())?);
    for reason in decoded.reading.as_mut().map(remove_impossible).unwrap_or_default() {
        eprintln!("{PROGRAM}: left out: {reason}");
    }
    let is_good = decoded.fault.is_none();
    print(without_time(&state(info, id, decoded)))?;
    Ok(if is_good { SUCCESS } else { FAILED })
}

fn read(input: impl Read) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = input.take(MAX_INPUT + 1).read_to_string(&mut text);
    match read.map_err(|error| {
        failed(format!("cannot read stdin: {error}; give frames in hex, as in a log at TRACE"))
    })? as u64
    {
        0..=MAX_INPUT => Ok(text),
        _ => Err(failed(format!(
            "stdin has more than {} kB; give the frames of one reading",
            MAX_INPUT / 1024
        ))),
    }
}

/// The `raw` JSON of a recording, the time of which is unknown.
pub(super) fn without_time(state: &DeviceState) -> Value {
    let mut object = raw(state);
    if let Some(status) = object["status"].as_object_mut() {
        status.shift_remove("last_update");
    }
    object
}

/// What a recording contains. With a fault, the reading has the identity alone.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub reading: Option<Reading>,
    pub fault: Option<Fault>,
}

impl From<Result<Reading, Fault>> for Decoded {
    fn from(result: Result<Reading, Fault>) -> Self {
        match result {
            Ok(reading) => Decoded { reading: Some(reading), fault: None },
            Err(fault) => Decoded { reading: None, fault: Some(fault) },
        }
    }
}

fn decode(info: &'static DriverInfo, text: &str) -> Decoded {
    if text.trim().is_empty() {
        let fault = Fault::new(FaultKind::Timeout, "the input is empty", INCOMPLETE);
        return Err(fault).into();
    }
    let recording = match info.text {
        true => Ok(Recording::of_console(text)),
        false => Recording::parse(text),
    };
    recording.map_or_else(|fault| Err(fault).into(), |recording| recording.decode(info))
}

/// The state of a battery after the only attempt to read it.
pub(super) fn state(info: &DriverInfo, id: DeviceId, decoded: Decoded) -> DeviceState {
    let profile =
        Profile { name: info.title.to_owned(), ..Profile::new(id, info.name, info.title) };
    let snapshot = decoded.reading.map(|reading| snapshot(&profile, Millis(0), reading));
    let connected = snapshot.is_some();
    state_after_attempt(profile, snapshot, connected, decoded.fault)
}

/// A snapshot of a battery without history.
pub(super) fn snapshot(profile: &Profile, taken: Millis, reading: Reading) -> Arc<Snapshot> {
    let (device, derived) = (profile.id.clone(), derive(&reading));
    Arc::new(Snapshot { device, sequence: 1, taken, took_ms: 0, reading, derived })
}

/// The state of a battery whose only attempt ended like this.
pub(super) fn state_after_attempt(
    profile: Profile,
    snapshot: Option<Arc<Snapshot>>,
    connected: bool,
    fault: Option<Fault>,
) -> DeviceState {
    let mut state = DeviceState::new(profile);
    state.snapshot = snapshot;
    state.attempt = Some(Attempt { number: 1, ended: Millis(0), took_ms: 0, connected, fault });
    state
}

/// A request, if it was recorded, and the chunks after it.
pub(super) type Exchange = (Option<Vec<u8>>, Vec<Vec<u8>>);

/// The recorded traffic, in order.
#[derive(Debug, Default, Clone)]
pub(super) struct Recording {
    pub exchanges: Vec<Exchange>,
    /// The text of a console answers every command: the driver finds the echo of its command.
    is_console: bool,
}

impl Recording {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            let request = line.strip_prefix('>');
            let bytes = from_hex(request.unwrap_or(&line)).ok_or_else(|| not_hex(index + 1))?;
            match (request, exchanges.last_mut()) {
                _ if bytes.is_empty() => {}
                (Some(_), _) => exchanges.push((Some(bytes), Vec::new())),
                (None, Some((_, chunks))) => chunks.push(bytes),
                (None, None) => exchanges.push((None, vec![bytes])),
            }
        }
        Ok(Recording { exchanges, is_console: false })
    }

    /// What people copy from a terminal may lack the prompt at the end.
    fn of_console(text: &str) -> Self {
        let text = format!("{}\r\n{}", text.trim_end(), console::PROMPT);
        Recording { exchanges: vec![(None, vec![text.into_bytes()])], is_console: true }
    }

    /// The first reading of any attempt. Without one, the identity, and the most specific fault
    /// where a frame with values was refused.
    fn decode(&self, info: &DriverInfo) -> Decoded {
        // The driver of frames reads twice, because it may use another form of its request in the
        // second cycle.
        let reads = if self.is_console { 1 } else { 2 };
        let mut fault: Option<Fault> = None;
        let mut refusals: Vec<(Options, ProtocolError)> = Vec::new();
        let mut identity: Option<(Options, Reading)> = None;
        for options in all_options(info) {
            let mut driver = info.driver(&options);
            for _ in 0..reads {
                match self.clone().play(&mut *driver, CycleKind::Read) {
                    Ok(reading) => return Ok(reading).into(),
                    Err(error) => {
                        fault = Some(more_specific(fault, error.clone()));
                        refusals.push((options.clone(), error));
                    }
                }
            }
            // Names alone are only of use where no attempt finds values.
            if identity.is_none() {
                match self.clone().play(&mut *driver, CycleKind::Identify) {
                    Ok(reading) => identity = Some((options, reading)),
                    Err(error) => fault = Some(more_specific(fault, error)),
                }
            }
        }
        let Some((options, reading)) = identity else {
            return Err(fault.unwrap_or_else(|| not_hex(0))).into();
        };
        // In other dialects the frames mean something else.
        refusals.retain(|(other, error)| {
            let same = (other.medium, &other.variant) == (options.medium, &options.variant);
            same && !matches!(error, ProtocolError::Timeout { .. })
        });
        let errors = refusals.into_iter().map(|(_, error)| error);
        let fault = errors.fold(None, |known, error| Some(more_specific(known, error)));
        Decoded { reading: Some(reading), fault }
    }

    fn play(mut self, driver: &mut dyn Driver, kind: CycleKind) -> Result<Reading, ProtocolError> {
        driver.start(kind);
        let mut chunks = Vec::new().into_iter();
        for _ in 0..MAX_STEPS {
            match driver.step() {
                Step::Send(request) => {
                    let answer = self.take_answer(kind, &request);
                    chunks = answer.unwrap_or_else(|| chunks.collect()).into_iter();
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

    /// The chunks below this request, or else those without a request; `None` if there are none,
    /// so that the rest of the previous answer remains. If the recording is only a part of a
    /// reading, each request searches all chunks without a request for its answer.
    fn take_answer(&mut self, kind: CycleKind, request: &[u8]) -> Option<Vec<Vec<u8>>> {
        let named =
            self.exchanges.iter().position(|(recorded, _)| recorded.as_deref() == Some(request));
        let unnamed = || self.exchanges.iter().position(|(recorded, _)| recorded.is_none());
        let index = named.or_else(unnamed)?;
        let is_reusable = named.is_none() && (self.is_console || kind == CycleKind::Identify);
        Some(match is_reusable {
            true => self.exchanges[index].1.clone(),
            false => self.exchanges.remove(index).1,
        })
    }
}

/// The input may come from Bluetooth, from any address on a bus, and in any dialect.
pub(super) fn all_options(info: &DriverInfo) -> Vec<Options> {
    let default = Options::default();
    let others = info.addresses.clone().filter(|address| *address != default.address);
    let addresses = std::iter::once(default.address).chain(others);
    let ble = info.gatt.map(|_| (Medium::Ble, default.address));
    let serial =
        addresses.filter(|_| info.serial.is_some()).map(|address| (Medium::Serial, address));
    let mut all = Vec::new();
    for (medium, address) in ble.into_iter().chain(serial) {
        let variants = info.variants.iter().chain(info.replay_variants);
        for variant in std::iter::once(None).chain(variants.map(Some)) {
            let variant = variant.map(|name| (*name).to_owned());
            all.push(Options { address, medium, variant, ..default.clone() });
        }
    }
    all
}

/// The later fault, unless it is a timeout and the earlier one is not.
fn more_specific(earlier: Option<Fault>, error: ProtocolError) -> Fault {
    let is_timeout = |fault: &Fault| fault.kind == FaultKind::Timeout;
    let later = with_hint_about_input(CycleError::Protocol(error).fault());
    earlier.filter(|earlier| !is_timeout(earlier) || is_timeout(&later)).unwrap_or(later)
}

/// The hints of the driver are about a line; here the input is at fault.
fn with_hint_about_input(fault: Fault) -> Fault {
    let hint = match fault.kind {
        FaultKind::Timeout => INCOMPLETE,
        FaultKind::BadChecksum => "digits are missing or changed: compare with the recording",
        FaultKind::BadFrame | FaultKind::UnsupportedFrame => {
            "check the type, and that the input contains answers only; start a request with >"
        }
        FaultKind::AuthFailed => {
            "start the line of a request with >, and give its answer, too; if that is a refusal, \
             the password was wrong"
        }
        _ => return fault,
    };
    Fault::new(fault.kind, fault.message, hint)
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    // `from_str_radix` accepts a sign.
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len().is_multiple_of(2);
    let byte = |start| u8::from_str_radix(text.get(start..start + 2)?, 16).ok();
    is_hex.then(|| (0..text.len()).step_by(2).map(byte).collect())?
}

fn not_hex(line: usize) -> Fault {
    Fault::new(
        FaultKind::BadFrame,
        format!("line {line} is not hex"),
        "write two digits for each byte; blanks are ignored; a request starts with >",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::work;

    fn decode_hex(brand: &str, text: &str) -> Result<Reading, Fault> {
        let info = protocol::find(brand).unwrap();
        let decoded = decode(info, text);
        decoded.fault.map_or_else(|| Ok(decoded.reading.unwrap()), Err)
    }

    #[test]
    fn input_is_limited() {
        let error = read(std::io::repeat(b'0')).unwrap_err();
        assert!(error.message.contains("256 kB"), "{}", error.message);
        assert_eq!(read(&b"7E"[..]).unwrap(), "7E");
    }

    /// Each address and dialect of a type searches all of the input, two reads and one identification
    /// each.
    #[test]
    fn work_for_one_byte_of_junk_is_bounded() {
        let mut random = 1_u32;
        let noise = std::iter::repeat_with(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random.to_be_bytes()[0]
        });
        let noise: Vec<u8> = noise.take(4096).collect();
        let hex: String = noise.iter().map(|byte| format!("{byte:02X}")).collect();
        let text: String = noise.iter().map(|byte| char::from(b' ' + byte % 95)).collect();
        let mut worst = Vec::new();
        for info in protocol::drivers() {
            let attempts = 3 * all_options(info).len();
            assert!(attempts <= 3 * 256, "{}: {attempts}", info.name);
            work::take();
            decode(info, if info.text { &text } else { &hex });
            worst.push((work::take() / attempts / noise.len(), info.name));
        }
        worst.sort_unstable_by(|left, right| right.cmp(left));
        // As for one driver: see `junk_costs_the_same_per_byte_in_every_driver`.
        assert!((1..32).contains(&worst[0].0), "{:#?}", &worst[..10]);
    }

    #[test]
    fn from_hex_accepts_whole_bytes_only() {
        assert_eq!(from_hex("7E0d"), Some(vec![0x7E, 0x0D]));
        assert_eq!(from_hex("7E0"), None);
        assert_eq!(from_hex("7G"), None);
        assert_eq!(from_hex("+7"), None);
    }

    #[test]
    fn chunks_belong_to_the_request_above_them() {
        let recording = Recording::parse("01 02\n\n03\n> AA\n04\n> BB\n05\n06\n").unwrap();
        let expected: Vec<Exchange> = vec![
            (None, vec![vec![1, 2], vec![3]]),
            (Some(vec![0xAA]), vec![vec![4]]),
            (Some(vec![0xBB]), vec![vec![5], vec![6]]),
        ];
        assert_eq!(recording.exchanges, expected);
    }

    /// A reading of JBD needs two answers; each of them also decodes alone.
    #[test]
    fn part_of_a_reading_is_decoded() {
        let basic = "DD03001D0618000001F201F400002C7C00000000000080640304030B8B0B8A0B84FA8D77";
        let cells = "DD0400080F450F3D0F370F3DFEC677";
        let name = "DD0500194A42442D53503034533033342D4C34532D323030412D422D55FA0877";
        let parts = |frames: &[&str]| {
            let reading = decode_hex("jbd", &frames.join("\n")).unwrap();
            let voltages = reading.cells.iter().filter(|cell| cell.voltage.is_some()).count();
            (reading.pack.soc.is_some(), voltages, reading.identity.model.is_some())
        };
        assert_eq!(parts(&[basic, cells, name]), (true, 4, true));
        assert_eq!(parts(&[basic]), (true, 0, false));
        assert_eq!(parts(&[cells]), (false, 4, false));
        assert_eq!(parts(&[name, cells]), (false, 4, true));
        let damaged = basic.replace("FA8D", "FA8E");
        let fault = decode_hex("jbd", &damaged);
        assert_eq!(fault.unwrap_err().kind, FaultKind::BadChecksum);
        let decoded = decode(protocol::find("jbd").unwrap(), &format!("{damaged}\n{name}"));
        assert_eq!(decoded.fault.unwrap().kind, FaultKind::BadChecksum, "the name is no reading");
        assert_eq!(
            decoded.reading.unwrap().identity.model.clone().unwrap(),
            "JBD-SP04S034-L4S-200A-B-U"
        );
    }

    /// Newer Bluetooth modules require their key first; behind it the requests may be missing.
    #[test]
    fn jbd_reading_behind_the_key_is_decoded() {
        let key = "> FFAA15063030303030303B\nFFAA15010016\n";
        let basic = "DD03001D0618000001F201F400002C7C00000000000080640304030B8B0B8A0B84FA8D77";
        let cells = "DD0400080F450F3D0F370F3DFEC677";
        let (ask_basic, ask_cells) = ("> DDA50300FFFD77", "> DDA50400FFFC77");
        for conversation in [
            format!("{key}{ask_basic}\n{basic}\n{ask_cells}\n{cells}"),
            format!("{key}{basic}\n{cells}"),
            format!("{ask_basic}\n{key}{basic}\n{cells}"),
            format!("{ask_basic}\n{ask_basic}\n{key}{basic}\n{cells}"),
            format!("FFAA15010016\n{basic}\n{cells}"),
        ] {
            let reading = decode_hex("jbd", &conversation).unwrap();
            assert_eq!(reading.pack.soc.map(|soc| soc.0), Some(10_000), "{conversation}");
            assert_eq!(reading.cells.len(), 4, "{conversation}");
        }
    }

    #[test]
    fn hint_is_about_the_input() {
        for (brand, text) in
            [("daren", ""), ("daren", "7E"), ("jbd", "DD03"), ("pylontech-sc0500", "")]
        {
            let info = protocol::find(brand).unwrap();
            let fault = decode(info, text).fault.unwrap();
            assert!(
                fault.hint.starts_with("the input is empty or incomplete"),
                "{brand} {text}: {fault:?}"
            );
        }
        let info = protocol::find("jbd").unwrap();
        let fault = decode(info, "DDA50300FFFD77").fault.unwrap();
        assert!(fault.hint.contains("a request with >"), "{fault:?}");
    }

    #[test]
    fn empty_input_is_named() {
        let info = protocol::find("jbd").unwrap();
        assert_eq!(decode(info, " \n").fault.unwrap().message, "the input is empty");
    }

    #[test]
    fn fault_names_the_line_that_is_not_hex() {
        let fault = Recording::parse("01\nxyz\n").unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadFrame);
        assert!(fault.message.contains("line 2"), "{fault}");
    }

    #[test]
    fn every_dialect_is_decoded_without_requests() {
        let frames = "a501900802100000753001f4ea\na5019408030100000200000048\n\
                      a5019508010ec00ec20ec720d7\n";
        let reading = decode_hex("daly", frames).unwrap();
        assert_eq!(reading.cells.len(), 3);
        assert_eq!(reading.pack.soc.map(|soc| soc.0), Some(5000));
    }
}

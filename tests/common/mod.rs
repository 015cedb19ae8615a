//! What the tests of the drivers share: the recorded frames, and a caller that obeys a driver
//! without any clock.

#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::fs;
use std::path::Path;

use bms_reader::model::Reading;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{Driver, DriverInfo, Options, ProtocolError, Step};
use serde_json::Value;

/// Calls of `step` that no cycle of any brand may exceed.
pub const STEP_LIMIT: usize = 200;

/// One entry of `tests/vectors/<brand>.json`.
#[derive(Debug, Clone)]
pub struct Vector {
    pub id: String,
    pub kind: String,
    pub request: Vec<u8>,
    pub response: Vec<u8>,
    /// The pieces in which a response by Bluetooth arrived; none where nobody wrote them down.
    pub pieces: Vec<Vec<u8>>,
    pub json: Value,
}

/// All vectors of a brand.
pub fn vectors(brand: &str) -> Vec<Vector> {
    let file = json(&format!("{brand}.json"));
    file["vectors"].as_array().expect("a list").iter().map(vector).collect()
}

/// A file of `tests/vectors`.
pub fn json(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn vector(json: &Value) -> Vector {
    let word = |key: &str| json[key].as_str().expect(key).to_owned();
    assert!(!word("origin").is_empty() && !word("source").is_empty(), "{json}");
    let pieces = json["notifications_hex"].as_array().into_iter().flatten();
    let pieces: Vec<_> = pieces.map(|piece| unhex(piece.as_str().expect("hex"))).collect();
    let response = if pieces.is_empty() { bytes(json, "response") } else { pieces.concat() };
    Vector {
        id: word("id"),
        kind: word("kind"),
        request: bytes(json, "request"),
        response,
        pieces,
        json: json.clone(),
    }
}

/// `<what>_hex`, which has to agree with `<what>_text` where both are given.
fn bytes(json: &Value, what: &str) -> Vec<u8> {
    let text = json[format!("{what}_text")].as_str();
    let Some(hex) = json[format!("{what}_hex")].as_str() else {
        return text.unwrap_or_default().as_bytes().to_vec();
    };
    let bytes = unhex(hex);
    if let Some(text) = text {
        assert_eq!(bytes, text.as_bytes(), "{json}");
    }
    bytes
}

pub fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).expect("hex")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// Default options, with the address of the recorded frames; by wire, unless the brand knows none.
pub fn usual(info: &DriverInfo) -> Options {
    let medium = if info.serial.is_some() { Medium::Serial } else { Medium::Ble };
    let address = match info.name {
        "pylontech" => 2,
        "seplos" => 0,
        _ => Options::default().address,
    };
    Options { medium, address, ..Options::default() }
}

/// A driver with the usual options.
pub fn driver(info: &DriverInfo) -> Box<dyn Driver> {
    (info.new)(&usual(info))
}

/// How a cycle went.
#[derive(Debug)]
pub struct Outcome {
    /// The questions, in order.
    pub asked: Vec<Vec<u8>>,
    /// `Done` or `Failed`.
    pub end: Step,
    /// Calls of `step`.
    pub steps: usize,
}

impl Outcome {
    pub fn reading(self) -> Reading {
        match self.end {
            Step::Done(reading) => *reading,
            other => panic!("{other:?}"),
        }
    }

    pub fn error(self) -> ProtocolError {
        match self.end {
            Step::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    }
}

/// Obeys a driver until its cycle is over. `answer` gets each question and gives the chunks that
/// come back; when they are used up there is silence.
pub fn play(
    driver: &mut dyn Driver,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>>,
) -> Result<Outcome, String> {
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut waiting: Option<Vec<Vec<u8>>> = None;
    for steps in 1..=STEP_LIMIT {
        let step = driver.step();
        if driver.step() != step {
            return Err(format!("{step:?} is not stable"));
        }
        match step {
            Step::Pause(_) => driver.advance(),
            Step::Send(bytes) => {
                waiting = Some(answer(&bytes));
                asked.push(bytes);
                driver.advance();
            }
            Step::Await(_) => match waiting.take() {
                Some(chunks) => chunks.iter().for_each(|chunk| driver.receive(chunk)),
                None => driver.handle_timeout(),
            },
            end @ (Step::Done(_) | Step::Failed(_)) => return Ok(Outcome { asked, end, steps }),
        }
    }
    Err(format!("no end after {STEP_LIMIT} steps"))
}

/// Ways to deliver the same bytes.
#[derive(Debug, Clone, Copy)]
pub enum Delivery {
    Whole,
    ByteByByte,
    Cut(u64),
    BehindJunk(u64),
    BehindEcho,
}

impl Delivery {
    /// Every kind, the random ones with several seeds.
    pub fn all() -> Vec<Delivery> {
        let mut all = vec![Delivery::Whole, Delivery::ByteByByte, Delivery::BehindEcho];
        all.extend((1..=8).map(Delivery::Cut));
        all.extend((1..=8).map(Delivery::BehindJunk));
        all
    }

    /// The chunks that bring `response` after `request`.
    pub fn chunks(self, request: &[u8], response: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Delivery::Whole => vec![response.to_vec()],
            Delivery::ByteByByte => response.iter().map(|&byte| vec![byte]).collect(),
            Delivery::Cut(seed) => cut(response, seed),
            Delivery::BehindJunk(seed) => cut(&[&junk(seed), response].concat(), seed),
            Delivery::BehindEcho => vec![[request, response].concat()],
        }
    }
}

fn cut(bytes: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut dice = Dice(seed);
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at((1 + dice.below(40)).min(rest.len()));
        chunks.push(chunk.to_vec());
        rest = later;
    }
    chunks
}

/// Noise: anything, and the ends and beginnings of frames of every brand.
fn junk(seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let pieces: [&[u8]; 5] = [b"\0U\xFF", b"~2201", b"22014A00\r", b"~\r", b"\xDD\x03"];
    let mut junk = Vec::new();
    for _ in 0..=dice.below(6) {
        junk.extend_from_slice(pieces[dice.below(pieces.len())]);
        junk.extend((0..dice.below(20)).map(|_| u8::try_from(dice.below(256)).unwrap()));
    }
    junk
}

/// Repeatable chance: xorshift64*.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap() % limit
    }
}

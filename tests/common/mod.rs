//! Shared by the tests of the drivers: the recorded exchanges, and a caller that runs a driver
//! without a clock.

#![allow(dead_code, reason = "every test file uses its own part of it")]

pub mod vectors;

use bms_reader::model::Reading;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{Driver, DriverInfo, Options, ProtocolError, Step};

/// Calls of `step` that no cycle of any driver may exceed.
const STEP_LIMIT: usize = 200;

/// Default options, on a serial line where the driver supports one.
pub fn default_options(info: &DriverInfo) -> Options {
    let default = Options::default();
    Options {
        medium: if info.serial.is_some() { Medium::Serial } else { Medium::Ble },
        address: default.address.clamp(*info.addresses.start(), *info.addresses.end()),
        ..default
    }
}

/// How a cycle went.
#[derive(Debug)]
pub struct Outcome {
    /// The requests, in order.
    pub asked: Vec<Vec<u8>>,
    pub end: Step,
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

/// Runs a cycle to its end. `answer` returns the chunks that a request is answered with; once they
/// are used up, the line stays silent.
pub fn play(
    driver: &mut dyn Driver,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>>,
) -> Result<Outcome, String> {
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut pending: Option<Vec<Vec<u8>>> = None;
    let mut listened = false;
    for _ in 0..STEP_LIMIT {
        let step = driver.step();
        if driver.step() != step {
            return Err(format!("{step:?} is not stable"));
        }
        match step {
            Step::Pause(_) => driver.advance(),
            Step::Send(bytes) => {
                pending = Some(answer(&bytes));
                asked.push(bytes);
                driver.advance();
            }
            // Some batteries send unasked.
            Step::Await(_) if asked.is_empty() && !std::mem::replace(&mut listened, true) => {
                answer(&[]).iter().for_each(|chunk| driver.receive(chunk));
            }
            Step::Await(_) => match pending.take() {
                Some(chunks) => chunks.iter().for_each(|chunk| driver.receive(chunk)),
                None => driver.handle_timeout(),
            },
            end @ (Step::Done(_) | Step::Failed(_)) => return Ok(Outcome { asked, end }),
        }
    }
    Err(format!("no end after {STEP_LIMIT} steps"))
}

/// Ways in which the same bytes may arrive. A number is a seed.
#[derive(Debug, Clone, Copy)]
pub enum Delivery {
    Whole,
    ByteByByte,
    Pieces(u64),
    AfterNoise(u64),
    AfterEcho,
}

impl Delivery {
    /// Every kind, the random ones with several seeds.
    pub fn all() -> Vec<Delivery> {
        let mut all = vec![Delivery::Whole, Delivery::ByteByByte, Delivery::AfterEcho];
        all.extend((1..=8).map(Delivery::Pieces));
        all.extend((1..=8).map(Delivery::AfterNoise));
        all
    }

    /// The chunks in which `response` arrives after `request`.
    pub fn chunks(self, request: &[u8], response: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Delivery::Whole => vec![response.to_vec()],
            Delivery::ByteByByte => response.iter().map(|&byte| vec![byte]).collect(),
            Delivery::Pieces(seed) => pieces(response, seed),
            Delivery::AfterNoise(seed) => pieces(&[&noise(seed), response].concat(), seed),
            Delivery::AfterEcho => vec![[request, response].concat()],
        }
    }
}

fn pieces(bytes: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at((1 + random.below(40)).min(rest.len()));
        chunks.push(chunk.to_vec());
        rest = later;
    }
    chunks
}

/// Random bytes, with beginnings and ends of frames among them.
fn noise(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let parts: [&[u8]; 5] = [b"\0U\xFF", b"~2201", b"22014A00\r", b"~\r", b"\xDD\x03"];
    let mut noise = Vec::new();
    for _ in 0..=random.below(6) {
        noise.extend_from_slice(parts[random.below(parts.len())]);
        noise.extend((0..random.below(20)).map(|_| u8::try_from(random.below(256)).unwrap()));
    }
    noise
}

/// Repeatable random numbers: xorshift64*.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap() % limit
    }
}

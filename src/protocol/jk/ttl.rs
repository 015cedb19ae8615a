//! The frame "4E 57" of the GPS/RS485 socket on boards other than the PB series (3.3 V levels; a long
//! line needs an adapter). Numbers are big-endian.
//!
//! ```text
//! 4E 57 | length | terminal (4) | command | source | type | data | record (4) | 68 | sum (4)
//! ```
//!
//! The length covers everything behind `4E 57`, the sum all bytes up to `68`.

use std::time::Duration;

use super::tags;
use crate::model::Reading;
use crate::protocol::query::TURN_ROUND;
use crate::protocol::{DecodeError, Framing, Need, Options, Pacing, RequestReply, check};

pub(crate) const HEADER: [u8; 2] = [0x4E, 0x57];
/// Header, length, terminal, command, source and type.
pub(super) const HEAD: usize = 11;
/// Record number, end mark and sum.
pub(super) const TAIL: usize = 9;
pub(super) const END_MARK: u8 = 0x68;
/// The longest recorded reply has 285 bytes, with 14 of 24 cells.
pub(super) const LONGEST: usize = 512;

const READ_ALL: u8 = 0x06;
/// Some boards answer as if a single value had been requested.
const READ_ONE: u8 = 0x03;
const FROM_PC: u8 = 0x03;
const ANSWER: u8 = 0x01;
/// Sent without a request.
const REPORT: u8 = 0x02;

const QUERY: &str = "read all (4E 57)";

/// The only request; others write.
pub fn request() -> Vec<u8> {
    let mut frame = HEADER.to_vec();
    frame.extend([0x00, 0x13, 0, 0, 0, 0, READ_ALL, FROM_PC, 0, 0, 0, 0, 0, 0, END_MARK]);
    let sum = sum(&frame);
    frame.extend(sum.to_be_bytes());
    frame
}

pub(crate) fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>() & 0xFFFF
}

/// The socket connects one board, so there is no address.
#[derive(Debug)]
pub(super) struct Ttl {
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct All;

impl Ttl {
    pub(super) fn new(options: &Options) -> Self {
        Ttl { timeout: options.timeout }
    }
}

impl RequestReply for Ttl {
    type Query = All;

    fn plan(&self) -> &'static [All] {
        &[All]
    }

    fn need(&self, _query: All) -> Need {
        Need::Required
    }

    fn describe(&self, _query: All) -> String {
        QUERY.into()
    }

    fn encode(&self, _query: All) -> Vec<u8> {
        request()
    }

    fn frame(&self, _query: All, buffer: &[u8]) -> Framing {
        let Some(start) = buffer.windows(2).position(|two| two == HEADER) else {
            let kept = usize::from(buffer.last() == Some(&HEADER[0]));
            return Framing::Junk(buffer.len() - kept);
        };
        if start > 0 {
            return Framing::Junk(start);
        }
        let Some(&[high, low]) = buffer.get(2..4).and_then(<[u8]>::first_chunk) else {
            return Framing::NeedMore;
        };
        let length = usize::from(u16::from_be_bytes([high, low])) + HEADER.len();
        match length {
            _ if !(HEAD + TAIL..=LONGEST).contains(&length) => Framing::Junk(HEADER.len()),
            _ if buffer.len() < length => Framing::NeedMore,
            _ => Framing::Frame(length),
        }
    }

    fn decode(&mut self, _query: All, frame: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
        let (body, got) = frame.split_last_chunk().ok_or(DecodeError::TooShort(frame.len()))?;
        check(sum(body), u32::from_be_bytes(*got))?;
        if body.last() != Some(&END_MARK) {
            return Err(DecodeError::Invalid("the end mark is missing".to_owned()));
        }
        let data = body.get(HEAD..body.len().saturating_sub(TAIL - 4));
        let data = data.ok_or(DecodeError::TooShort(frame.len()))?;
        match (frame.get(8), frame.get(10)) {
            (Some(&(READ_ALL | READ_ONE)), Some(&(ANSWER | REPORT))) => tags::decode(data, into),
            // A request, of this or of another reader.
            _ => Err(DecodeError::Foreign),
        }
    }

    fn pacing(&self, _query: All) -> Pacing {
        Pacing {
            timeout: self.timeout,
            gap: TURN_ROUND,
            settle: Duration::from_millis(200),
            retries: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl() -> Ttl {
        Ttl::new(&Options::default())
    }

    #[test]
    fn lengths_that_cannot_be_are_junk() {
        for (length, framing) in [
            ([0, 0x11], Framing::Junk(2)),
            ([0, 0x12], Framing::NeedMore),
            ([1, 0xFE], Framing::NeedMore),
            ([1, 0xFF], Framing::Junk(2)),
        ] {
            assert_eq!(ttl().frame(All, &[&HEADER[..], &length].concat()), framing);
        }
        assert_eq!(ttl().frame(All, b"\0\x4E"), Framing::Junk(1));
        assert_eq!(ttl().frame(All, b"\0\x4E\x57"), Framing::Junk(1));
    }

    #[test]
    fn a_question_is_no_answer() {
        let mut reading = Reading::default();
        assert_eq!(ttl().decode(All, &request(), &mut reading), Err(DecodeError::Foreign));
        assert_eq!(reading, Reading::default());
    }
}

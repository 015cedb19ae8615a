//! What Pylontech, PACE and Seplos have in common besides the [frame](super::ascii_frame): how a
//! battery is asked, whose answer a frame is, and the state bytes of service 44. What differs is
//! the layout of the payload, and each brand has that in a table of [`Service`]s.

use std::time::Duration;

use super::ascii_frame::{self, Frame};
use super::bytes::Reader;
use super::query::{Answer, Framing, Need, Pacing, RequestReply};
use crate::model::reading::SensorLocation;
use crate::model::units::{CentiPercent, DeciCelsius, MilliampHours};
use crate::model::{Alarm, Reading};
use crate::protocol::DecodeError;
use crate::protocol::{Options, ProtocolError};

/// Quiet time before a question: half-duplex adapters need a moment to turn round.
const GAP: Duration = Duration::from_millis(100);
/// The longest answer of one battery takes 170 ms at 9600 baud.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;

/// INFO of a question to all modules of a group.
const ALL_MODULES: u8 = 0xFF;

/// One brand of the family.
#[derive(Debug)]
pub(super) struct Layout {
    /// VER of a question.
    pub version: u8,
    /// VER of an answer; empty where the version says nothing.
    pub answers: &'static [u8],
    /// CID1 of both.
    pub cid1: u8,
    /// The questions of a cycle: the live values, what else changes, what stays.
    pub plan: &'static [&'static Service],
    /// The first module of a group answers for all of them, when asked with FF.
    pub groups: bool,
}

/// A question that is ever asked. Other services of the same frame switch, calibrate or flash the
/// battery, so the encoder knows only these.
#[derive(Debug)]
pub(super) struct Service {
    pub cid2: u8,
    pub title: &'static str,
    pub part: Part,
    /// INFO is the address; otherwise it is empty.
    pub addressed: bool,
    pub decode: fn(Asked, &[u8], &mut Reading) -> Result<(), DecodeError>,
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        self.cid2 == other.cid2
    }
}

/// What a service tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The live values.
    Live,
    /// Which alarms are active now.
    Alarms,
    /// Something else that changes.
    Extra,
    /// Something that stays.
    Name,
}

/// Whom the question was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The battery's address.
    pub address: u8,
    /// The whole group was asked, so the answer holds several modules.
    pub group: bool,
}

/// Pylontech numbers the modules of a group from 2 on, along the cable that links them.
const FIRST_MODULE: u8 = 2;

impl Asked {
    /// The address on the wire: for a group that of its first module.
    fn recipient(self) -> u8 {
        if self.group { self.address & 0xF0 | FIRST_MODULE } else { self.address }
    }

    /// Which of the modules of a group ours is, from 0.
    pub(super) fn index(self) -> usize {
        usize::from((self.address & 0x0F).saturating_sub(FIRST_MODULE))
    }
}

/// A conversation with the battery at one address.
#[derive(Debug)]
pub(super) struct Pack {
    layout: &'static Layout,
    asked: Asked,
    timeout: Duration,
}

impl Pack {
    pub(super) fn new(layout: &'static Layout, options: &Options) -> Self {
        Pack {
            layout,
            asked: Asked { address: options.address, group: false },
            timeout: options.timeout,
        }
    }

    /// Only the live values and the alarms are asked of a whole group.
    fn asked(&self, service: &Service) -> Asked {
        let of_group = matches!(service.part, Part::Live | Part::Alarms);
        Asked { group: self.asked.group && of_group, ..self.asked }
    }

    /// Is it of this protocol, and does it say yes?
    fn accept(&self, query: &'static Service, frame: &Frame) -> Result<(), ProtocolError> {
        let unsupported = |what, got, wanted| ProtocolError::Unsupported {
            query: self.describe(query),
            reason: format!("{what} {got:02X} instead of {wanted:02X}"),
        };
        let Layout { version, answers, cid1, .. } = self.layout;
        if !answers.is_empty() && !answers.contains(&frame.version) {
            return Err(unsupported("version", frame.version, *version));
        }
        if frame.cid1 != *cid1 {
            return Err(unsupported("device class", frame.cid1, *cid1));
        }
        match frame.cid2 {
            0 => Ok(()),
            code => Err(ProtocolError::Refused {
                query: self.describe(query),
                code: code.into(),
                reason: ascii_frame::refusal(code),
            }),
        }
    }
}

impl RequestReply for Pack {
    type Query = &'static Service;

    fn plan(&self) -> &'static [&'static Service] {
        self.layout.plan
    }

    fn need(&self, query: &'static Service) -> Need {
        match query.part {
            Part::Live => Need::Required,
            Part::Alarms | Part::Extra => Need::Steady,
            Part::Name => Need::Once,
        }
    }

    fn describe(&self, query: &'static Service) -> String {
        let Service { cid2, title, .. } = query;
        format!("service {cid2:02X} ({title}) at address {}", self.asked.address)
    }

    fn encode(&self, query: &'static Service) -> Vec<u8> {
        let asked = self.asked(query);
        let info = match query.addressed {
            true if asked.group => vec![ALL_MODULES],
            true => vec![asked.address],
            false => Vec::new(),
        };
        let Layout { version, cid1, .. } = *self.layout;
        Frame { version, address: asked.recipient(), cid1, cid2: query.cid2, info }.encode()
    }

    fn frame(&self, _query: &'static Service, buffer: &[u8]) -> Framing {
        ascii_frame::find(buffer)
    }

    fn decode(
        &mut self,
        query: &'static Service,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<Answer, ProtocolError> {
        let frame =
            Frame::parse(frame).map_err(|error| error.in_answer_to(self.describe(query)))?;
        let asked = self.asked(query);
        if frame.address != asked.recipient() || is_question(frame.cid2) {
            return Ok(Answer::Foreign);
        }
        self.accept(query, &frame)?;
        (query.decode)(asked, &frame.info, into).map_err(|misfit| {
            let (query, reason) = (self.describe(query), misfit.to_string());
            match misfit {
                DecodeError::Unsupported(_) => ProtocolError::Unsupported { query, reason },
                _ => ProtocolError::BadFrame { query, reason },
            }
        })?;
        Ok(Answer::Ours)
    }

    fn pacing(&self, _query: &'static Service) -> Pacing {
        Pacing { timeout: self.timeout, gap: GAP, settle: SETTLE, retries: RETRIES }
    }

    /// Codes 02 and 03 say that the question arrived damaged; 05 and 06 may be about INFO, and
    /// then the group's first module may answer for ours.
    fn is_retryable(&mut self, query: &'static Service, error: &ProtocolError) -> bool {
        match error {
            ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. } => true,
            ProtocolError::Refused { code: 0x02 | 0x03, .. } => true,
            ProtocolError::Refused { code: 0x05 | 0x06, .. } if query.part == Part::Live => {
                self.asked.group = self.layout.groups && !self.asked.group;
                self.asked.group
            }
            _ => false,
        }
    }

    fn reset(&mut self) {
        self.asked.group = false;
    }
}

/// On a bus with another reader its questions can be heard. They look like answers with an odd
/// return code, which is in fact the number of a service.
fn is_question(cid2: u8) -> bool {
    matches!(cid2, 0x40..=0x8F | 0x92..=0xDF)
}

/// Masks of cells have at most 32 bits in any brand.
const MAX_CELLS: u8 = 32;
const MAX_SENSORS: u8 = 16;

/// How many cells follow.
pub(super) fn cell_count(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    counted("cell count", reader.u8()?, 1, MAX_CELLS)
}

/// How many temperatures follow.
pub(super) fn sensor_count(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    counted("sensor count", reader.u8()?, 0, MAX_SENSORS)
}

fn counted(field: &'static str, count: u8, least: u8, most: u8) -> Result<u8, DecodeError> {
    if (least..=most).contains(&count) {
        Ok(count)
    } else {
        Err(DecodeError::OutOfRange { field, value: count.into() })
    }
}

/// So many unsigned words.
pub(super) fn words(reader: &mut Reader<'_>, count: u8) -> Result<Vec<u16>, DecodeError> {
    Ok((0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?)
}

/// Tenths of a kelvin. Pylontech's and Seplos's documents say 2731; the 2730 of one PACE reader is
/// 0.1 °C off. What no battery reaches is a sensor that is not there.
pub(super) fn kelvin(raw: u16) -> Option<DeciCelsius> {
    const ZERO_CELSIUS: i32 = 2_731;
    const PLAUSIBLE: std::ops::RangeInclusive<i32> = -600..=1200;
    let value = i32::from(raw) - ZERO_CELSIUS;
    PLAUSIBLE.contains(&value).then_some(DeciCelsius(value))
}

/// Pylontech and PACE do not tell the state of charge: it is what is left of what the battery
/// holds when full.
pub(super) fn share(remaining: MilliampHours, full: MilliampHours) -> Option<CentiPercent> {
    let hundredths = (remaining.0 * 10_000 + full.0 / 2).checked_div(full.0)?;
    // A little above 100 % happens; far above it is no share of anything.
    i32::try_from(hundredths).ok().filter(|share| *share <= 11_000).map(CentiPercent)
}

/// Puts a state byte of service 44 into the reading: 00 is fine, 01 below the lower limit, 02
/// above the upper one, F0 another fault, 80 to EF the maker's own.
pub(super) fn note_state(
    state: u8,
    [below, above]: [Alarm; 2],
    word: &'static str,
    into: &mut Reading,
) {
    into.alarms.note(below, state == 0x01);
    into.alarms.note(above, state == 0x02);
    into.alarms.note(Alarm::OtherFailure, state == 0xF0);
    if !matches!(state, 0x00..=0x02 | 0xF0) {
        into.alarms.note_unknown_bits(word, state);
    }
}

/// What a state byte of service 44 warns of, for a sensor at this place.
pub(super) fn temperature_warnings(location: SensorLocation) -> [Alarm; 2] {
    match location {
        SensorLocation::Mosfet => {
            [Alarm::MosUndertemperatureWarning, Alarm::MosOvertemperatureWarning]
        }
        SensorLocation::Ambient => {
            [Alarm::AmbientUndertemperatureWarning, Alarm::AmbientOvertemperatureWarning]
        }
        _ => [Alarm::CellUndertemperatureWarning, Alarm::CellOvertemperatureWarning],
    }
}

/// The first name that was found stays, so that the identity does not change within a session.
pub(super) fn keep(known: &mut Option<String>, found: Option<String>) {
    if known.is_none() {
        *known = found;
    }
}

/// Whether a field holds nothing but text and its padding: what tells names from numbers.
pub(super) fn is_text(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0x00 | 0x20..=0x7E | 0xFF))
}

/// Service 51 of Pylontech and Seplos: the name, the software's version, the maker.
pub(super) fn manufacturer(info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    const MAKER: usize = 20;
    let mut reader = Reader::big_endian(info);
    let name = reader.take(10)?;
    let [major, minor] = [reader.u8()?, reader.u8()?];
    let maker = reader.take(reader.remaining())?;
    if maker.len() > MAKER {
        return Err(DecodeError::Length(info.len()));
    }
    if !is_text(name) || !is_text(maker) {
        return Err(DecodeError::OtherRequest);
    }
    let identity = &mut into.identity;
    keep(&mut identity.model, super::bytes::text(name));
    keep(&mut identity.software, Some(format!("{major}.{minor}")));
    keep(&mut identity.manufacturer, super::bytes::text(maker));
    into.received.device_info = true;
    Ok(())
}

#[cfg(test)]
mod tests;

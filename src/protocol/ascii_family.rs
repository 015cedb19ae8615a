//! What Daren, Pylontech, PACE and Seplos have in common besides the [frame](super::ascii_frame):
//! how a battery is asked, which battery a frame is from, and the state bytes of service 44. What
//! differs is the layout of the payload, which each brand has in a table of [`Service`]s.

use std::time::Duration;

use super::ascii_frame::{self, Frame};
use super::query::TURN_ROUND;
use super::values::{self, centi_ah, deci_kelvin, keep, plain_text};
use super::{
    CycleKind, DecodeError, Framing, Need, Options, Pacing, ProtocolError, Reader, RequestReply,
};
use crate::model::{Alarm, Milliamps, Reading, SensorLocation};

/// The longest reply takes 225 ms at 9600 baud.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;

/// One brand of the family.
#[derive(Debug)]
pub(super) struct Layout {
    /// VER of a request.
    pub version: u8,
    /// Possible VERs of a reply; empty where the version means nothing.
    pub reply_versions: &'static [u8],
    pub cid1: u8,
    /// The requests of a cycle: the live values, what else changes, what stays.
    pub plan: &'static [&'static Service],
    /// A second form of the request for live values.
    pub alternative: Alternative,
    /// The services of the protocol. On a bus with another reader its requests are received too. They
    /// look like replies with an odd return code, which is in fact the number of a service.
    pub is_service: fn(u8) -> bool,
}

/// What takes the place of the address in INFO of the request for live values when the battery
/// refuses the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alternative {
    None,
    /// FF, to which the first module of a group replies for all of them.
    WholeGroup,
    /// The byte 01. Which of the two forms works belongs to the battery and not to the connection,
    /// so a new session keeps it.
    FixedGroup,
}

/// A request. Other services of the same frame switch, calibrate or flash the battery, many of them
/// without a password, so nothing else can be encoded.
#[derive(Debug)]
pub(super) struct Service {
    pub cid2: u8,
    pub title: &'static str,
    pub part: Part,
    /// INFO: empty, or the address followed by these bytes.
    pub info: Option<&'static [u8]>,
    pub decode: fn(Target, &[u8], &mut Reading) -> Result<(), DecodeError>,
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// Which part of a reading a service provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Live,
    Alarms,
    /// Other values that change.
    Extra,
    Identity,
}

impl Service {
    pub(super) const fn new(
        cid2: u8,
        title: &'static str,
        part: Part,
        info: Option<&'static [u8]>,
        decode: fn(Target, &[u8], &mut Reading) -> Result<(), DecodeError>,
    ) -> Self {
        Service { cid2, title, part, info, decode }
    }
}

/// INFO is the address alone.
pub(super) const ADDRESS: Option<&[u8]> = Some(&[]);

/// The battery or batteries that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub address: u8,
    /// The whole group was asked, so the reply contains several modules.
    pub group: bool,
}

impl Target {
    /// Pylontech numbers the modules of a group from 2 on, along the cable that links them.
    const FIRST_MODULE: u8 = 2;

    /// The address in the frame: for a group that of its first module.
    fn recipient(self) -> u8 {
        if self.group { self.address & 0xF0 | Self::FIRST_MODULE } else { self.address }
    }

    /// Index of our module in its group.
    pub(super) fn index(self) -> usize {
        usize::from((self.address & 0x0F).saturating_sub(Self::FIRST_MODULE))
    }
}

/// A conversation with the battery at one address.
#[derive(Debug)]
pub(super) struct Pack {
    layout: &'static Layout,
    address: u8,
    timeout: Duration,
    /// The live values are requested in the [`Alternative`] form.
    alternative: bool,
    /// A request for live values had a reply.
    proven: bool,
}

/// INFO for the live values of [`Alternative::WholeGroup`] and [`Alternative::FixedGroup`].
const WHOLE_GROUP: u8 = 0xFF;
const FIXED_GROUP: u8 = 0x01;

impl Pack {
    pub(super) fn new(layout: &'static Layout, options: &Options) -> Self {
        let Options { address, timeout, .. } = *options;
        Pack { layout, address, timeout, alternative: false, proven: false }
    }

    /// Only live values and alarms are requested in the alternative form.
    fn uses_alternative(&self, service: &Service) -> bool {
        self.alternative && matches!(service.part, Part::Live | Part::Alarms)
    }

    fn target(&self, service: &Service) -> Target {
        let group = self.layout.alternative == Alternative::WholeGroup;
        Target { address: self.address, group: group && self.uses_alternative(service) }
    }

    /// Changes the form of the request for live values. True if the new form is the alternative.
    fn change_form(&mut self) -> bool {
        let possible = match self.layout.alternative {
            Alternative::None => false,
            Alternative::WholeGroup => true,
            Alternative::FixedGroup => !self.proven && self.address != FIXED_GROUP,
        };
        self.alternative ^= possible;
        possible && self.alternative
    }

    /// Whether the frame is a good reply of this protocol.
    fn check(&self, frame: &Frame) -> Result<(), DecodeError> {
        let unsupported = |what, got, wanted| {
            Err(DecodeError::Unsupported(format!("{what} {got:02X} instead of {wanted:02X}")))
        };
        let Layout { version, reply_versions, cid1, .. } = *self.layout;
        if !reply_versions.is_empty() && !reply_versions.contains(&frame.version) {
            return unsupported("version", frame.version, version);
        }
        if frame.cid1 != cid1 {
            return unsupported("device class", frame.cid1, cid1);
        }
        match frame.cid2 {
            0 => Ok(()),
            code => {
                let reason = ascii_frame::refusal(code);
                Err(DecodeError::Refused { code: code.into(), reason })
            }
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
            Part::Identity => Need::Once,
        }
    }

    fn describe(&self, query: &'static Service) -> String {
        let Service { cid2, title, .. } = query;
        format!("service {cid2:02X} ({title}) at address {}", self.address)
    }

    fn encode(&self, query: &'static Service) -> Vec<u8> {
        let first = match self.layout.alternative {
            Alternative::WholeGroup if self.uses_alternative(query) => WHOLE_GROUP,
            Alternative::FixedGroup if self.uses_alternative(query) => FIXED_GROUP,
            _ => self.address,
        };
        let info = query.info.map(|rest| [&[first], rest].concat()).unwrap_or_default();
        let Layout { version, cid1, .. } = *self.layout;
        let address = self.target(query).recipient();
        Frame { version, address, cid1, cid2: query.cid2, info }.encode()
    }

    fn frame(&self, _query: &'static Service, buffer: &[u8]) -> Framing {
        ascii_frame::find(buffer)
    }

    fn decode(
        &mut self,
        query: &'static Service,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let frame = Frame::parse(frame)?;
        let target = self.target(query);
        if frame.address != target.recipient() || (self.layout.is_service)(frame.cid2) {
            return Err(DecodeError::Foreign);
        }
        self.check(&frame)?;
        (query.decode)(target, &frame.info, into)?;
        self.proven |= query.part == Part::Live;
        Ok(())
    }

    fn pacing(&self, _query: &'static Service) -> Pacing {
        Pacing { timeout: self.timeout, gap: TURN_ROUND, settle: SETTLE, retries: RETRIES }
    }

    /// Codes 02 and 03 mean that the request arrived damaged; 05 and 06 may be about INFO.
    fn is_retryable(&mut self, query: &'static Service, error: &ProtocolError) -> bool {
        match error {
            ProtocolError::BadChecksum { .. } | ProtocolError::BadFrame { .. } => true,
            ProtocolError::Refused { code: 0x02 | 0x03, .. } => true,
            ProtocolError::Refused { code: 0x05 | 0x06, .. } => {
                query.part == Part::Live && self.change_form()
            }
            _ => false,
        }
    }

    /// The form that the battery does not know may be ignored instead of refused: the next cycle
    /// tries the other one.
    fn fallback_plan(
        &mut self,
        query: &'static Service,
        _kind: CycleKind,
    ) -> Option<Vec<&'static Service>> {
        if query.part == Part::Live && self.layout.alternative == Alternative::FixedGroup {
            self.change_form();
        }
        None
    }

    fn reset(&mut self) {
        self.alternative &= self.layout.alternative == Alternative::FixedGroup;
    }
}

/// The services of Pylontech, PACE and Seplos, without return codes.
pub(super) fn is_service(cid2: u8) -> bool {
    matches!(cid2, 0x40..=0x8F | 0x92..=0xDF)
}

/// Masks of cells have at most 32 bits in any brand.
pub(super) const MAX_CELLS: u32 = 32;
const MAX_SENSORS: u32 = 16;

/// Voltages and temperatures of service 42, each with their number in front.
pub(super) fn cells_and_sensors(
    reader: &mut Reader<'_>,
) -> Result<(Vec<u16>, Vec<u16>), DecodeError> {
    let cells = values::count("cell count", reader.u8()?, 1..=MAX_CELLS)?;
    let cells = reader.u16s(cells)?;
    let sensors = values::count("sensor count", reader.u8()?, 0..=MAX_SENSORS)?;
    Ok((cells, reader.u16s(sensors)?))
}

/// The beginning of service 42 of PACE and Seplos. Returns the raw voltage, whose unit differs.
pub(super) fn cells_sensors_and_charge(
    reader: &mut Reader<'_>,
    last_sensors: [SensorLocation; 2],
    into: &mut Reading,
) -> Result<u16, DecodeError> {
    let [_flags, _group] = reader.bytes()?;
    let (cells, temperatures) = cells_and_sensors(reader)?;
    let current = reader.i16()?;
    let [voltage, remaining] = reader.words()?;
    into.cells = values::cells(&cells);
    let locations = locations(temperatures.len(), last_sensors);
    into.probes = values::probes(locations, temperatures.into_iter().map(deci_kelvin));
    into.pack.current = Some(Milliamps(i32::from(current) * 10));
    into.pack.remaining = Some(centi_ah(remaining));
    into.received.cell_info = true;
    Ok(voltage)
}

/// State bytes of cells and sensors in service 44, each with their number in front.
pub(super) fn states_of_cells_and_sensors<'a>(
    reader: &mut Reader<'a>,
) -> Result<[&'a [u8]; 2], DecodeError> {
    let cells = values::count("cell count", reader.u8()?, 1..=MAX_CELLS)?;
    let cells = reader.take(cells)?;
    let sensors = values::count("sensor count", reader.u8()?, 0..=MAX_SENSORS)?;
    Ok([cells, reader.take(sensors)?])
}

/// Locations of the sensors of PACE and Seplos: six are four among the cells and these two. Any
/// other number is not documented, so they only get numbers.
fn locations(sensors: usize, last: [SensorLocation; 2]) -> impl Iterator<Item = SensorLocation> {
    let named = if sensors == 6 { last.len() } else { 0 };
    std::iter::repeat_n(SensorLocation::Cells, sensors - named).chain(last.into_iter().take(named))
}

/// Puts a state byte of service 44 into the reading: 00 is fine, 01 below the lower limit, 02
/// above the upper one, F0 another fault, 80 to EF specific to the vendor.
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

/// The state bytes of PACE and Seplos, all of them warnings.
pub(super) fn warnings(
    reader: &mut Reader<'_>,
    last_sensors: [SensorLocation; 2],
    into: &mut Reading,
) -> Result<(), DecodeError> {
    let [_flags, _group] = reader.bytes()?;
    let [cells, sensors] = states_of_cells_and_sensors(reader)?;
    for &state in cells {
        let limits = [Alarm::CellUndervoltageWarning, Alarm::CellOvervoltageWarning];
        note_state(state, limits, "cell_states", into);
    }
    for (location, &state) in locations(sensors.len(), last_sensors).zip(sensors) {
        let limits = match location {
            SensorLocation::Mosfet => {
                [Alarm::MosUndertemperatureWarning, Alarm::MosOvertemperatureWarning]
            }
            SensorLocation::Ambient => {
                [Alarm::AmbientUndertemperatureWarning, Alarm::AmbientOvertemperatureWarning]
            }
            _ => [Alarm::CellUndertemperatureWarning, Alarm::CellOvertemperatureWarning],
        };
        note_state(state, limits, "temperature_states", into);
    }
    Ok(())
}

/// Service 51 of Pylontech and Seplos: name, software version, manufacturer.
pub(super) fn manufacturer(
    _target: Target,
    info: &[u8],
    into: &mut Reading,
) -> Result<(), DecodeError> {
    const MAX_MANUFACTURER: usize = 20;
    let mut reader = Reader::big_endian(info);
    let model = plain_text(&mut reader, 10)?;
    let [major, minor] = reader.bytes()?;
    if reader.remaining() > MAX_MANUFACTURER {
        return Err(DecodeError::Length(info.len()));
    }
    let length = reader.remaining();
    let manufacturer = plain_text(&mut reader, length)?;
    let identity = &mut into.identity;
    keep(&mut identity.model, model);
    keep(&mut identity.software, Some(format!("{major}.{minor}")));
    keep(&mut identity.manufacturer, manufacturer);
    into.received.device_info = true;
    Ok(())
}

#[cfg(test)]
mod tests;

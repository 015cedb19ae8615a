//! Felicity Solar: the FLB and LUX series. A request is a text, an answer one JSON object without
//! nested braces. Sources: recorded frames, fabiomatavelli/ha-felicity-solar-local. The meaning of
//! the bits in `Bwarn` and `Bfault` is known for RS485 only, so they raise no alarm.
//!
//! Only `get …` requests are ever sent.

use std::time::Duration;

use serde_json::{Map, Value};

use super::info::Characteristic;
use super::values::{centi_percent, deci_celsius, keep};
use super::{
    AdvertisementMatcher, DecodeError, Driver, DriverInfo, FrameShape, Framing, GattChannel,
    GattProfile, Need, Options, Pacing, RequestReply, Runner,
};
use crate::model::Reading;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts};

pub static INFO: DriverInfo = DriverInfo {
    gatt: Some(GattProfile { channels: &[CHANNEL], streams: false }),
    matchers: &[AdvertisementMatcher::Name("F07*"), AdvertisementMatcher::Name("F10*")],
    text: true,
    verified: "a recorded answer",
    ..DriverInfo::new("felicity", "Felicity Solar", new)
};

const SERVICE: u128 = 0x6E6F_736A_4643_4D44_8FA9_0FAF_D005_E455;
const CHANNEL: GattChannel = GattChannel::new(
    &[Characteristic { service: SERVICE, uuid: 0x4953_5458_8341_43F4_A9D4_EC0E_3472_9BB3 }],
    Characteristic { service: SERVICE, uuid: 0x4953_5258_184D_4BD9_BC61_20C6_4724_9616 },
);

fn new(options: &Options) -> Box<dyn Driver> {
    Box::new(Runner::new(Felicity { timeout: options.ble_timeout() }))
}

const SETTLE: Duration = Duration::from_millis(500);
const RETRIES: u8 = 1;
/// Answers have about 900 characters.
const MAX_LENGTH: usize = 3000;

/// Type of a battery; inverters send theirs too.
const BATTERY: i64 = 112;
const NO_SENSOR: i64 = 32767;
const NONE: i64 = 65535;
/// Highest voltage of a cell, in millivolts.
const MAX_CELL: i64 = 5000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Query {
    Values,
    Device,
}

#[derive(Debug)]
struct Felicity {
    timeout: Duration,
}

/// A JSON object.
struct Object;

impl FrameShape for Object {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"{") && bytes.get(1).is_none_or(|byte| *byte == b'"')
    }

    fn length(&self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|byte| *byte == b'}').map(|end| end + 1);
        end.or((bytes.len() > MAX_LENGTH).then_some(bytes.len()))
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        serde_json::from_slice::<Map<String, Value>>(frame).is_ok()
    }
}

impl RequestReply for Felicity {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        &[Query::Values, Query::Device]
    }

    fn is_self_describing(&self, _query: Query) -> bool {
        true
    }

    fn need(&self, query: Query) -> Need {
        match query {
            Query::Values => Need::Required,
            Query::Device => Need::Once,
        }
    }

    fn describe(&self, query: Query) -> String {
        match query {
            Query::Values => "the request for values".to_owned(),
            Query::Device => "the request for device information".to_owned(),
        }
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        match query {
            Query::Values => b"wifilocalMonitor:get dev real infor".to_vec(),
            Query::Device => b"wifilocalMonitor:get dev basice infor".to_vec(),
        }
    }

    fn frame(&self, _query: Query, buffer: &[u8]) -> Framing {
        Object.find(buffer)
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let answer: Map<String, Value> = serde_json::from_slice(frame)
            .map_err(|error| DecodeError::Invalid(format!("it is no JSON object ({error})")))?;
        if answer.get("CommVer").and_then(Value::as_i64) != Some(1) {
            return Err(DecodeError::Unsupported("its CommVer is not 1".to_owned()));
        }
        let is_other = |kind: &Value| kind.as_i64() != Some(BATTERY);
        let is_values = answer.contains_key("BattList");
        if answer.get("Type").is_some_and(is_other) || is_values != (query == Query::Values) {
            return Err(DecodeError::Foreign);
        }
        decode_names(&answer, into);
        if query == Query::Values { decode_values(&answer, into) } else { Ok(()) }
    }

    fn pacing(&self, _query: Query) -> Pacing {
        Pacing { timeout: self.timeout, settle: SETTLE, retries: RETRIES, gap: Duration::ZERO }
    }
}

fn decode_names(answer: &Map<String, Value>, into: &mut Reading) {
    let name = |key: &str| match answer.get(key)? {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        number => number.as_i64().filter(|number| *number != NONE).map(|it| it.to_string()),
    };
    keep(&mut into.identity.serial, name("DevSN"));
    keep(&mut into.identity.software, name("M1SwVer"));
}

fn decode_values(answer: &Map<String, Value>, into: &mut Reading) -> Result<(), DecodeError> {
    let list = |key: &str, row: usize| answer.get(key)?.get(row)?.as_array();
    let number = |key: &'static str, row: usize, at: usize| {
        let number = list(key, row).and_then(|row| row.get(at)?.as_i64());
        number.ok_or(DecodeError::Missing(key))
    };
    let narrow = |field: &'static str, value: i64| {
        i32::try_from(value).map_err(|_| DecodeError::OutOfRange { field, value })
    };
    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(narrow("BattList", number("BattList", 0, 0)?)?));
    let current = number("BattList", 1, 0)?.saturating_mul(100);
    pack.current = Some(Milliamps(narrow("BattList", current)?));
    let (soc, full) = (number("BatsocList", 0, 0)?, number("BatsocList", 0, 2)?);
    pack.soc = centi_percent(soc);
    pack.soh = centi_percent(number("BatsocList", 0, 1)?.saturating_mul(10));
    if pack.soc.is_some() && (1..=i64::from(i32::MAX)).contains(&full) {
        pack.full = Some(MilliampHours(full));
        pack.remaining = Some(MilliampHours(soc * full / 10_000));
    }
    let row = |key: &str| list(key, 0).into_iter().flatten();
    let cells: Vec<i64> = row("BatcelList").filter_map(Value::as_i64).collect();
    let fitted = cells.iter().filter(|cell| (1..NONE).contains(*cell));
    // High-voltage stacks report the voltages of their packs here.
    if fitted.clone().all(|cell| *cell <= MAX_CELL) {
        let cells: Result<_, _> = fitted.map(|cell| narrow("BatcelList", *cell)).collect();
        let cells: Vec<i32> = cells?;
        into.cells = cells.into_iter().map(|cell| Cell::of(Millivolts(cell))).collect();
    }
    let sensors = row("BtemList").filter_map(Value::as_i64).filter(|it| *it != NO_SENSOR);
    into.probes = sensors
        .map(|raw| Probe {
            location: SensorLocation::Cells,
            value: i32::try_from(raw).ok().and_then(deci_celsius),
        })
        .collect();
    for key in ["Bwarn", "Bfault"] {
        let bits = answer.get(key).and_then(Value::as_u64);
        into.alarms.note_unknown_bits(key, bits.unwrap_or_default());
    }
    let fault = answer.get("Bfault").and_then(Value::as_u64);
    into.pack.error_code = fault.and_then(|fault| u32::try_from(fault).ok());
    Ok(())
}

//! PACE, protocol version 25: the boards of many rack batteries (P16S100A and relatives).
//!
//! [ASCII frames](super::ascii_frame) of version 25 and CID1 46. Layout: nkinnan/esphome-pace-bms
//! and frames recorded there. Batteries on one bus are asked one by one: readers disagree on what
//! stands between the packs of an answer to all of them. The battery has many services that
//! write, next door to those that read; only the four below are ever asked.

use super::ascii_family::{
    Asked, Layout, Pack, Part, Service, cell_count, is_text, keep, kelvin, note_state,
    sensor_count, share, temperature_warnings, words,
};
use super::bytes::{Reader, text};
use super::info::{DriverInfo, SerialDefaults};
use super::query::Runner;
use super::status_word::Bit::{ChargeSwitch, DischargeSwitch, Raises, State};
use super::status_word::StatusWord;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts};
use crate::model::{Alarm, Reading};
use crate::protocol::DecodeError;

/// What the rest of the program knows about this brand.
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600], 2),
    addresses: 0..=15,
    verified: "recorded frames of one pack; alarms from a table only",
    ..DriverInfo::new("pace", "PACE", |options| Box::new(Runner::new(Pack::new(&LAYOUT, options))))
};

static LAYOUT: Layout = Layout {
    version: 0x25,
    answers: &[0x25, 0x26],
    cid1: 0x46,
    plan: &[&LIVE, &ALARMS, &HARDWARE, &SERIAL],
    groups: false,
};

static LIVE: Service =
    Service { cid2: 0x42, title: "live values", part: Part::Live, addressed: true, decode: live };
static ALARMS: Service =
    Service { cid2: 0x44, title: "alarms", part: Part::Alarms, addressed: true, decode: alarms };
static HARDWARE: Service =
    Service { cid2: 0xC1, title: "hardware", part: Part::Name, addressed: false, decode: hardware };
static SERIAL: Service = Service {
    cid2: 0xC2,
    title: "serial number",
    part: Part::Name,
    addressed: false,
    decode: serial,
};

/// Fields behind the user byte that every board has: full, cycles, design.
const TAIL_FIELDS: u8 = 3;
/// Boards with a user byte of 9 append 14 bytes of unknown meaning, some boards one more.
const MOST_APPENDED: usize = 15;

/// Service 42.
fn live(_asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let [_flags, _pack] = [reader.u8()?, reader.u8()?];
    let count = cell_count(&mut reader)?;
    let cells = words(&mut reader, count)?;
    let count = sensor_count(&mut reader)?;
    let temperatures = words(&mut reader, count)?;
    let current = reader.i16()?;
    let voltage = reader.u16()?;
    let remaining = centi(reader.u16()?);
    let user = reader.u8()?;
    if user < TAIL_FIELDS {
        return Err(DecodeError::Unsupported(format!("a layout with {user} fields at its end")));
    }
    let full = centi(reader.u16()?);
    let cycles = reader.u16()?;
    let design = centi(reader.u16()?);
    // More would be another pack: whose values are whose is not known.
    if reader.remaining() > MOST_APPENDED {
        return Err(DecodeError::Length(info.len()));
    }

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(voltage.into()));
    pack.current = Some(Milliamps(i32::from(current) * 10));
    pack.remaining = Some(remaining);
    pack.full = Some(full);
    pack.design = (design.0 != 0).then_some(design);
    pack.soc = share(remaining, full);
    pack.cycles = Some(cycles.into());
    into.cells = cells.iter().map(|&mv| Cell::of(Millivolts(mv.into()))).collect();
    let probes = places(temperatures.len()).zip(temperatures);
    into.probes = probes.map(|(location, raw)| Probe { location, value: kelvin(raw) }).collect();
    into.received.cell_info = true;
    Ok(())
}

/// Six sensors are four among the cells, one at the transistors, one in the case. Any other
/// number of them is not documented, so they only get numbers.
fn places(sensors: usize) -> impl Iterator<Item = SensorLocation> {
    let known = [SensorLocation::Mosfet, SensorLocation::Ambient];
    let named = if sensors == 6 { known.len() } else { 0 };
    std::iter::repeat_n(SensorLocation::Cells, sensors - named).chain(known.into_iter().take(named))
}

/// Hundredths of an ampere-hour.
fn centi(raw: u16) -> MilliampHours {
    MilliampHours(i64::from(raw) * 10)
}

/// Service 44. Its state bytes are warnings.
fn alarms(_asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let [_flags, _pack] = [reader.u8()?, reader.u8()?];
    let count = cell_count(&mut reader)?;
    let cells = reader.take(count.into())?;
    let count = sensor_count(&mut reader)?;
    let temperatures = reader.take(count.into())?;
    let [charge, voltage, discharge] = [reader.u8()?, reader.u8()?, reader.u8()?];
    let [protect1, protect2] = [reader.u8()?, reader.u8()?];
    let [system, control, fault] = [reader.u8()?, reader.u8()?, reader.u8()?];
    let balance = reader.u16()?;
    let [warning1, warning2] = [reader.u8()?, reader.u8()?];
    // Some boards append one byte.
    if reader.remaining() > 1 {
        return Err(DecodeError::Length(info.len()));
    }

    for &state in cells {
        let limits = [Alarm::CellUndervoltageWarning, Alarm::CellOvervoltageWarning];
        note_state(state, limits, "cell_states", into);
    }
    for (place, &state) in places(temperatures.len()).zip(temperatures) {
        note_state(state, temperature_warnings(place), "temperature_states", into);
    }
    for (state, alarm, word) in [
        (charge, Alarm::ChargeOvercurrentWarning, "charge_current_state"),
        (discharge, Alarm::DischargeOvercurrentWarning, "discharge_current_state"),
    ] {
        note_state(state, [alarm, alarm], word, into);
    }
    let limits = [Alarm::PackUndervoltageWarning, Alarm::PackOvervoltageWarning];
    note_state(voltage, limits, "pack_voltage_state", into);
    for (word, value) in [
        (&PROTECT_1, protect1),
        (&PROTECT_2, protect2),
        (&SYSTEM, system),
        (&CONFIGURATION, control),
        (&FAULT, fault),
        (&WARNING_1, warning1),
        (&WARNING_2, warning2),
    ] {
        word.decode(value, into);
    }
    for (bit, cell) in into.cells.iter_mut().take(16).enumerate() {
        cell.balancing = Some(balance & 1 << bit != 0);
    }
    let fitted = (1_u32 << into.cells.len().min(16)) - 1;
    into.alarms.note_unknown_bits("balance_word", u32::from(balance) & !fitted);
    Ok(())
}

static PROTECT_1: StatusWord = StatusWord {
    name: "protect_status_1",
    bits: &[
        (0, Raises(Alarm::CellOvervoltage)),
        (1, Raises(Alarm::CellUndervoltage)),
        (2, Raises(Alarm::PackOvervoltage)),
        (3, Raises(Alarm::PackUndervoltage)),
        (4, Raises(Alarm::ChargeOvercurrent)),
        (5, Raises(Alarm::DischargeOvercurrent)),
        (6, Raises(Alarm::ShortCircuit)),
    ],
};

static PROTECT_2: StatusWord = StatusWord {
    name: "protect_status_2",
    bits: &[
        (0, Raises(Alarm::ChargeOvertemperature)),
        (1, Raises(Alarm::DischargeOvertemperature)),
        (2, Raises(Alarm::ChargeUndertemperature)),
        (3, Raises(Alarm::DischargeUndertemperature)),
        (4, Raises(Alarm::MosOvertemperature)),
        (5, Raises(Alarm::AmbientOvertemperature)),
        (6, Raises(Alarm::AmbientUndertemperature)),
        (7, State("fully_charged")),
    ],
};

static SYSTEM: StatusWord = StatusWord {
    name: "system_status",
    bits: &[
        (0, State("charge_current_limiter_off")),
        (1, ChargeSwitch),
        (2, DischargeSwitch),
        (3, State("discharging")),
        (4, Raises(Alarm::ReverseConnection)),
        (5, State("charging")),
        // It beats while the board lives.
        (7, State("heart_indicator")),
    ],
};

static CONFIGURATION: StatusWord = StatusWord {
    name: "configuration_status",
    bits: &[
        (0, State("buzzer_alarm_enabled")),
        (1, State("charge_mosfet_turned_off")),
        (2, State("discharge_mosfet_turned_off")),
        (3, State("current_limiter_low_gear")),
        (4, State("current_limiter_enabled")),
        (5, State("led_alarm_enabled")),
    ],
};

static FAULT: StatusWord = StatusWord {
    name: "fault_status",
    bits: &[
        (0, Raises(Alarm::ChargeMosFailure)),
        (1, Raises(Alarm::DischargeMosFailure)),
        (2, Raises(Alarm::TemperatureSensorFailure)),
        (4, Raises(Alarm::CellFailure)),
        (5, Raises(Alarm::SamplingFailure)),
    ],
};

static WARNING_1: StatusWord = StatusWord {
    name: "warning_status_1",
    bits: &[
        (0, Raises(Alarm::CellOvervoltageWarning)),
        (1, Raises(Alarm::CellUndervoltageWarning)),
        (2, Raises(Alarm::PackOvervoltageWarning)),
        (3, Raises(Alarm::PackUndervoltageWarning)),
        (4, Raises(Alarm::ChargeOvercurrentWarning)),
        (5, Raises(Alarm::DischargeOvercurrentWarning)),
    ],
};

static WARNING_2: StatusWord = StatusWord {
    name: "warning_status_2",
    bits: &[
        (0, Raises(Alarm::ChargeOvertemperatureWarning)),
        (1, Raises(Alarm::DischargeOvertemperatureWarning)),
        (2, Raises(Alarm::ChargeUndertemperatureWarning)),
        (3, Raises(Alarm::DischargeUndertemperatureWarning)),
        (4, Raises(Alarm::AmbientOvertemperatureWarning)),
        (5, Raises(Alarm::AmbientUndertemperatureWarning)),
        (6, Raises(Alarm::MosOvertemperatureWarning)),
        (7, Raises(Alarm::LowSocWarning)),
    ],
};

/// Service C1: the name of the board.
fn hardware(_asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    keep(&mut into.identity.hardware, name(info, 20)?);
    into.received.device_info = true;
    Ok(())
}

/// Service C2.
fn serial(_asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    keep(&mut into.identity.serial, name(info, 40)?);
    into.received.device_info = true;
    Ok(())
}

fn name(info: &[u8], length: usize) -> Result<Option<String>, DecodeError> {
    if info.len() != length {
        return Err(DecodeError::Length(info.len()));
    }
    if is_text(info) { Ok(text(info)) } else { Err(DecodeError::OtherRequest) }
}

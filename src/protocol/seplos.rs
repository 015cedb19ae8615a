//! Seplos, protocol version 2: boards of the series EMU10xx and EMU11xx (1101 and relatives).
//!
//! [ASCII frames](super::ascii_frame) of version 20 and CID1 46, as in "SEPLOS BMS Communication
//! Protocol V2.0" (2019) and in recorded frames. Version 3 boards speak Modbus and are another brand.
//! Service 4F answers with an empty payload, so it is not asked.

use super::ascii_family::{
    self, Asked, Layout, Pack, Part, Service, cell_count, kelvin, note_state, sensor_count,
    temperature_warnings, words,
};
use super::bytes::Reader;
use super::info::{DriverInfo, SerialDefaults};
use super::query::Runner;
use super::status_word::Bit::{ChargeSwitch, DischargeSwitch, Raises, State};
use super::status_word::StatusWord;
use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{CentiPercent, MilliampHours, Milliamps, Millivolts};
use crate::model::{Alarm, Reading};
use crate::protocol::DecodeError;

/// What the rest of the program knows about this brand.
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600, 19_200], 2),
    addresses: 0..=15,
    verified: "recorded frames of two packs; most alarms from the document only",
    ..DriverInfo::new("seplos", "Seplos V2", |options| {
        Box::new(Runner::new(Pack::new(&LAYOUT, options)))
    })
};

/// Boards of Boqiang answer with version 26.
static LAYOUT: Layout = Layout {
    version: 0x20,
    answers: &[0x20, 0x26],
    cid1: 0x46,
    plan: &[&LIVE, &ALARMS, &MAKER],
    groups: false,
};

static LIVE: Service =
    Service { cid2: 0x42, title: "live values", part: Part::Live, addressed: true, decode: live };
static ALARMS: Service =
    Service { cid2: 0x44, title: "alarms", part: Part::Alarms, addressed: true, decode: alarms };
static MAKER: Service = Service {
    cid2: 0x51,
    title: "manufacturer",
    part: Part::Name,
    addressed: false,
    decode: |_, info, into| ascii_family::manufacturer(info, into),
};

/// Words behind the user byte: six that are named, four in reserve.
const TAIL_WORDS: u8 = 10;

/// Service 42. The second byte is a group number that need not be the address.
fn live(_asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let [_flags, _group] = [reader.u8()?, reader.u8()?];
    let count = cell_count(&mut reader)?;
    let cells = words(&mut reader, count)?;
    let count = sensor_count(&mut reader)?;
    let temperatures = words(&mut reader, count)?;
    let current = reader.i16()?;
    let voltage = reader.u16()?;
    let remaining = reader.u16()?;
    match reader.u8()? {
        TAIL_WORDS => {}
        2 | 4 => {
            return Err(DecodeError::Unsupported(
                "this is Pylontech's layout (type pylontech)".into(),
            ));
        }
        other => {
            return Err(DecodeError::Unsupported(format!(
                "a layout with {other} words at its end"
            )));
        }
    }
    let tail = words(&mut reader, TAIL_WORDS)?;
    if reader.remaining() != 0 {
        return Err(DecodeError::Length(info.len()));
    }
    // The sixth word is the voltage at the terminals of the case; the pack's own is more exact.
    let [full, soc, design, cycles, soh, ..] = tail[..] else {
        return Err(DecodeError::Length(info.len()));
    };

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(i32::from(voltage) * 10));
    pack.current = Some(Milliamps(i32::from(current) * 10));
    pack.remaining = Some(centi(remaining));
    pack.full = Some(centi(full));
    pack.design = (design != 0).then(|| centi(design));
    pack.soc = thousandths(soc);
    pack.soh = thousandths(soh);
    pack.cycles = Some(cycles.into());
    into.cells = cells.iter().map(|&mv| Cell::of(Millivolts(mv.into()))).collect();
    let probes = places(temperatures.len()).zip(temperatures);
    into.probes = probes.map(|(location, raw)| Probe { location, value: kelvin(raw) }).collect();
    into.received.cell_info = true;
    Ok(())
}

/// Six sensors are four among the cells, one in the case, one at the transistors. Any other number
/// of them is not documented, so they only get numbers.
fn places(sensors: usize) -> impl Iterator<Item = SensorLocation> {
    let known = [SensorLocation::Ambient, SensorLocation::Mosfet];
    let named = if sensors == 6 { known.len() } else { 0 };
    std::iter::repeat_n(SensorLocation::Cells, sensors - named).chain(known.into_iter().take(named))
}

/// Hundredths of an ampere-hour.
fn centi(raw: u16) -> MilliampHours {
    MilliampHours(i64::from(raw) * 10)
}

/// A little above 100 % happens; far above it is no share of anything.
fn thousandths(raw: u16) -> Option<CentiPercent> {
    (raw <= 1100).then(|| CentiPercent(i32::from(raw) * 10))
}

/// Events of service 44 that are in the document; boards send 20 of them, the last six in reserve.
const EVENTS: usize = 14;

/// Service 44. Its state bytes are warnings.
fn alarms(_asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let [_flags, _group] = [reader.u8()?, reader.u8()?];
    let count = cell_count(&mut reader)?;
    let cells = reader.take(count.into())?;
    let count = sensor_count(&mut reader)?;
    let temperatures = reader.take(count.into())?;
    let [current, voltage] = [reader.u8()?, reader.u8()?];
    let events = reader.u8()?;
    let events = reader.take(events.into())?;
    let (Some(known), 0) = (events.first_chunk::<EVENTS>(), reader.remaining()) else {
        return Err(DecodeError::Length(info.len()));
    };

    for &state in cells {
        let limits = [Alarm::CellUndervoltageWarning, Alarm::CellOvervoltageWarning];
        note_state(state, limits, "cell_states", into);
    }
    for (place, &state) in places(temperatures.len()).zip(temperatures) {
        note_state(state, temperature_warnings(place), "temperature_states", into);
    }
    // A discharge is negative, so "the lower limit" is that of the discharge.
    let limits = [Alarm::DischargeOvercurrentWarning, Alarm::ChargeOvercurrentWarning];
    note_state(current, limits, "current_state", into);
    let limits = [Alarm::PackUndervoltageWarning, Alarm::PackOvervoltageWarning];
    note_state(voltage, limits, "pack_voltage_state", into);

    let [e1, e2, e3, e4, e5, e6, switches, balance1, balance2, system, cut1, cut2, e7, e8] = *known;
    for (word, value) in [
        (&FAILURES, e1),
        (&VOLTAGE, e2),
        (&CELL_TEMPERATURE, e3),
        (&OTHER_TEMPERATURE, e4),
        (&CURRENT, e5),
        (&CAPACITY, e6),
        (&SWITCHES, switches),
        (&SYSTEM, system),
        (&WAITING, e7),
        (&BOARD, e8),
    ] {
        word.decode(value, into);
    }
    cell_masks(u16::from_be_bytes([balance2, balance1]), u16::from_be_bytes([cut2, cut1]), into);
    let reserve = events[EVENTS..].iter().fold(0, |all, event| all | event);
    into.alarms.note_unknown_bits("reserved_events", reserve);
    Ok(())
}

/// Which cells are being balanced, and whose wire is off. Bits of cells that are not fitted say
/// nothing.
fn cell_masks(balance: u16, cut: u16, into: &mut Reading) {
    for (bit, cell) in into.cells.iter_mut().take(16).enumerate() {
        cell.balancing = Some(balance & 1 << bit != 0);
    }
    let fitted = ((1_u32 << into.cells.len().min(16)) - 1) as u16;
    into.alarms.note(Alarm::CellDisconnected, cut & fitted != 0);
    into.alarms.note_unknown_bits("balance_state", balance & !fitted);
    into.alarms.note_unknown_bits("disconnection_state", cut & !fitted);
}

static FAILURES: StatusWord = StatusWord {
    name: "alarm_event_1",
    bits: &[
        (0, Raises(Alarm::VoltageSensorFailure)),
        (1, Raises(Alarm::TemperatureSensorFailure)),
        (2, Raises(Alarm::CurrentSensorFailure)),
        (3, Raises(Alarm::KeySwitchFailure)),
        (4, Raises(Alarm::CellDifference)),
        (5, Raises(Alarm::ChargeMosFailure)),
        (6, Raises(Alarm::DischargeMosFailure)),
        (7, Raises(Alarm::CurrentLimiterFailure)),
    ],
};

static VOLTAGE: StatusWord = StatusWord {
    name: "voltage_alarm",
    bits: &[
        (0, Raises(Alarm::CellOvervoltageWarning)),
        (1, Raises(Alarm::CellOvervoltage)),
        (2, Raises(Alarm::CellUndervoltageWarning)),
        (3, Raises(Alarm::CellUndervoltage)),
        (4, Raises(Alarm::PackOvervoltageWarning)),
        (5, Raises(Alarm::PackOvervoltage)),
        (6, Raises(Alarm::PackUndervoltageWarning)),
        (7, Raises(Alarm::PackUndervoltage)),
    ],
};

static CELL_TEMPERATURE: StatusWord = StatusWord {
    name: "temperature_alarm",
    bits: &[
        (0, Raises(Alarm::ChargeOvertemperatureWarning)),
        (1, Raises(Alarm::ChargeOvertemperature)),
        (2, Raises(Alarm::ChargeUndertemperatureWarning)),
        (3, Raises(Alarm::ChargeUndertemperature)),
        (4, Raises(Alarm::DischargeOvertemperatureWarning)),
        (5, Raises(Alarm::DischargeOvertemperature)),
        (6, Raises(Alarm::DischargeUndertemperatureWarning)),
        (7, Raises(Alarm::DischargeUndertemperature)),
    ],
};

/// In the document the protection of the transistors comes before their warning.
static OTHER_TEMPERATURE: StatusWord = StatusWord {
    name: "alarm_event_4",
    bits: &[
        (0, Raises(Alarm::AmbientOvertemperatureWarning)),
        (1, Raises(Alarm::AmbientOvertemperature)),
        (2, Raises(Alarm::AmbientUndertemperatureWarning)),
        (3, Raises(Alarm::AmbientUndertemperature)),
        (4, Raises(Alarm::MosOvertemperature)),
        (5, Raises(Alarm::MosOvertemperatureWarning)),
        (6, State("low_temperature_heating")),
    ],
};

static CURRENT: StatusWord = StatusWord {
    name: "current_alarm",
    bits: &[
        (0, Raises(Alarm::ChargeOvercurrentWarning)),
        (1, Raises(Alarm::ChargeOvercurrent)),
        (2, Raises(Alarm::DischargeOvercurrentWarning)),
        (3, Raises(Alarm::DischargeOvercurrent)),
        (4, Raises(Alarm::TransientOvercurrent)),
        (5, Raises(Alarm::ShortCircuit)),
        (6, Raises(Alarm::OvercurrentLockout)),
        (7, Raises(Alarm::ShortCircuitLockout)),
    ],
};

static CAPACITY: StatusWord = StatusWord {
    name: "capacity_alarm",
    bits: &[
        (0, Raises(Alarm::ChargeOvervoltage)),
        (1, State("intermittent_recharge_waiting")),
        (2, Raises(Alarm::LowSocWarning)),
        (3, Raises(Alarm::LowBattery)),
        (4, Raises(Alarm::ChargeForbidden)),
        (5, Raises(Alarm::ReverseConnection)),
        (6, Raises(Alarm::OutputConnectionFailure)),
    ],
};

static SWITCHES: StatusWord = StatusWord {
    name: "switch_status",
    bits: &[
        (0, DischargeSwitch),
        (1, ChargeSwitch),
        (2, State("current_limiting")),
        (3, State("heater_on")),
    ],
};

static SYSTEM: StatusWord = StatusWord {
    name: "system_status",
    bits: &[
        (0, State("discharging")),
        (1, State("charging")),
        (2, State("floating_charge")),
        (4, State("standby")),
        (5, State("shutdown")),
    ],
};

static WAITING: StatusWord = StatusWord {
    name: "alarm_event_7",
    bits: &[(4, State("automatic_charging_waiting")), (5, State("manual_charging_waiting"))],
};

static BOARD: StatusWord = StatusWord {
    name: "alarm_event_8",
    bits: &[
        (0, Raises(Alarm::EepromFailure)),
        (1, Raises(Alarm::ClockFailure)),
        (2, State("voltage_not_calibrated")),
        (3, State("current_not_calibrated")),
        (4, State("zero_not_calibrated")),
    ],
};

//! PACE, protocol version 25: the boards of many rack batteries (P16S100A and relatives).
//!
//! [ASCII frames](super::ascii_frame) of version 25 and CID1 46. Layout: nkinnan/esphome-pace-bms
//! and frames recorded there. Batteries on one bus are asked one by one: readers disagree on what
//! separates the packs in a reply from all of them. The battery has many services that write, next
//! door to those that read; only the four below are requested.

use super::ascii_family::{
    ADDRESS, Alternative, Layout, Pack, Part, Service, Target, cells_sensors_and_charge,
    is_service, note_state, warnings,
};
use super::values::{self, centi_ah, keep, plain_text};
use super::{DecodeError, DriverInfo, Reader, Runner, SerialDefaults, StatusWord, status_word};
use crate::model::{Alarm, Millivolts, Reading, SensorLocation};

pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600], 2),
    addresses: 0..=15,
    verified: "recorded frames of one pack; alarms from a table only",
    ..DriverInfo::new("pace", "PACE", |options| Box::new(Runner::new(Pack::new(&LAYOUT, options))))
};

static LAYOUT: Layout = Layout {
    version: 0x25,
    reply_versions: &[0x25, 0x26],
    cid1: 0x46,
    plan: &[
        &Service::new(0x42, "live values", Part::Live, ADDRESS, live),
        &Service::new(0x44, "alarms", Part::Alarms, ADDRESS, alarms),
        &Service::new(0xC1, "hardware", Part::Identity, None, hardware),
        &Service::new(0xC2, "serial number", Part::Identity, None, serial),
    ],
    alternative: Alternative::None,
    is_service,
};

/// Fields after the user byte that every board has: full, cycles, design.
const TAIL_FIELDS: u8 = 3;
/// Boards with a user byte of 9 append 14 bytes of unknown meaning, some boards one more.
const MAX_APPENDED: usize = 15;

/// The last two of six sensors.
const LAST_SENSORS: [SensorLocation; 2] = [SensorLocation::Mosfet, SensorLocation::Ambient];

fn live(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let voltage = cells_sensors_and_charge(&mut reader, LAST_SENSORS, into)?;
    let user = reader.u8()?;
    if user < TAIL_FIELDS {
        let reason = format!("a layout with {user} fields at its end");
        return Err(DecodeError::Unsupported(reason));
    }
    let [full, cycles, design] = reader.words()?;
    // More would be another pack, and it is not known which values belong to which.
    if reader.remaining() > MAX_APPENDED {
        return Err(DecodeError::Length(info.len()));
    }

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(voltage.into()));
    pack.full = Some(centi_ah(full));
    pack.design = (design != 0).then(|| centi_ah(design));
    pack.soc = pack.remaining.and_then(|remaining| values::ratio(remaining, centi_ah(full)));
    pack.cycles = Some(cycles.into());
    Ok(())
}

/// Some boards append one byte.
fn alarms(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    warnings(&mut reader, LAST_SENSORS, into)?;
    let [charge, voltage, discharge] = reader.bytes()?;
    let [protect1, protect2, system, control, fault] = reader.bytes()?;
    let balance = reader.u16()?;
    let [warning1, warning2] = reader.bytes()?;
    if reader.remaining() > 1 {
        return Err(DecodeError::Length(info.len()));
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
    values::note_balancing("balance_word", balance, 0, into);
    Ok(())
}

pub(crate) static PROTECT_1: StatusWord = status_word!("protect_status_1";
    0 CellOvervoltage, 1 CellUndervoltage, 2 PackOvervoltage, 3 PackUndervoltage,
    4 ChargeOvercurrent, 5 DischargeOvercurrent, 6 ShortCircuit);

pub(crate) static PROTECT_2: StatusWord = status_word!("protect_status_2";
    0 ChargeOvertemperature, 1 DischargeOvertemperature,
    2 ChargeUndertemperature, 3 DischargeUndertemperature,
    4 MosOvertemperature, 5 AmbientOvertemperature, 6 AmbientUndertemperature, 7 "fully_charged");

/// Bit 7 toggles while the board is alive.
pub(crate) static SYSTEM: StatusWord = status_word!("system_status";
    0 "charge_current_limiter_off", 1 ChargeSwitch, 2 DischargeSwitch, 3 "discharging",
    4 ReverseConnection, 5 "charging", 7 "heart_indicator");

static CONFIGURATION: StatusWord = status_word!("configuration_status";
    0 "buzzer_alarm_enabled", 1 "charge_mosfet_turned_off", 2 "discharge_mosfet_turned_off",
    3 "current_limiter_low_gear", 4 "current_limiter_enabled", 5 "led_alarm_enabled");

pub(crate) static FAULT: StatusWord = status_word!("fault_status";
    0 ChargeMosFailure, 1 DischargeMosFailure, 2 TemperatureSensorFailure, 4 CellFailure,
    5 SamplingFailure);

pub(crate) static WARNING_1: StatusWord = status_word!("warning_status_1";
    0 CellOvervoltageWarning, 1 CellUndervoltageWarning, 2 PackOvervoltageWarning,
    3 PackUndervoltageWarning, 4 ChargeOvercurrentWarning, 5 DischargeOvercurrentWarning);

pub(crate) static WARNING_2: StatusWord = status_word!("warning_status_2";
    0 ChargeOvertemperatureWarning, 1 DischargeOvertemperatureWarning,
    2 ChargeUndertemperatureWarning, 3 DischargeUndertemperatureWarning,
    4 AmbientOvertemperatureWarning, 5 AmbientUndertemperatureWarning,
    6 MosOvertemperatureWarning, 7 LowSocWarning);

fn hardware(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    keep(&mut into.identity.hardware, name(info, 20)?);
    into.received.device_info = true;
    Ok(())
}

fn serial(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    keep(&mut into.identity.serial, name(info, 40)?);
    into.received.device_info = true;
    Ok(())
}

fn name(info: &[u8], length: usize) -> Result<Option<String>, DecodeError> {
    let mut reader = Reader::big_endian(info);
    let name = plain_text(&mut reader, length)?;
    reader.end().map(|()| name)
}

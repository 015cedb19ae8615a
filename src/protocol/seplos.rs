//! Seplos, protocol version 2: boards of the series EMU10xx and EMU11xx (1101 and relatives).
//!
//! [ASCII frames](super::ascii_frame) of version 20 and CID1 46, as in "SEPLOS BMS Communication
//! Protocol V2.0" (2019) and in recorded frames. Version 3 boards speak Modbus and are another brand.
//! Service 4F replies with an empty payload, so it is not requested.

use super::ascii_family::{
    self, ADDRESS, Alternative, Layout, Pack, Part, Service, Target, cells_sensors_and_charge,
    is_service, note_state, warnings,
};
use super::values::{self, centi_ah};
use super::{DecodeError, DriverInfo, Reader, Runner, SerialDefaults, StatusWord, status_word};
use crate::model::{Alarm, CentiPercent, Millivolts, Reading, SensorLocation};

pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[9600, 19_200], 2),
    bluetooth: Some("seplos-v2"),
    addresses: 0..=15,
    verified: "recorded frames of two packs; most alarms from the document only",
    ..DriverInfo::new("seplos", "Seplos V2", |options| {
        Box::new(Runner::new(Pack::new(&LAYOUT, options)))
    })
};

/// Boards of Boqiang reply with version 26.
static LAYOUT: Layout = Layout {
    version: 0x20,
    reply_versions: &[0x20, 0x26],
    cid1: 0x46,
    plan: &[
        &Service::new(0x42, "live values", Part::Live, ADDRESS, live),
        &Service::new(0x44, "alarms", Part::Alarms, ADDRESS, alarms),
        &Service::new(0x51, "manufacturer", Part::Identity, None, ascii_family::manufacturer),
    ],
    alternative: Alternative::None,
    is_service,
};

/// Words after the user byte: six with a meaning, four in reserve.
const TAIL_WORDS: u8 = 10;

/// The last two of six sensors.
const LAST_SENSORS: [SensorLocation; 2] = [SensorLocation::Ambient, SensorLocation::Mosfet];

/// The second byte is a group number that need not be the address.
fn live(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let voltage = cells_sensors_and_charge(&mut reader, LAST_SENSORS, into)?;
    let unsupported = |reason: &str| Err(DecodeError::Unsupported(reason.to_owned()));
    match reader.u8()? {
        TAIL_WORDS => {}
        2 | 4 => return unsupported("this is Pylontech's layout (type pylontech)"),
        other => return unsupported(&format!("a layout with {other} words at its end")),
    }
    // The voltage at the terminals of the case is less exact than that of the pack.
    let [full, soc, design, cycles, soh, _terminal_voltage] = reader.words()?;
    let [_, _, _, _] = reader.words()?;
    reader.end()?;

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(i32::from(voltage) * 10));
    pack.full = Some(centi_ah(full));
    pack.design = (design != 0).then(|| centi_ah(design));
    pack.soc = permille(soc);
    pack.soh = permille(soh);
    pack.cycles = Some(cycles.into());
    Ok(())
}

fn permille(raw: u16) -> Option<CentiPercent> {
    values::centi_percent(i64::from(raw) * 10)
}

/// Documented events of service 44; boards send 20 of them, the last six in reserve.
const EVENTS: usize = 14;

fn alarms(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    warnings(&mut reader, LAST_SENSORS, into)?;
    let [current, voltage, events] = reader.bytes()?;
    let events = reader.take(events.into())?;
    reader.end()?;
    let Some((known, reserved)) = events.split_first_chunk::<EVENTS>() else {
        return Err(DecodeError::Length(info.len()));
    };

    // A discharge is negative, so "the lower limit" is that of the discharge.
    let limits = [Alarm::DischargeOvercurrentWarning, Alarm::ChargeOvercurrentWarning];
    note_state(current, limits, "current_state", into);
    let limits = [Alarm::PackUndervoltageWarning, Alarm::PackOvervoltageWarning];
    note_state(voltage, limits, "pack_voltage_state", into);

    let [e1, e2, e3, e4, e5, e6, switches, balance1, balance2, system, cut1, cut2, e7, e8] = *known;
    for (word, value) in EVENTS_1_TO_6.iter().zip([e1, e2, e3, e4, e5, e6]) {
        word.decode(value, into);
    }
    for (word, value) in [(&SWITCHES, switches), (&SYSTEM, system), (&WAITING, e7), (&BOARD, e8)] {
        word.decode(value, into);
    }
    values::note_balancing("balance_state", u16::from_le_bytes([balance1, balance2]), 0, into);
    let cut = u64::from(u16::from_le_bytes([cut1, cut2]));
    let fitted = values::fitted(&into.cells, 16);
    into.alarms.note(Alarm::CellDisconnected, cut & fitted != 0);
    into.alarms.note_unknown_bits("disconnection_state", cut & !fitted);
    let reserved = reserved.iter().fold(0, |all, event| all | event);
    into.alarms.note_unknown_bits("reserved_events", reserved);
    Ok(())
}

/// In the document the protection of the transistors comes before their warning.
pub(crate) static EVENTS_1_TO_6: [StatusWord; 6] = [
    status_word!("alarm_event_1";
        0 VoltageSensorFailure, 1 TemperatureSensorFailure, 2 CurrentSensorFailure,
        3 KeySwitchFailure, 4 CellDifference, 5 ChargeMosFailure, 6 DischargeMosFailure,
        7 CurrentLimiterFailure),
    status_word!("voltage_alarm";
        0 CellOvervoltageWarning, 1 CellOvervoltage, 2 CellUndervoltageWarning, 3 CellUndervoltage,
        4 PackOvervoltageWarning, 5 PackOvervoltage, 6 PackUndervoltageWarning, 7 PackUndervoltage),
    status_word!("temperature_alarm";
        0 ChargeOvertemperatureWarning, 1 ChargeOvertemperature,
        2 ChargeUndertemperatureWarning, 3 ChargeUndertemperature,
        4 DischargeOvertemperatureWarning, 5 DischargeOvertemperature,
        6 DischargeUndertemperatureWarning, 7 DischargeUndertemperature),
    status_word!("alarm_event_4";
        0 AmbientOvertemperatureWarning, 1 AmbientOvertemperature,
        2 AmbientUndertemperatureWarning, 3 AmbientUndertemperature,
        4 MosOvertemperature, 5 MosOvertemperatureWarning, 6 "low_temperature_heating"),
    status_word!("current_alarm";
        0 ChargeOvercurrentWarning, 1 ChargeOvercurrent, 2 DischargeOvercurrentWarning,
        3 DischargeOvercurrent, 4 TransientOvercurrent, 5 ShortCircuit, 6 OvercurrentLockout,
        7 ShortCircuitLockout),
    status_word!("capacity_alarm";
        0 ChargeOvervoltage, 1 "intermittent_recharge_waiting", 2 LowSocWarning, 3 LowBattery,
        4 ChargeForbidden, 5 ReverseConnection, 6 OutputConnectionFailure),
];

pub(crate) static SWITCHES: StatusWord = status_word!("switch_status";
    0 DischargeSwitch, 1 ChargeSwitch, 2 "current_limiting", 3 "heater_on");

pub(crate) static SYSTEM: StatusWord = status_word!("system_status";
    0 "discharging", 1 "charging", 2 "floating_charge", 4 "standby", 5 "shutdown");

static WAITING: StatusWord = status_word!("alarm_event_7";
    4 "automatic_charging_waiting", 5 "manual_charging_waiting");

pub(crate) static BOARD: StatusWord = status_word!("alarm_event_8";
    0 EepromFailure, 1 ClockFailure, 2 "voltage_not_calibrated", 3 "current_not_calibrated",
    4 "zero_not_calibrated");

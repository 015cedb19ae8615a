//! Pylontech's low-voltage modules over RS485: US2000, US3000, US5000, UP2500 and their relatives.
//!
//! [ASCII frames](super::ascii_frame) of version 20 and CID1 46, as in "RS485 protocol, low
//! voltage, V3.3" (2018) and V2.8 (2016), and in recorded frames. The battery ignores the version
//! of a request, and puts its own into some replies. Services 60 to 63 are those of other product
//! lines and in neither document, so they are not requested; 94 (set) and 95 (switch off) never.

use super::ascii_family::{
    self, ADDRESS, Alternative, Layout, Pack, Part, Service, Target, cells_and_sensors, is_service,
    note_state, states_of_cells_and_sensors,
};
use super::values::{self, deci_kelvin, keep, plain_text};
use super::{DecodeError, DriverInfo, Reader, Runner, SerialDefaults, StatusWord, status_word};
use crate::model::{Alarm, MilliampHours, Milliamps, Millivolts, Reading, SensorLocation};

/// The first module of the first group has address 2, the one of group 3 has 32 (hex).
pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[115_200, 9600], 2),
    addresses: 2..=0xFE,
    verified: "recorded frames of six modules; alarms from the document only",
    ..DriverInfo::new("pylontech", "Pylontech", |options| {
        Box::new(Runner::new(Pack::new(&LAYOUT, options)))
    })
};

/// Service 51 comes after 96, whose version is more exact.
static LAYOUT: Layout = Layout {
    version: 0x20,
    reply_versions: &[],
    cid1: 0x46,
    plan: &[
        &Service::new(0x42, "live values", Part::Live, ADDRESS, live),
        &Service::new(0x44, "alarms", Part::Alarms, ADDRESS, alarms),
        &Service::new(0x92, "charge and discharge management", Part::Extra, ADDRESS, management),
        &Service::new(0x93, "serial number", Part::Identity, ADDRESS, serial),
        &Service::new(0x96, "firmware", Part::Identity, ADDRESS, firmware),
        &Service::new(0x47, "parameters", Part::Identity, None, parameters),
        &Service::new(0x51, "manufacturer", Part::Identity, None, ascii_family::manufacturer),
    ],
    alternative: Alternative::WholeGroup,
    is_service,
};

fn live(target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    our_module(target, info, into, values_of_module)
}

/// Decodes our module in a reply, which must contain nothing else. The second byte repeats the address,
/// or counts the modules of a group.
fn our_module(
    target: Target,
    info: &[u8],
    into: &mut Reading,
    decode: fn(&mut Reader<'_>, &mut Reading) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    // The flags: which alarms and switches have changed since they were last requested.
    let [_flags, count] = reader.bytes()?;
    let (count, ours) = if target.group { (count.into(), target.index()) } else { (1, 0) };
    for index in 0..count {
        let mut other = Reading::default();
        decode(&mut reader, if index == ours { &mut *into } else { &mut other })?;
    }
    reader.end()?;
    if ours < count {
        return Ok(());
    }
    let number = ours + 1;
    let reason = format!("the group has {count} modules and ours would be number {number}");
    Err(DecodeError::Invalid(reason))
}

fn values_of_module(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    let (cells, temperatures) = cells_and_sensors(reader)?;
    let current = reader.i16()?;
    let [voltage, remaining] = reader.words()?;
    let user = reader.u8()?;
    let [full, cycles] = reader.words()?;
    // Modules of more than 65 Ah put FFFF into the old fields and append wider ones.
    let (remaining, full) = match user {
        2 => (remaining.into(), full.into()),
        4 => (reader.u24()?, reader.u24()?),
        10 => {
            let reason = "this is the layout of Seplos (type seplos)";
            return Err(DecodeError::Unsupported(reason.to_owned()));
        }
        other => {
            let reason = format!("a layout with {other} fields at its end");
            return Err(DecodeError::Unsupported(reason));
        }
    };
    let (remaining, full) = (MilliampHours(remaining.into()), MilliampHours(full.into()));

    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(voltage.into()));
    pack.current = Some(Milliamps(i32::from(current) * 100));
    pack.remaining = Some(remaining);
    pack.full = Some(full);
    pack.soc = values::ratio(remaining, full);
    pack.cycles = Some(cycles.into());
    into.cells = values::cells(&cells);
    // The first sensor is on the board with the power transistors.
    let locations =
        std::iter::once(SensorLocation::Mosfet).chain(std::iter::repeat(SensorLocation::Cells));
    into.probes = values::probes(locations, temperatures.into_iter().map(deci_kelvin));
    into.received.cell_info = true;
    Ok(())
}

fn alarms(target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    our_module(target, info, into, alarms_of_module)
}

fn alarms_of_module(reader: &mut Reader<'_>, into: &mut Reading) -> Result<(), DecodeError> {
    let [cells, temperatures] = states_of_cells_and_sensors(reader)?;
    let [charge, voltage, discharge] = reader.bytes()?;
    let [protection, switches, flags, low, high] = reader.bytes()?;
    for &state in cells {
        let limits = [Alarm::CellUndervoltage, Alarm::CellOvervoltage];
        note_state(state, limits, "cell_states", into);
    }
    let board = [Alarm::MosUndertemperature, Alarm::MosOvertemperature];
    let others = [Alarm::CellUndertemperature, Alarm::CellOvertemperature];
    let limits = std::iter::once(board).chain(std::iter::repeat(others));
    for (&state, limits) in temperatures.iter().zip(limits) {
        note_state(state, limits, "temperature_states", into);
    }
    // A discharge is negative, so "below the lower limit" is too much of it, too.
    for (state, alarm, word) in [
        (charge, Alarm::ChargeOvercurrent, "charge_current_state"),
        (discharge, Alarm::DischargeOvercurrent, "discharge_current_state"),
    ] {
        note_state(state, [alarm, alarm], word, into);
    }
    let limits = [Alarm::PackUndervoltage, Alarm::PackOvervoltage];
    note_state(voltage, limits, "module_voltage_state", into);

    STATUS_1.decode(protection, into);
    STATUS_2.decode(switches, into);
    STATUS_3.decode(flags, into);
    let failed = u16::from_le_bytes([low, high]);
    let fitted = ((1_u32 << cells.len().min(16)) - 1) as u16;
    into.alarms.note(Alarm::CellFailure, failed & fitted != 0);
    into.alarms.note_unknown_bits("status4_5", failed & !fitted);
    Ok(())
}

pub(crate) static STATUS_1: StatusWord = status_word!("status1";
    0 PackOvervoltage, 1 CellUndervoltage, 2 ChargeOvercurrent, 4 DischargeOvercurrent,
    5 DischargeOvertemperature, 6 ChargeOvertemperature, 7 PackUndervoltage);

pub(crate) static STATUS_2: StatusWord = status_word!("status2";
    0 "precharge_mosfet_on", 1 ChargeSwitch, 2 DischargeSwitch, 3 "using_battery_module_power");

static STATUS_3: StatusWord = status_word!("status3";
    0 "buzzer_on", 3 "fully_charged", 5 "heater_on", 6 "effective_discharge_current",
    7 "effective_charge_current");

static MANAGEMENT_STATUS: StatusWord = status_word!("management_status";
    3 "full_charge_request", 4 "charge_immediately_2", 5 "charge_immediately_1",
    6 "discharge_enable", 7 "charge_enable");

/// Service 92: what the module requests from chargers and loads.
fn management(target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = addressed(target, info)?;
    let [charge, discharge] = reader.words()?;
    let [charge_current, discharge_current] = [reader.i16()?, reader.i16()?];
    let status = reader.u8()?;
    reader.end()?;
    let limits = &mut into.limits;
    limits.charge_voltage = Some(Millivolts(charge.into()));
    limits.discharge_voltage = Some(Millivolts(discharge.into()));
    limits.charge_current = Some(Milliamps(i32::from(charge_current) * 100));
    limits.discharge_current = Some(Milliamps(i32::from(discharge_current) * 100));
    MANAGEMENT_STATUS.decode(status, into);
    Ok(())
}

/// A payload that begins with the address in the request.
fn addressed(target: Target, info: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::big_endian(info);
    if reader.u8()? == target.address { Ok(reader) } else { Err(DecodeError::OtherRequest) }
}

/// Service 47: the limits at which the module protects itself. The warnings in between and the
/// limits of temperature and current have no field of their own in a reading.
fn parameters(_target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = Reader::big_endian(info);
    let _flags = reader.u8()?;
    let [cell_high, cell_low, cell_under] = reader.words()?;
    let [_charge_high, _charge_low, _charge_current] = reader.words()?;
    let [high, low, under] = reader.words()?;
    let [_discharge_high, _discharge_low, _discharge_current] = reader.words()?;
    reader.end()?;
    if !(under..=high).contains(&low) || !(cell_under..=cell_high).contains(&cell_low) {
        return Err(DecodeError::OtherRequest);
    }
    let limits = &mut into.limits;
    limits.cell_upper = Some(Millivolts(cell_high.into()));
    limits.cell_lower = Some(Millivolts(cell_under.into()));
    limits.pack_upper = Some(Millivolts(high.into()));
    limits.pack_lower = Some(Millivolts(under.into()));
    into.received.settings = true;
    Ok(())
}

fn serial(target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = addressed(target, info)?;
    let serial = plain_text(&mut reader, 16)?;
    reader.end()?;
    keep(&mut into.identity.serial, serial);
    into.received.device_info = true;
    Ok(())
}

/// Service 96: the version of the manufacturer, and that of the program in the module.
fn firmware(target: Target, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = addressed(target, info)?;
    let [_, _, major, minor, patch] = reader.bytes()?;
    reader.end()?;
    keep(&mut into.identity.software, Some(format!("{major}.{minor}.{patch}")));
    into.received.device_info = true;
    Ok(())
}

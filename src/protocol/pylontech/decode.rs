//! The payload of each answer of a Pylontech module.

use crate::model::reading::{Cell, Probe, SensorLocation};
use crate::model::units::{MilliampHours, Milliamps, Millivolts};
use crate::model::{Alarm, Reading};
use crate::protocol::DecodeError;
use crate::protocol::ascii_family::{
    self, Asked, cell_count, is_text, keep, kelvin, note_state, sensor_count, share, words,
};
use crate::protocol::bytes::{Reader, text};
use crate::protocol::status_word::Bit::{ChargeSwitch, DischargeSwitch, Raises, State};
use crate::protocol::status_word::StatusWord;

/// One module of service 42.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    cells: Vec<u16>,
    temperatures: Vec<u16>,
    current: i16,
    voltage: u16,
    remaining: MilliampHours,
    total: MilliampHours,
    cycles: u16,
}

/// Service 42. The second byte repeats the address, or counts the modules of a group.
pub(super) fn live(asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let module = ours(asked, info, module)?;
    let pack = &mut into.pack;
    pack.voltage = Some(Millivolts(module.voltage.into()));
    pack.current = Some(Milliamps(i32::from(module.current) * 100));
    pack.remaining = Some(module.remaining);
    pack.full = Some(module.total);
    pack.soc = share(module.remaining, module.total);
    pack.cycles = Some(module.cycles.into());
    into.cells = module.cells.iter().map(|&mv| Cell::of(Millivolts(mv.into()))).collect();
    // The first sensor is on the board with the power transistors.
    let places =
        std::iter::once(SensorLocation::Mosfet).chain(std::iter::repeat(SensorLocation::Cells));
    let probes = places.zip(&module.temperatures);
    into.probes = probes.map(|(location, &raw)| Probe { location, value: kelvin(raw) }).collect();
    into.received.cell_info = true;
    Ok(())
}

/// What `read` finds for our module, after making sure that nothing is left over.
fn ours<T>(
    asked: Asked,
    info: &[u8],
    read: fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::big_endian(info);
    // The flags: which alarms and switches have changed since they were last asked for.
    reader.u8()?;
    let head = reader.u8()?;
    if !asked.group {
        let module = read(&mut reader)?;
        return at_end(&reader, info).map(|()| module);
    }
    let count = usize::from(head);
    let modules = (0..count).map(|_| read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    at_end(&reader, info)?;
    let number = asked.index();
    modules.into_iter().nth(number).ok_or_else(|| {
        let number = number + 1;
        let reason = format!("the group has {count} modules and ours would be number {number}");
        DecodeError::Invalid(reason)
    })
}

fn at_end(reader: &Reader<'_>, info: &[u8]) -> Result<(), DecodeError> {
    if reader.remaining() == 0 { Ok(()) } else { Err(DecodeError::Length(info.len())) }
}

fn module(reader: &mut Reader<'_>) -> Result<Module, DecodeError> {
    let count = cell_count(reader)?;
    let cells = words(reader, count)?;
    let count = sensor_count(reader)?;
    let temperatures = words(reader, count)?;
    let current = reader.i16()?;
    let voltage = reader.u16()?;
    let remaining = reader.u16()?;
    let user = reader.u8()?;
    let total = reader.u16()?;
    let cycles = reader.u16()?;
    // Modules of more than 65 Ah put FFFF into the old fields and append wider ones.
    let (remaining, total) = match user {
        2 => (remaining.into(), total.into()),
        4 => (wide(reader)?, wide(reader)?),
        10 => {
            return Err(DecodeError::Unsupported(
                "this is the layout of Seplos (type seplos)".into(),
            ));
        }
        other => {
            return Err(DecodeError::Unsupported(format!(
                "a layout with {other} fields at its end"
            )));
        }
    };
    let (remaining, total) = (MilliampHours(remaining), MilliampHours(total));
    Ok(Module { cells, temperatures, current, voltage, remaining, total, cycles })
}

/// Three bytes, unsigned.
fn wide(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    Ok(i64::from(reader.u8()?) << 16 | i64::from(reader.u16()?))
}

/// One module of service 44.
#[derive(Debug, Clone, PartialEq, Eq)]
struct States {
    cells: Vec<u8>,
    temperatures: Vec<u8>,
    charge: u8,
    voltage: u8,
    discharge: u8,
    status: [u8; 5],
}

fn states(reader: &mut Reader<'_>) -> Result<States, DecodeError> {
    let cells = cell_count(reader)?;
    let cells = reader.take(cells.into())?.to_vec();
    let sensors = sensor_count(reader)?;
    let temperatures = reader.take(sensors.into())?.to_vec();
    let [charge, voltage, discharge] = [reader.u8()?, reader.u8()?, reader.u8()?];
    let mut status = [0; 5];
    status.copy_from_slice(reader.take(5)?);
    Ok(States { cells, temperatures, charge, voltage, discharge, status })
}

/// Service 44.
pub(super) fn alarms(asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let states = ours(asked, info, states)?;
    for &state in &states.cells {
        let limits = [Alarm::CellUndervoltage, Alarm::CellOvervoltage];
        note_state(state, limits, "cell_states", into);
    }
    let board = [Alarm::MosUndertemperature, Alarm::MosOvertemperature];
    let cells = [Alarm::CellUndertemperature, Alarm::CellOvertemperature];
    let limits = std::iter::once(board).chain(std::iter::repeat(cells));
    for (&state, limits) in states.temperatures.iter().zip(limits) {
        note_state(state, limits, "temperature_states", into);
    }
    // A discharge is negative, so "below the lower limit" is too much of it, too.
    for (state, alarm, word) in [
        (states.charge, Alarm::ChargeOvercurrent, "charge_current_state"),
        (states.discharge, Alarm::DischargeOvercurrent, "discharge_current_state"),
    ] {
        note_state(state, [alarm, alarm], word, into);
    }
    let limits = [Alarm::PackUndervoltage, Alarm::PackOvervoltage];
    note_state(states.voltage, limits, "module_voltage_state", into);

    let [protection, switches, flags, low, high] = states.status;
    STATUS_1.decode(protection, into);
    STATUS_2.decode(switches, into);
    STATUS_3.decode(flags, into);
    let failed = u16::from_be_bytes([high, low]);
    let fitted = ((1_u32 << states.cells.len().min(16)) - 1) as u16;
    into.alarms.note(Alarm::CellFailure, failed & fitted != 0);
    into.alarms.note_unknown_bits("status4_5", failed & !fitted);
    Ok(())
}

static STATUS_1: StatusWord = StatusWord {
    name: "status1",
    bits: &[
        (0, Raises(Alarm::PackOvervoltage)),
        (1, Raises(Alarm::CellUndervoltage)),
        (2, Raises(Alarm::ChargeOvercurrent)),
        (4, Raises(Alarm::DischargeOvercurrent)),
        (5, Raises(Alarm::DischargeOvertemperature)),
        (6, Raises(Alarm::ChargeOvertemperature)),
        (7, Raises(Alarm::PackUndervoltage)),
    ],
};

static STATUS_2: StatusWord = StatusWord {
    name: "status2",
    bits: &[
        (0, State("precharge_mosfet_on")),
        (1, ChargeSwitch),
        (2, DischargeSwitch),
        (3, State("using_battery_module_power")),
    ],
};

static STATUS_3: StatusWord = StatusWord {
    name: "status3",
    bits: &[
        (0, State("buzzer_on")),
        (3, State("fully_charged")),
        (5, State("heater_on")),
        (6, State("effective_discharge_current")),
        (7, State("effective_charge_current")),
    ],
};

static MANAGEMENT_STATUS: StatusWord = StatusWord {
    name: "management_status",
    bits: &[
        (3, State("full_charge_request")),
        (4, State("charge_immediately_2")),
        (5, State("charge_immediately_1")),
        (6, State("discharge_enable")),
        (7, State("charge_enable")),
    ],
};

/// Service 92: what the module asks of chargers and loads.
pub(super) fn management(asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = commanded(asked, info, 10)?;
    let [charge, discharge] = [reader.u16()?, reader.u16()?];
    let [charge_current, discharge_current] = [reader.i16()?, reader.i16()?];
    let status = reader.u8()?;
    let limits = &mut into.limits;
    limits.charge_voltage = Some(Millivolts(charge.into()));
    limits.discharge_voltage = Some(Millivolts(discharge.into()));
    limits.charge_current = Some(Milliamps(i32::from(charge_current) * 100));
    limits.discharge_current = Some(Milliamps(i32::from(discharge_current) * 100));
    MANAGEMENT_STATUS.decode(status, into);
    Ok(())
}

/// A payload of fixed length that begins with the address it was asked for.
fn commanded(asked: Asked, info: &[u8], length: usize) -> Result<Reader<'_>, DecodeError> {
    if info.len() != length {
        return Err(DecodeError::Length(info.len()));
    }
    let mut reader = Reader::big_endian(info);
    if reader.u8()? != asked.address { Err(DecodeError::OtherRequest) } else { Ok(reader) }
}

/// Service 47: where the module protects itself. The warnings in between and the limits of
/// temperature and current have no field of their own in a reading.
pub(super) fn parameters(
    _asked: Asked,
    info: &[u8],
    into: &mut Reading,
) -> Result<(), DecodeError> {
    const LENGTH: usize = 1 + 12 * 2;
    if info.len() != LENGTH {
        return Err(DecodeError::Length(info.len()));
    }
    let mut reader = Reader::big_endian(info);
    reader.u8()?;
    let [cell_high, cell_low, cell_under] = [reader.u16()?, reader.u16()?, reader.u16()?];
    let [_charge_high, _charge_low, _charge_current] =
        [reader.u16()?, reader.u16()?, reader.u16()?];
    let [high, low, under] = [reader.u16()?, reader.u16()?, reader.u16()?];
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

/// Service 51.
pub(super) fn manufacturer(
    _asked: Asked,
    info: &[u8],
    into: &mut Reading,
) -> Result<(), DecodeError> {
    ascii_family::manufacturer(info, into)
}

/// Service 93.
pub(super) fn serial(asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = commanded(asked, info, 17)?;
    let number = reader.take(16)?;
    if !is_text(number) {
        return Err(DecodeError::OtherRequest);
    }
    keep(&mut into.identity.serial, text(number));
    into.received.device_info = true;
    Ok(())
}

/// Service 96: the version of the maker, and that of the program in the module.
pub(super) fn firmware(asked: Asked, info: &[u8], into: &mut Reading) -> Result<(), DecodeError> {
    let mut reader = commanded(asked, info, 6)?;
    reader.u16()?;
    let [major, minor, patch] = [reader.u8()?, reader.u8()?, reader.u8()?];
    keep(&mut into.identity.software, Some(format!("{major}.{minor}.{patch}")));
    into.received.device_info = true;
    Ok(())
}

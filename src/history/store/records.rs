//! Energy and cells by day, and alarms.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::{Batch, MAX_DAYS, StoreError};
use crate::history::alarm_records::{AlarmRecord, MAX_RECORDS};
use crate::history::{Day, History, health_days};
use crate::model::cell_health::HealthDay;
use crate::model::{DeviceId, Energy, EnergyTotals, Millis, MilliwattHours};

/// Adds energy to its days, so that nothing is lost if the file could not be read before; adds alarms and their ends.
pub(super) fn write(connection: &Connection, batch: &Batch) -> Result<(), StoreError> {
    for (device, Day { number, energy }) in &batch.days {
        connection.execute(
            "INSERT INTO days VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
             charged = charged + excluded.charged, discharged = discharged + excluded.discharged",
            params![
                number,
                device.as_str(),
                energy.charged.milliwatt_hours().0,
                energy.discharged.milliwatt_hours().0
            ],
        )?;
    }
    for (device, day) in &batch.health {
        let select = "SELECT numbers FROM health WHERE day = ?1 AND device = ?2";
        let key = params![day.number, device.as_str()];
        let known = connection.query_row(select, key, |row| row.get::<_, String>(0)).optional()?;
        let mut sum = known.and_then(|text| health_day(day.number, &text)).unwrap_or_default();
        sum.add(day);
        connection.execute(
            "INSERT OR REPLACE INTO health VALUES (?1, ?2, ?3)",
            params![day.number, device.as_str(), json!(sum.numbers()).to_string()],
        )?;
    }
    for (device, run) in &batch.runs {
        let Some((last, [soc, current, duration, start, charge, lowest, then, sum, count])) = run
        else {
            let delete = "DELETE FROM capacity_runs WHERE device = ?1";
            connection.execute(delete, [device.as_str()])?;
            continue;
        };
        connection.execute(
            "INSERT OR REPLACE INTO capacity_runs VALUES
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                device.as_str(),
                time(*last),
                soc,
                current,
                duration,
                start,
                charge,
                lowest,
                then,
                sum,
                count
            ],
        )?;
    }
    for AlarmRecord { device, name, start, end, details } in &batch.alarms {
        connection.execute(
            "INSERT OR REPLACE INTO alarms VALUES (?1, ?2, ?3, ?4, ?5)",
            params![time(*start), device.as_str(), name, end.map(time), details],
        )?;
    }
    Ok(())
}

/// Deletes what exceeds the limits, and adds the rest to the history. Anyone may have written the file: what is impossible
/// is left out.
pub(super) fn load(connection: &Connection, history: &History) -> Result<(), StoreError> {
    connection.execute(
        "DELETE FROM days WHERE day <
         (SELECT DISTINCT day FROM days ORDER BY day DESC LIMIT 1 OFFSET ?1)",
        [MAX_DAYS],
    )?;
    connection.execute(
        "DELETE FROM health WHERE day <
         (SELECT DISTINCT day FROM health ORDER BY day DESC LIMIT 1 OFFSET ?1)",
        [health_days::MAX_DAYS],
    )?;
    connection.execute(
        "DELETE FROM alarms WHERE start <
         (SELECT start FROM alarms ORDER BY start DESC LIMIT 1 OFFSET ?1)",
        [MAX_RECORDS],
    )?;
    let mut select = connection.prepare("SELECT day, device, charged, discharged FROM days")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let energy = |index| row.get(index).map(|mwh| Energy::of(MilliwattHours(mwh)));
        let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
        let number = u32::try_from(row.get::<_, i64>(0)?);
        if let (Some(device), Ok(number), Some(charged), Some(discharged)) =
            (device, number, energy(2)?, energy(3)?)
        {
            history
                .restore_day(&device, Day { number, energy: EnergyTotals { charged, discharged } });
        }
    }
    let mut select = connection.prepare("SELECT day, device, numbers FROM health ORDER BY day")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
        let number = u32::try_from(row.get::<_, i64>(0)?).ok();
        let numbers = row.get_ref(2)?.as_str().unwrap_or_default();
        let day = number.and_then(|number| health_day(number, numbers));
        if let (Some(device), Some(day)) = (device, day) {
            history.restore_health(&device, &day);
        }
    }
    load_runs(connection, history)?;
    let mut select = connection
        .prepare("SELECT start, device, name, end, details FROM alarms ORDER BY start")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
        let time = |time: i64| Millis(time.unsigned_abs());
        let (start, end) = (time(row.get(0)?), row.get::<_, Option<i64>>(3)?.map(time));
        let (name, details): (String, String) = (row.get(2)?, row.get(4)?);
        let is_object = serde_json::from_str(&details).is_ok_and(|it: Value| it.is_object());
        if let (Some(device), true) = (device, is_object) {
            history.restore_alarm(AlarmRecord { device, name, start, end, details });
        }
    }
    Ok(())
}

fn load_runs(connection: &Connection, history: &History) -> Result<(), StoreError> {
    let mut select = connection.prepare("SELECT * FROM capacity_runs")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let mut run = [0; 9];
        for (index, number) in (2..).zip(&mut run) {
            *number = row.get(index)?;
        }
        let last = Millis(row.get::<_, i64>(1)?.unsigned_abs());
        if let Some(device) = DeviceId::new(row.get_ref(0)?.as_str().unwrap_or_default()) {
            history.restore_run(&device, last, run);
        }
    }
    Ok(())
}

fn health_day(number: u32, numbers: &str) -> Option<HealthDay> {
    HealthDay::restore(number, serde_json::from_str(numbers).ok()?)
}

fn time(time: Millis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

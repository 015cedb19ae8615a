//! How the values of a minute or an hour are stored: a row per battery, with the values as a JSON array. Its layout lists the
//! quantities in their order, and a base value of each: differences have fewer digits, and an SD card less to write.

use std::fmt::Write;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::StoreError;
use crate::history::battery_history::HistoryRow;
use crate::history::packed::{Sample, Spread};
use crate::history::row_buffer::arrange;
use crate::model::{DeviceId, EntryKey, Millis};

/// Bits of the number of the layout in the key of a row; the time is above them. Rows are therefore in the order of
/// their times, which needs no index, and new ones fill the last page.
const LAYOUT_BITS: u32 = 16;

#[derive(Debug)]
struct Layout {
    id: u16,
    device: DeviceId,
    /// `None`: a quantity that the catalogue no longer has, or has with another precision.
    columns: Vec<Option<EntryKey>>,
    bases: Vec<i64>,
}

/// Two tables of rows and their layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    Minutes,
    Hours,
}

impl Tier {
    pub(super) const ALL: [Tier; 2] = [Tier::Minutes, Tier::Hours];

    pub(super) fn rows(self) -> &'static str {
        match self {
            Tier::Minutes => "rows",
            Tier::Hours => "hours",
        }
    }

    fn layouts(self) -> &'static str {
        match self {
            Tier::Minutes => "layouts",
            Tier::Hours => "hour_layouts",
        }
    }
}

/// The layouts of a tier. A battery gets another one when it reports a quantity for the first time, so there are few.
#[derive(Debug)]
pub(super) struct Layouts {
    tier: Tier,
    list: Vec<Layout>,
}

impl Layouts {
    /// Layouts that are not understood are left out, and with them their rows.
    pub(super) fn load(connection: &Connection, tier: Tier) -> Result<Self, StoreError> {
        let table = tier.layouts();
        let mut select =
            connection.prepare(&format!("SELECT id, device, series FROM {table} ORDER BY id"))?;
        let mut rows = select.query([])?;
        let mut layouts = Vec::new();
        while let Some(row) = rows.next()? {
            let id = u16::try_from(row.get::<_, i64>(0)?);
            let device = DeviceId::new(row.get_ref(1)?.as_str().unwrap_or_default());
            let series = serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default());
            let (Ok(id), Some(device), Ok(series)) = (id, device, series) else { continue };
            let series: Vec<Value> = series;
            let (columns, bases) = series.iter().map(column).unzip();
            layouts.push(Layout { id, device, columns, bases });
        }
        Ok(Layouts { tier, list: layouts })
    }

    /// Visits every row since `oldest` in order.
    pub(super) fn for_each_row(
        &self,
        connection: &Connection,
        oldest: Millis,
        visit: &mut dyn FnMut(&DeviceId, &HistoryRow),
    ) -> Result<(), StoreError> {
        let table = self.tier.rows();
        let sql = format!("SELECT id, samples FROM {table} WHERE id >= ?1 ORDER BY id");
        let mut select = connection.prepare(&sql)?;
        let mut rows = select.query([first_key(oldest)])?;
        while let Some(row) = rows.next()? {
            let samples = row.get_ref(1)?.as_str().unwrap_or_default();
            if let Some((device, row)) = self.decode(row.get(0)?, samples) {
                visit(device, &row);
            }
        }
        Ok(())
    }

    /// Adds or replaces the row of a battery.
    pub(super) fn insert(
        &mut self,
        connection: &Connection,
        device: &DeviceId,
        row: &HistoryRow,
    ) -> Result<(), StoreError> {
        let known = self.list.iter().rev().find(|layout| layout.device == *device);
        let fitting = known.and_then(|layout| Some((layout.id, layout.encode(&row.samples)?)));
        let (layout, text) = match fitting {
            Some(fitting) => fitting,
            None => self.add(connection, device, &row.samples)?,
        };
        connection.execute(
            &format!("INSERT OR REPLACE INTO {} VALUES (?1, ?2)", self.tier.rows()),
            params![first_key(row.time) | i64::from(layout), text],
        )?;
        Ok(())
    }

    /// A layout with the columns of the previous one and the new ones, and the samples in it.
    fn add(
        &mut self,
        connection: &Connection,
        device: &DeviceId,
        samples: &[Sample],
    ) -> Result<(u16, String), StoreError> {
        let previous = self.list.iter().rev().find(|layout| layout.device == *device);
        let kept = previous.map_or(Vec::new(), Layout::known_columns);
        let is_new = |key: &EntryKey| kept.iter().all(|(known, _)| known != key);
        let new = samples.iter().map(|(key, spread)| (*key, spread.mean));
        let new: Vec<_> = new.filter(|(key, _)| is_new(key)).collect();
        let columns: Vec<(EntryKey, i64)> = kept.into_iter().chain(new).collect();
        let series: Vec<Value> = columns.iter().map(|(key, base)| series(*key, *base)).collect();
        connection.execute(
            &format!("INSERT INTO {} (device, series) VALUES (?1, ?2)", self.tier.layouts()),
            params![device.as_str(), json!(series).to_string()],
        )?;
        let id = u16::try_from(connection.last_insert_rowid())
            .map_err(|_| StoreError::Foreign("it contains too many layouts".to_owned()))?;
        let (columns, bases) = columns.into_iter().map(|(key, base)| (Some(key), base)).unzip();
        let layout = Layout { id, device: device.clone(), columns, bases };
        let text = layout.encode(samples).unwrap_or_default();
        self.list.push(layout);
        Ok((id, text))
    }

    /// The battery and the time of a row; `None` without its layout.
    fn decode(&self, id: i64, text: &str) -> Option<(&DeviceId, HistoryRow)> {
        let number = u16::try_from(id & i64::from(u16::MAX)).ok()?;
        let layout = self.list.iter().find(|layout| layout.id == number)?;
        let numbers: Vec<Option<i64>> = serde_json::from_str(text).ok()?;
        let values = numbers.chunks_exact(3).zip(&layout.bases);
        let values = values.map(|(numbers, base)| {
            let [Some(mean), Some(below), Some(above)] = *numbers else { return None };
            // Wraps: anyone may have written the file.
            let mean = mean.wrapping_add(*base);
            Some(Spread { low: mean.wrapping_sub(below), mean, high: mean.wrapping_add(above) })
        });
        let samples = layout.columns.iter().zip(values);
        let samples = samples.filter_map(|(key, spread)| Some(((*key)?, spread?))).collect();
        let time = Millis((id >> LAYOUT_BITS).unsigned_abs());
        Some((&layout.device, HistoryRow { time, samples }))
    }
}

impl Layout {
    fn known_columns(&self) -> Vec<(EntryKey, i64)> {
        let columns = self.columns.iter().zip(&self.bases);
        columns.filter_map(|(key, base)| Some(((*key)?, *base))).collect()
    }

    /// Mean, and the distances of the lowest and highest value from it, for each column. `None` if a sample has no
    /// column.
    fn encode(&self, samples: &[Sample]) -> Option<String> {
        let columns: Option<Vec<EntryKey>> = self.columns.iter().copied().collect();
        let mut text = String::from("[");
        for (value, base) in arrange(&columns?, samples)?.iter().zip(&self.bases) {
            // Writing to a string cannot fail.
            let _ = match value {
                Some(Spread { low, mean, high }) => {
                    let (below, above) = (mean.wrapping_sub(*low), high.wrapping_sub(*mean));
                    write!(text, "{},{below},{above},", mean.wrapping_sub(*base))
                }
                None => write!(text, "null,0,0,"),
            };
        }
        if text.ends_with(',') {
            text.pop();
        }
        text.push(']');
        Some(text)
    }
}

/// The lowest key that a row of this time can have.
pub(super) fn first_key(time: Millis) -> i64 {
    let latest = i64::MAX >> LAYOUT_BITS;
    i64::try_from(time.0).unwrap_or(latest).min(latest) << LAYOUT_BITS
}

/// The time of the row with this key.
pub(super) fn time(key: i64) -> Millis {
    Millis((key >> LAYOUT_BITS).unsigned_abs())
}

fn series(key: EntryKey, base: i64) -> Value {
    json!([key.to_string(), key.quantity().kind.unit().unwrap_or_default(), divisor(key), base])
}

fn column(series: &Value) -> (Option<EntryKey>, i64) {
    let number = |index| series.get(index).and_then(Value::as_i64);
    let key = series.get(0).and_then(Value::as_str).and_then(EntryKey::parse);
    let base = number(3);
    (key.filter(|key| divisor(*key) == number(2) && base.is_some()), base.unwrap_or_default())
}

/// Values in the file are divided by it. `None`: more decimals than fit.
pub(super) fn divisor(key: EntryKey) -> Option<i64> {
    10_i64.checked_pow(key.quantity().kind.decimals().into())
}

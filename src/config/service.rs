//! Settings of the program itself: own alarm limits, history, log.

use std::time::Duration;

use super::fault::Findings;
use super::values::Values;
use super::variables::{
    ALARM_CELL_DELTA, ALARM_CELL_HIGH, ALARM_CELL_LOW, ALARM_SOC_LOW, ALARM_TEMP_HIGH,
    ALARM_TEMP_LOW, DEBUG_MODE, HISTORY_FILE, HISTORY_HOURS, LOG_FORMAT, LOG_LEVEL, RUST_LOG,
};
use crate::model::AlarmThresholds;
use crate::model::units::{CentiPercent, DeciCelsius, Millivolts};

/// How much of the past is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// How far back it goes.
    pub span: Duration,
    /// Where it is kept over a restart; `None`: in memory only.
    pub file: Option<String>,
}

/// How much is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter in the words of `RUST_LOG`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}

pub(super) fn thresholds(values: &Values, findings: &mut Findings) -> AlarmThresholds {
    let thresholds = AlarmThresholds {
        cell_low: values.number(&ALARM_CELL_LOW).map(Millivolts),
        cell_high: values.number(&ALARM_CELL_HIGH).map(Millivolts),
        cell_delta: values.number(&ALARM_CELL_DELTA).map(Millivolts),
        temp_high: values.number(&ALARM_TEMP_HIGH).map(DeciCelsius),
        temp_low: values.number(&ALARM_TEMP_LOW).map(DeciCelsius),
        soc_low: values.number(&ALARM_SOC_LOW).map(CentiPercent),
    };
    // An unset limit compares as smaller than any other, so only two that are set can cross.
    for (crossed, low, high) in [
        (
            thresholds.cell_high.is_some() && thresholds.cell_low >= thresholds.cell_high,
            &ALARM_CELL_LOW,
            &ALARM_CELL_HIGH,
        ),
        (
            thresholds.temp_high.is_some() && thresholds.temp_low >= thresholds.temp_high,
            &ALARM_TEMP_LOW,
            &ALARM_TEMP_HIGH,
        ),
    ] {
        if crossed {
            let limit = values.text(high).unwrap_or_default();
            let allowed = format!("less than {} ({limit})", values.name(high));
            findings.fault(values.fault(low, allowed));
        }
    }
    thresholds
}

pub(super) fn history(values: &Values) -> History {
    let hours: u64 = values.number(&HISTORY_HOURS).unwrap_or_default();
    History {
        span: Duration::from_secs(hours * 3600),
        file: values.given(&HISTORY_FILE).map(str::to_owned),
    }
}

pub(super) fn log(values: &Values) -> Log {
    let filter = match values.given(&RUST_LOG) {
        Some(filter) => filter.to_owned(),
        None => filter(values),
    };
    Log { filter, json: values.choice(&LOG_FORMAT) == Some("json") }
}

/// Our own level, and never more than warnings of the crates below us.
fn filter(values: &Values) -> String {
    let ours = match values.choice(&LOG_LEVEL) {
        Some("TRACE") => "trace",
        _ if values.switch(&DEBUG_MODE) => "debug",
        Some("ERROR") => "error",
        Some("WARNING" | "WARN") => "warn",
        Some("DEBUG") => "debug",
        _ => "info",
    };
    let others = if ours == "error" { "error" } else { "warn" };
    format!("{others},bms_reader={ours}")
}

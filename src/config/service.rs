//! Settings of the program itself: alarm thresholds, history, log.

use std::time::Duration;

use super::values::Values;
use super::variables::*;
use crate::model::units::{CentiPercent, DeciCelsius, Millivolts};
use crate::model::{AlarmThresholds, Secret, TimeZone};
use crate::supervisor::Supervisor;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySettings {
    /// How far back the history goes.
    pub span: Duration,
    /// Keeps it across restarts; `None`: in memory only.
    pub file: Option<String>,
    /// In which days begin and end.
    pub zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// In the syntax of `RUST_LOG`.
    pub filter: String,
    /// One JSON object per line instead of text.
    pub json: bool,
    /// Neither a level nor a filter is configured.
    pub is_default: bool,
}

pub(super) fn thresholds(values: &Values) -> AlarmThresholds {
    let thresholds = AlarmThresholds {
        cell_low: values.number(&ALARM_CELL_LOW).map(Millivolts),
        cell_high: values.number(&ALARM_CELL_HIGH).map(Millivolts),
        cell_delta: values.number(&ALARM_CELL_DELTA).map(Millivolts),
        temp_high: values.number(&ALARM_TEMP_HIGH).map(DeciCelsius),
        temp_low: values.number(&ALARM_TEMP_LOW).map(DeciCelsius),
        soc_low: values.number(&ALARM_SOC_LOW).map(CentiPercent),
    };
    for (low, high) in [(&ALARM_CELL_LOW, &ALARM_CELL_HIGH), (&ALARM_TEMP_LOW, &ALARM_TEMP_HIGH)] {
        let number = |variable| values.number::<i64>(variable);
        if number(low).zip(number(high)).is_some_and(|(low, high)| low >= high) {
            let threshold = values.value(high).unwrap_or_default();
            let allowed = format!("less than {} ({threshold})", values.name_of(high));
            values.reject(low, allowed);
        }
    }
    thresholds
}

pub(super) fn history(values: &Values, zone: TimeZone) -> HistorySettings {
    let hours: u64 = values.number(&HISTORY_HOURS).unwrap_or_default();
    HistorySettings {
        span: Duration::from_secs(hours * 3600),
        file: values.explicit(&HISTORY_FILE).map(str::to_owned),
        zone,
    }
}

/// The Supervisor of Home Assistant, where this program is an add-on.
pub(super) fn supervisor(values: &Values) -> Option<Supervisor> {
    let token = Secret::new(values.explicit(&SUPERVISOR_TOKEN)?);
    Some(Supervisor { url: values.value(&SUPERVISOR_API)?.to_owned(), token })
}

/// The filter of a level, in the syntax of `RUST_LOG`. Dependencies never log more than warnings.
pub fn log_filter(level: &str) -> String {
    let others = if level == "error" { "error" } else { "warn" };
    format!("{others},bms_reader={level}")
}

pub(super) fn log(values: &Values) -> LogSettings {
    let level = match values.choice(&LOG_LEVEL) {
        Some("TRACE") => "trace",
        _ if values.is_on(&DEBUG_MODE) => "debug",
        Some("ERROR") => "error",
        Some("WARNING" | "WARN") => "warn",
        Some("DEBUG") => "debug",
        _ => "info",
    };
    let filter = values.explicit(&RUST_LOG).map(str::to_owned);
    LogSettings {
        filter: filter.unwrap_or_else(|| log_filter(level)),
        json: values.choice(&LOG_FORMAT) == Some("json"),
        is_default: [&LOG_LEVEL, &RUST_LOG, &DEBUG_MODE].iter().all(|it| !values.is_set(it)),
    }
}

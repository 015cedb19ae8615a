//! Estimates the capacity from the charge that flows between full and empty.
//!
//! A run begins and ends where the state of charge changes: a battery that reports whole per cents has then reached
//! the next one, at both ends alike.

use super::reading::Pack;
use super::units::{CentiPercent, DeciCelsius, MilliampHours, Milliamps, Uptime, divide_rounded};

/// A run as numbers, which outlast a restart: state of charge and current of the last reading, duration, state of charge
/// at the start, charge, lowest state of charge (-1 without one) and the charge then, sum and count of temperatures.
pub type KeptRun = [i64; 9];

pub(super) const FULL: CentiPercent = CentiPercent(9800);
pub(super) const EMPTY: CentiPercent = CentiPercent(1500);
/// After a gap this long between two reads, nothing is known about the time between them. In milliseconds.
pub const MAX_GAP: u64 = 10 * 60_000;
/// The BMS has corrected its state of charge when it changes by more from one read to the next.
const MAX_STEP: u32 = 300;
/// A run is over when the state of charge has risen by this much.
const RISE: i32 = 200;
/// What sensors count wrong while next to no current flows adds up. In milliseconds.
const MAX_DURATION: u64 = 3 * 24 * 3_600_000;

#[derive(Debug, Clone, Default)]
pub(super) struct CapacityRun {
    last: Option<(Uptime, CentiPercent, Milliamps)>,
    /// Time from the last reading before a restart to the first one after it.
    gap: u64,
    run: Option<Run>,
}

#[derive(Debug, Clone)]
struct Run {
    /// Time between the readings that belong to it, in milliseconds.
    duration: u64,
    start: CentiPercent,
    /// Discharged so far, in milliamp-milliseconds.
    charge: i64,
    /// The lowest state of charge, and what was discharged then.
    lowest: Option<(CentiPercent, i64)>,
    temperatures: (i64, i64),
}

impl CapacityRun {
    /// The capacity and the mean temperature of a run that has ended.
    pub(super) fn update(
        &mut self,
        at: Uptime,
        pack: &Pack,
        temperature: Option<DeciCelsius>,
    ) -> Option<(MilliampHours, Option<DeciCelsius>)> {
        let (soc, current) = (pack.soc?, pack.current?);
        let (before, last_soc, last_current) = self.last.replace((at, soc, current))?;
        let elapsed = at.since(before) + std::mem::take(&mut self.gap);
        if elapsed > MAX_GAP || soc.0.abs_diff(last_soc.0) > MAX_STEP {
            self.run = None;
            return None;
        }
        if let Some(run) = &mut self.run {
            let twice = i64::from(last_current.0) + i64::from(current.0);
            run.duration += elapsed;
            run.charge -= twice * i64::try_from(elapsed).unwrap_or_default() / 2;
            if let Some(temperature) = temperature {
                run.temperatures.0 += i64::from(temperature.0);
                run.temperatures.1 += 1;
            }
        }
        if soc >= FULL {
            if soc < last_soc {
                let temperatures = (0, 0);
                self.run =
                    Some(Run { duration: 0, start: soc, charge: 0, lowest: None, temperatures });
            }
            if soc > last_soc {
                self.run = None;
            }
            return None;
        }
        let run = self.run.as_mut()?;
        if soc <= EMPTY && run.lowest.is_none_or(|(lowest, _)| soc < lowest) {
            run.lowest = Some((soc, run.charge));
        }
        let is_over = run.duration > MAX_DURATION
            || run.lowest.is_some_and(|(lowest, _)| soc.0 >= lowest.0 + RISE);
        if is_over { self.run.take()?.capacity() } else { None }
    }

    /// `None` without a run.
    pub(super) fn kept(&self) -> Option<KeptRun> {
        let ((_, soc, current), run) = (self.last?, self.run.as_ref()?);
        let (lowest, then) = run.lowest.map_or((-1, 0), |(lowest, then)| (lowest.0.into(), then));
        let (duration, start) = (i64::try_from(run.duration).ok()?, run.start.0.into());
        let (sum, count) = run.temperatures;
        Some([
            soc.0.into(),
            current.0.into(),
            duration,
            start,
            run.charge,
            lowest,
            then,
            sum,
            count,
        ])
    }

    /// Continues a run `gap` milliseconds after its last reading. Impossible numbers are no run.
    pub(super) fn restore(&mut self, kept: KeptRun, at: Uptime, gap: u64) {
        let [soc, current, duration, start, charge, lowest, then, sum, count] = kept;
        let is_possible = [soc, start].iter().all(|soc| (0..=10_000).contains(soc))
            && (-1..=10_000).contains(&lowest)
            && [charge, then, sum].iter().all(|sum| sum.abs() < 1 << 52)
            && (0..1 << 52).contains(&count);
        let (Ok(current), Ok(duration), true) =
            (i32::try_from(current), u64::try_from(duration), is_possible)
        else {
            return;
        };
        let percent = |soc: i64| CentiPercent(i32::try_from(soc).unwrap_or_default());
        self.last = Some((at, percent(soc), Milliamps(current)));
        self.gap = gap;
        self.run = Some(Run {
            duration: duration.min(MAX_DURATION),
            start: percent(start),
            charge,
            lowest: (lowest >= 0).then(|| (percent(lowest), then)),
            temperatures: (sum, count),
        });
    }
}

impl Run {
    fn capacity(&self) -> Option<(MilliampHours, Option<DeciCelsius>)> {
        let (lowest, charge) = self.lowest?;
        let share = i64::from(self.start.0 - lowest.0);
        // A milliamp-hour is 3,600,000 milliamp-milliseconds; the share has 10,000 parts.
        let capacity = MilliampHours(divide_rounded(charge / 360, share.max(1)));
        let (sum, count) = self.temperatures;
        let mean = (count > 0).then(|| i32::try_from(divide_rounded(sum, count)));
        let temperature = mean.and_then(Result::ok).map(DeciCelsius);
        (capacity.0 > 0).then_some((capacity, temperature))
    }
}

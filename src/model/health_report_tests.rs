use super::*;
use crate::model::cell_health::HealthMonitor;
use crate::model::cell_health::tests::{noise, snapshot};
use crate::model::units::Uptime;

const CELLS: usize = 8;
const FIRST: u32 = 20_000;

/// Days of a pack that rests at night, is full at noon and empty in the evening, read every two minutes. `cell`: its
/// difference to the others in millivolts, on each day.
fn days(count: u32, cell: impl Fn(usize, f64) -> f64) -> Vec<HealthDay> {
    let mut monitor = HealthMonitor::default();
    let mut days: Vec<HealthDay> = Vec::new();
    for minute in (0..u64::from(count) * 1440).step_by(2) {
        let (number, hour) = (minute / 1440, minute % 1440 / 60);
        let (soc, current) = match hour {
            0..6 => (6000, -800),
            6..12 => (8000, 30_000),
            12..14 => (9900, 1000),
            14..20 => (5000, -25_000),
            20..22 => (1200, -9000),
            _ => (4000, -6000),
        };
        let volts: Vec<i32> = (0..CELLS)
            .map(|n| {
                // Sensors resolve a millivolt, and scatter by a few.
                let scatter = noise(minute * 31 + n as u64) * 5.0 - 2.5;
                let daily = noise(number * 77 + n as u64) * 3.0 - 1.5;
                let volts = 3300.0 + cell(n, minute as f64 / 1440.0) + scatter + daily;
                volts.round() as i32
            })
            .collect();
        let Some(part) = monitor.observe(Uptime(minute * 60_000), &snapshot(soc, current, &volts))
        else {
            continue;
        };
        let number = FIRST + u32::try_from(number).unwrap();
        match days.last_mut().filter(|day| day.number == number) {
            Some(day) => day.add(&part),
            None => days.push(part.on(number)),
        }
    }
    days
}

fn report(days: &[HealthDay]) -> HealthReport {
    let today = days.last().map_or(FIRST, |day| day.number);
    HealthReport::new(days, today, true)
}

#[test]
fn drifting_cell_is_found() {
    // A hundredth of a volt below the others, and three millivolts more each month.
    let days = days(60, |n, day| if n == 6 { -10.0 - day * 3.0 / 30.4 } else { 0.0 });
    let report = report(&days);
    for (number, cell) in report.cells.iter().enumerate() {
        let drift = cell.drift.unwrap() as f64 / 10.0;
        // The mean that it is compared with moves with it.
        let expected = if number == 6 { -3.0 * 7.0 / 8.0 } else { 3.0 / 8.0 };
        assert!((drift - expected).abs() < 0.6, "cell {}: {drift} mV a month", number + 1);
        assert_eq!(cell.drifts, number == 6, "cell {}", number + 1);
    }
    let finding = report.finding;
    assert_eq!((finding.kind, finding.cell), (FindingKind::Drifts, Some(7)));
    let text = report.sentence();
    assert!(text.starts_with("Cell 7 drifts away from the others (-"), "{text}");
    assert_eq!(report.summary().weakest_cell, Some(7));
    let lowest: i64 = report.cells.iter().filter_map(|cell| cell.lowest).sum();
    assert!(report.cells[6].lowest.unwrap() > 900 && lowest <= 1001, "{lowest}");
}

#[test]
fn weak_cell_that_drifts_gets_worse() {
    let report = report(&days(40, |n, day| if n == 6 { -40.0 - day * 0.2 } else { 0.0 }));
    assert_eq!(report.finding.kind, FindingKind::Worse);
    let text = report.sentence();
    assert!(text.starts_with("Cell 7 drops first and is getting worse (-5."), "{text}");
}

#[test]
fn stable_noisy_pack_does_not_drift() {
    for shift in 0..5 {
        let report = report(&days(60, |n, day| {
            noise(shift * 1000 + day as u64 * 16 + n as u64) * 8.0 + n as f64
        }));
        assert!(report.cells.iter().all(|cell| cell.drift.is_some() && !cell.drifts));
        assert!(report.sentence().starts_with("Cells "), "{}", report.sentence());
    }
}

#[test]
fn drift_needs_two_weeks_and_a_sentence_three_days() {
    let days = days(16, |n, _| n as f64);
    let at = |count: usize| report(&days[..count]);
    assert_eq!(at(14).cells[0].drift, None);
    assert!(at(15).cells[0].drift.is_some());
    let text = at(2).sentence();
    let expected = "Not enough data yet: 2 of 3 days with the battery at rest, full or empty.";
    assert_eq!((text.as_str(), at(2).summary()), (expected, HealthSummary::default()));
    assert_eq!(at(3).finding.kind, FindingKind::Even);
    let empty = HealthReport::new(&[], FIRST, false);
    assert_eq!(empty.sentence(), "The battery does not report its cells.");
}

#[test]
fn sentence_follows_the_table() {
    let even = |n: usize, _: f64| n as f64;
    let at_the_top = |n: usize, _: f64| if n == 0 { 70.0 } else { 0.0 };
    let weak = |n: usize, _: f64| if n == 2 { -60.0 } else { 0.0 };
    for (days, begin) in [
        (days(5, even), "Cells are even ("),
        (days(5, at_the_top), "Cells differ by 7"),
        (days(5, weak), "Cell 3 drops first (5"),
    ] {
        let text = report(&days).sentence();
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("at full") || text.contains("at empty"), "{text}");
    }
}

/// Against sums over all days, in floating point.
#[test]
fn spread_agrees_with_an_independent_mean() {
    let days = days(40, |n, day| n as f64 * day / 20.0);
    let report = report(&days);
    for condition in Condition::ALL {
        let recent = &days[10..];
        let sum: f64 = recent.iter().map(|day| day.spread(condition) as f64).sum();
        let count: f64 = recent.iter().map(|day| day.samples(condition) as f64).sum();
        let found = report.spread[condition as usize].unwrap() as f64 / 10.0;
        assert!((found - sum / count).abs() <= 0.05, "{condition:?}: {found}, {}", sum / count);
    }
    let spread = report.spread[Condition::Full as usize].unwrap();
    let summary = report.summary().spread_full.unwrap();
    assert!((i64::from(summary.0) * 10 - spread).abs() <= 5);
    // What was observed while the clock was wrong does not count.
    let mut wrong = days.clone();
    wrong.push(days[0].clone().on(FIRST + 9000));
    assert_eq!(HealthReport::new(&wrong, FIRST + 39, true), report);
}

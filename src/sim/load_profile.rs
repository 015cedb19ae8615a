//! Load profile of a household with solar panels, and the ambient temperature.

use super::rng::hash_below;

const DAY: i64 = 86_400;

/// Time of day at which a simulation starts.
const MORNING: i64 = 10 * 3600;

/// All batteries share the kettle; with one each, some batteries of a bank would charge the others.
const KETTLE: u64 = 2;

/// The load is constant for this many seconds.
pub const BLOCK: i64 = 180;

/// Simulated time at which it is `of_day` (seconds after midnight) for the `days`-th time, to the
/// middle of a block.
pub fn time(days: u32, of_day: u32) -> f64 {
    let seconds = i64::from(days) * DAY + i64::from(of_day);
    (seconds / BLOCK * BLOCK + BLOCK / 2 - MORNING) as f64
}

/// Solar current minus load, in mA.
pub(super) fn current(seed: u64, since_start: i64) -> i64 {
    let seconds = MORNING + since_start;
    let of_day = seconds % DAY;
    sun(seed, seconds, of_day) - load(seed, seconds, of_day)
}

/// A parabola from 6:30 to 18:30, with drifting clouds.
fn sun(seed: u64, seconds: i64, of_day: i64) -> i64 {
    const PEAK: i64 = 24_000;
    const HALF_DAY: i64 = 6 * 3600;
    const CLOUD: i64 = 600;
    let from_noon = of_day - (12 * 3600 + 1800);
    if from_noon.abs() >= HALF_DAY {
        return 0;
    }
    let clear = PEAK - PEAK * from_noon * from_noon / (HALF_DAY * HALF_DAY);
    let brightness = |block: i64| 55 + hash_below(seed, 10_000 + block as u64, 46);
    let (block, within) = (seconds / CLOUD, seconds % CLOUD);
    let percent = brightness(block) * (CLOUD - within) + brightness(block + 1) * within;
    clear * percent / (100 * CLOUD)
}

/// No load at night, breakfast, a quiet day, a long evening, and an occasional kettle.
fn load(seed: u64, seconds: i64, of_day: i64) -> i64 {
    let base = match of_day / 1800 {
        0 | 11..=12 => 900,
        1..=10 => 0,
        13..=16 => 6_000,
        17..=34 => 2_200,
        35..=44 => 11_000,
        _ => 4_000,
    };
    let block = seconds / BLOCK;
    let varying = base * (85 + hash_below(seed, 20_000_000 + block as u64, 31)) / 100;
    let kettle = base > 2000 && hash_below(KETTLE, 40_000_000 + block as u64, 14) == 0;
    varying + if kettle { 26_000 } else { 0 }
}

/// 18 °C at 5:00, 26 °C at 15:00, in 0.1 °C.
pub(super) fn ambient(since_start: i64) -> i64 {
    let since_five = (MORNING + since_start - 5 * 3600).rem_euclid(DAY);
    let (rise, fall) = (10 * 3600, 14 * 3600);
    let part =
        if since_five < rise { since_five * 80 / rise } else { (DAY - since_five) * 80 / fall };
    180 + part
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    #[test]
    fn profile_follows_the_time_of_day() {
        for seed in 0..8 {
            assert_eq!(current(seed, 16 * HOUR), 0, "two at night");
            assert!(current(seed, 10 * HOUR) <= -9000, "eight in the evening");
            assert_eq!(sun(seed, 0, 6 * HOUR), 0);
            assert!(sun(seed, 0, 12 * HOUR) > 10_000);
        }
        assert_ne!(current(1, 2 * HOUR), current(1, 2 * HOUR + DAY), "no day is like another");
    }

    #[test]
    fn time_of_day_counts_from_ten_in_the_morning() {
        assert_eq!(time(0, 10 * 3600), 90.0);
        assert_eq!(time(2, 10 * 3600 + 179), 2.0 * DAY as f64 + 90.0);
        assert_eq!(time(1, 0), 14.0 * 3600.0 + 90.0);
    }

    #[test]
    fn kettle_is_shared_by_all_batteries() {
        let blocks = || (0..160).map(|block| 7 * 3600 + block * 180);
        let on = |seed, at| load(seed, at, at) > 26_000;
        assert!(blocks().any(|at| on(1, at)));
        for at in blocks() {
            assert_eq!(on(1, at), on(9, at), "at second {at}");
        }
    }

    #[test]
    fn ambient_has_its_extremes_at_five_and_fifteen() {
        assert_eq!(ambient(19 * HOUR), 180);
        assert_eq!(ambient(5 * HOUR), 260);
        assert_eq!(ambient(5 * HOUR + DAY), 260);
        assert_eq!(ambient(0), 220);
    }
}

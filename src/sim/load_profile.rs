//! The house round a simulated battery: sun, load and the warmth of the day.

use super::rng::hash_below;

const DAY: i64 = 86_400;

/// When a simulation begins.
const MORNING: i64 = 10 * 3600;

/// The kettle is one for all batteries: with one each, some of a bank would feed the others.
const KETTLE: u64 = 2;

/// Sun minus load so long after the start, in mA.
pub(super) fn current(seed: u64, since_start: i64) -> i64 {
    let seconds = MORNING + since_start;
    let of_day = seconds % DAY;
    sun(seed, seconds, of_day) - load(seed, seconds, of_day)
}

/// A parabola from half past six to half past six, with clouds that drift.
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

/// A household: nothing at night, breakfast, a quiet day, a long evening, and now and then a
/// kettle.
fn load(seed: u64, seconds: i64, of_day: i64) -> i64 {
    const BLOCK: i64 = 180;
    let base = match of_day / 1800 {
        0 | 11..=12 => 900,
        1..=10 => 0,
        13..=16 => 6_000,
        17..=34 => 2_200,
        35..=44 => 11_000,
        _ => 4_000,
    };
    let block = seconds / BLOCK;
    let wavering = base * (85 + hash_below(seed, 20_000_000 + block as u64, 31)) / 100;
    let kettle = base > 2000 && hash_below(KETTLE, 40_000_000 + block as u64, 14) == 0;
    wavering + if kettle { 26_000 } else { 0 }
}

/// The case follows the day: 18 °C at five in the morning, 26 °C at three in the afternoon, in 0.1 °C.
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
    fn the_day_begins_at_ten_and_goes_round() {
        for seed in 0..8 {
            assert_eq!(current(seed, 16 * HOUR), 0, "two at night");
            assert!(current(seed, 10 * HOUR) <= -9000, "eight in the evening");
            assert_eq!(sun(seed, 0, 6 * HOUR), 0);
            assert!(sun(seed, 0, 12 * HOUR) > 10_000);
        }
        assert_ne!(current(1, 2 * HOUR), current(1, 2 * HOUR + DAY), "no day is like another");
    }

    #[test]
    fn the_kettle_is_on_for_all_batteries_or_for_none() {
        let blocks = || (0..160).map(|block| 7 * 3600 + block * 180);
        let on = |seed, at| load(seed, at, at) > 26_000;
        assert!(blocks().any(|at| on(1, at)));
        for at in blocks() {
            assert_eq!(on(1, at), on(9, at), "at second {at}");
        }
    }

    #[test]
    fn the_case_is_coldest_at_five_and_warmest_at_three() {
        assert_eq!(ambient(19 * HOUR), 180);
        assert_eq!(ambient(5 * HOUR), 260);
        assert_eq!(ambient(5 * HOUR + DAY), 260);
        assert_eq!(ambient(0), 220);
    }
}

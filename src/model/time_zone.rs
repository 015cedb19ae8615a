//! Local time: the rule of a time zone in the syntax of POSIX (`TZ`), and the names of the IANA
//! database, because the container image contains no database.

use super::units::{Millis, civil_date};

/// Made by `scripts/time-zones`. A line is a rule, a folder and the names of zones in it.
const ZONES: &str = include_str!("time_zones.txt");
const DAY: i64 = 86_400;

/// What a time zone does from now on; earlier rules are unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeZone {
    /// Seconds east of Greenwich.
    standard: i64,
    daylight: Option<Daylight>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Daylight {
    /// Seconds east of Greenwich.
    offset: i64,
    begin: Change,
    end: Change,
}

/// A weekday of a month, such as the last Sunday of March.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    month: i64,
    /// From 1; 5 is the last one of the month.
    week: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// Seconds after midnight in the time before the change; may be negative or beyond a day.
    time: i64,
}

/// Date and time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    pub month: u64,
    pub day: u64,
    /// Of the day.
    pub minute: u64,
}

impl TimeZone {
    /// From a name such as `Europe/Berlin`, or a rule such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub fn find(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(':');
        let (folder, name) = text.rsplit_once('/').unwrap_or((".", text));
        let named = ZONES.lines().find_map(|line| {
            let mut words = line.split(' ');
            let rule = words.next()?;
            (words.next()? == folder && words.any(|word| word == name)).then_some(rule)
        });
        TimeZone::parse(named.unwrap_or(text))
    }

    /// From a rule of POSIX, with the extensions of RFC 9636.
    pub fn parse(rule: &str) -> Option<Self> {
        let mut parts = rule.split(',');
        let names = parts.next()?;
        let (west, rest) = offset(skip_name(names)?)?;
        let standard = -west;
        if rest.is_empty() {
            return parts.next().is_none().then_some(TimeZone { standard, daylight: None });
        }
        let after = skip_name(rest)?;
        let daylight = match after.is_empty() {
            true => standard + 3600,
            false => -offset(after).filter(|(_, rest)| rest.is_empty())?.0,
        };
        let (begin, end) = (change(parts.next()?)?, change(parts.next()?)?);
        let daylight = Daylight { offset: daylight, begin, end };
        parts.next().is_none().then_some(TimeZone { standard, daylight: Some(daylight) })
    }

    /// Seconds east of Greenwich at this time, in seconds since 1970.
    fn offset_at(&self, time: i64) -> i64 {
        let Some(Daylight { offset, begin, end }) = self.daylight else { return self.standard };
        let days = u64::try_from((time + self.standard) / DAY).unwrap_or_default();
        let year = i64::try_from(civil_date(days).0).unwrap_or_default();
        let (begin, end) = (begin.at(year) - self.standard, end.at(year) - offset);
        let is_daylight = match begin < end {
            true => (begin..end).contains(&time),
            false => !(end..begin).contains(&time),
        };
        if is_daylight { offset } else { self.standard }
    }

    pub fn local(&self, time: Millis) -> LocalTime {
        let local = self.local_seconds(time);
        let days = u64::try_from(local / DAY).unwrap_or_default();
        let minute = u64::try_from(local % DAY / 60).unwrap_or_default();
        let (_, month, day) = civil_date(days);
        LocalTime { month, day, minute }
    }

    fn local_seconds(&self, time: Millis) -> i64 {
        let seconds = i64::try_from(time.0 / 1000).unwrap_or_default();
        seconds + self.offset_at(seconds)
    }

    /// The number of the local day, 0 for 1970-01-01, and when it begins. Days have 23 to 25 hours.
    pub fn day(&self, time: Millis) -> (u32, Millis) {
        let number = self.local_seconds(time).div_euclid(DAY);
        let midnight = self.time_of(number * DAY);
        // Where daylight saving time skips midnight, the day begins later.
        let skipped = number * DAY - self.local_seconds(midnight);
        let midnight = Millis(midnight.0.saturating_add_signed(skipped * 1000));
        (u32::try_from(number).unwrap_or_default(), midnight)
    }

    /// The time at this many local seconds since 1970.
    fn time_of(&self, local: i64) -> Millis {
        let time = local - self.offset_at(local - self.standard);
        Millis(u64::try_from(time).unwrap_or_default() * 1000)
    }

    /// The next time of this minute of the day. Where daylight saving time skips it, the time an hour
    /// later or earlier; where it repeats it, one of both.
    pub fn next(&self, after: Millis, minute: u16) -> Millis {
        let today = self.local_seconds(after) / DAY;
        let at = |day: i64| self.time_of(day * DAY + i64::from(minute) * 60);
        (today..).map(at).find(|time| *time > after).unwrap_or(after)
    }
}

/// What follows the abbreviation of a zone, at least three letters, or others in `<>`.
fn skip_name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        return quoted.split_once('>').map(|(_, rest)| rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (end >= 3).then(|| &text[end..])
}

/// Seconds from `[+-]hh[:mm[:ss]]`, and the rest.
fn offset(text: &str) -> Option<(i64, &str)> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let end = unsigned.find(|c: char| !(c.is_ascii_digit() || c == ':')).unwrap_or(unsigned.len());
    let (number, rest) = unsigned.split_at(end);
    let mut seconds = 0;
    for (part, unit) in number.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i64>().ok().filter(|part| *part <= 167)? * unit;
    }
    let is_short = text.len() - unsigned.len() <= 1 && number.split(':').count() <= 3;
    is_short.then_some((if text.starts_with('-') { -seconds } else { seconds }, rest))
}

/// `Mm.w.d[/time]`. No zone of the database has a change of another form.
fn change(text: &str) -> Option<Change> {
    let (date, time) = match text.split_once('/') {
        Some((date, time)) => (date, offset(time).filter(|(_, rest)| rest.is_empty())?.0),
        None => (text, 2 * 3600),
    };
    let mut numbers = date.strip_prefix('M')?.split('.').map(|text| text.parse::<i64>().ok());
    let (month, week, weekday) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let is_valid =
        (1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday);
    (is_valid && numbers.next().is_none()).then_some(Change { month, week, weekday, time })
}

impl Change {
    /// In seconds since 1970, local time before the change.
    fn at(&self, year: i64) -> i64 {
        let first = days_since_1970(year, self.month);
        let next_month = days_since_1970(year + self.month / 12, self.month % 12 + 1);
        // 1970 began with a Thursday.
        let first_weekday = (first + 4).rem_euclid(7);
        let day = first + (self.weekday - first_weekday).rem_euclid(7) + (self.week - 1) * 7;
        let day = if day >= next_month { day - 7 } else { day };
        day * DAY + self.time
    }
}

/// Of the first day of this month; the reverse of [`civil_date`].
fn days_since_1970(year: i64, month: i64) -> i64 {
    let (year, month_from_march) = (year - i64::from(month <= 2), (month + 9) % 12);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> TimeZone {
        TimeZone::find(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn seconds(iso: &str) -> i64 {
        let number =
            |range| iso.get(range).and_then(|text: &str| text.parse::<i64>().ok()).unwrap();
        let days = days_since_1970(number(0..4), number(5..7)) + number(8..10) - 1;
        days * DAY + number(11..13) * 3600 + number(14..16) * 60
    }

    fn time(iso: &str) -> Millis {
        Millis(u64::try_from(seconds(iso)).unwrap() * 1000)
    }

    #[test]
    fn every_zone_of_the_table_has_a_rule() {
        let mut count = 0;
        for line in ZONES.lines() {
            let rule = line.split(' ').next().unwrap();
            assert!(TimeZone::parse(rule).is_some(), "{line}");
            count += line.split(' ').count() - 2;
        }
        assert!(count > 550, "{count}");
        for wrong in [
            "",
            "Europe/Nowhere",
            "Mars",
            "CET",
            "CE-1",
            "CET-1CEST",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M13.5.0,M10.5.0",
            "CET-1CEST,J60,J300",
            "UTC0,M3.5.0",
            "CET--1",
            "CET-1:0:0:0",
        ] {
            assert_eq!(TimeZone::parse(wrong), None, "{wrong}");
        }
        assert_eq!(TimeZone::find("Europe/Nowhere"), None);
    }

    /// The expected values are those of the IANA database.
    #[test]
    fn offset_follows_daylight_saving_time() {
        for (name, utc, hours) in [
            ("Europe/Berlin", "2026-03-29T00:59", 1.0),
            ("Europe/Berlin", "2026-03-29T01:00", 2.0),
            ("Europe/Berlin", "2026-10-25T00:59", 2.0),
            ("Europe/Berlin", "2026-10-25T01:00", 1.0),
            (":Europe/Berlin", "2026-07-01T00:00", 2.0),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-07-01T00:00", 2.0),
            // Its winter time is the one that is saved.
            ("Europe/Dublin", "2026-01-01T00:00", 0.0),
            ("Europe/Dublin", "2026-07-01T00:00", 1.0),
            ("America/New_York", "2026-03-08T06:59", -5.0),
            ("America/New_York", "2026-03-08T07:00", -4.0),
            ("America/Nuuk", "2026-03-29T00:59", -2.0),
            ("America/Nuuk", "2026-03-29T01:00", -1.0),
            ("Australia/Sydney", "2026-01-01T00:00", 11.0),
            ("Australia/Sydney", "2026-07-01T00:00", 10.0),
            ("Australia/Lord_Howe", "2026-07-01T00:00", 10.5),
            ("Asia/Kathmandu", "2026-07-01T00:00", 5.75),
            ("America/Argentina/Buenos_Aires", "2026-07-01T00:00", -3.0),
            ("UTC", "2026-07-01T00:00", 0.0),
        ] {
            let offset = zone(name).offset_at(seconds(utc));
            assert_eq!(offset as f64 / 3600.0, hours, "{name} {utc}");
        }
    }

    #[test]
    fn next_time_of_day_is_once_a_day() {
        let berlin = zone("Europe/Berlin");
        let mut at = time("2026-03-27T12:00");
        // The second day skips 02:30, and October repeats it.
        for (start, minute, expected) in [
            (at, 150, ["2026-03-28T01:30", "2026-03-29T00:30", "2026-03-30T00:30"]),
            (
                time("2026-10-24T12:00"),
                150,
                ["2026-10-25T01:30", "2026-10-26T01:30", "2026-10-27T01:30"],
            ),
            (at, 0, ["2026-03-27T23:00", "2026-03-28T23:00", "2026-03-29T22:00"]),
            (at, 1439, ["2026-03-27T22:59", "2026-03-28T22:59", "2026-03-29T21:59"]),
        ] {
            at = start;
            for utc in expected {
                at = berlin.next(at, minute);
                assert_eq!(at.iso8601()[..16], *utc, "{minute}");
            }
        }
    }

    #[test]
    fn day_begins_at_local_midnight() {
        for (name, utc, begin, hours) in [
            ("Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", 23),
            ("Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", 25),
            ("Europe/Berlin", "2026-07-01T21:59", "2026-06-30T22:00", 24),
            ("America/New_York", "2026-11-01T04:30", "2026-11-01T04:00", 25),
            // Midnight is skipped.
            ("Asia/Beirut", "2026-03-29T12:00", "2026-03-28T22:00", 23),
        ] {
            let zone = zone(name);
            let (number, midnight) = zone.day(time(utc));
            assert_eq!(midnight, time(begin), "{name} {utc}");
            let last = Millis(midnight.0 + hours * 3_600_000 - 1);
            assert_eq!(zone.day(last), (number, midnight), "{name} {utc}");
            assert_eq!(zone.day(Millis(last.0 + 1)).0, number + 1, "{name} {utc}");
            assert_eq!(zone.day(Millis(midnight.0 - 1)).0, number - 1, "{name} {utc}");
        }
    }

    #[test]
    fn local_time_may_be_on_another_day() {
        let local = |name: &str| zone(name).local(time("2026-12-31T23:30"));
        assert_eq!(local("Europe/Berlin"), LocalTime { month: 1, day: 1, minute: 30 });
        assert_eq!(
            local("America/New_York"),
            LocalTime { month: 12, day: 31, minute: 18 * 60 + 30 }
        );
    }
}

//! Finds the known name that a misspelt one probably stands for.

use std::cmp::Reverse;

/// Longer names are cut, so that a huge one costs nothing.
const MAX_COMPARED: usize = 64;

/// Words that most names contain.
const COMMON: [&str; 3] = ["bms", "mqtt", "file"];

/// A shorter prefix is a coincidence: `bar` is not meant as `barcode`.
const MIN_PREFIX: usize = 4;

/// The closest known name, ignoring case, and the number of typing errors in between. The name
/// with most shared words wins, then the one with the fewest errors. `None` when none is close.
pub fn closest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    let name: String = name.chars().take(MAX_COMPARED).collect::<String>().to_lowercase();
    let letters: usize = words(&name).map(|word| word.chars().count()).sum();
    let ranked = known.into_iter().filter_map(|known| {
        let shared = shared_words(&name, known);
        // With more than a third of the letters wrong, it is another word.
        let most = if shared > 0 { MAX_COMPARED } else { letters.div_ceil(3) };
        Some((shared, distance(&name, known, most)?, known))
    });
    let closest = ranked.min_by_key(|(shared, errors, _)| (Reverse(*shared), *errors));
    closest.map(|(_, errors, known)| (known, errors))
}

/// Words of `name` that `known` contains too, in full or as a prefix.
fn shared_words(name: &str, known: &str) -> usize {
    let known = known.to_lowercase();
    let is_prefix = |short: &str, long: &str| short.len() >= MIN_PREFIX && long.starts_with(short);
    let same =
        |one: &str, other: &str| one == other || is_prefix(one, other) || is_prefix(other, one);
    words(name).filter(|word| words(&known).any(|other| same(word, other))).count()
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['_', '-']).filter(|word| !word.is_empty() && !COMMON.contains(word))
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment); `None`
/// if there are more than `most`.
fn distance(left: &str, right: &str, most: usize) -> Option<usize> {
    let letters = |text: &str| {
        text.chars().take(MAX_COMPARED).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let (left, right) = (letters(left), letters(right));
    if left.len().abs_diff(right.len()) > most {
        return None;
    }
    // row[j]: distance between the first i letters of `left` and the first j of `right`.
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut row = last.clone();
    for i in 1..=left.len() {
        row[0] = i;
        for j in 1..=right.len() {
            let replaced = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        // Each later number is derived from these two rows and is no smaller.
        if row.iter().chain(&last).all(|errors| *errors > most) {
            return None;
        }
        (before, last, row) = (last, row, before);
    }
    Some(last[right.len()]).filter(|errors| *errors <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_typing_error_counts_once() {
        assert_eq!(distance("port", "PORT", 4), Some(0));
        assert_eq!(distance("pord", "port", 4), Some(1));
        assert_eq!(distance("prot", "port", 4), Some(1));
        assert_eq!(distance("pot", "port", 4), Some(1));
        assert_eq!(distance("poort", "port", 4), Some(1));
        assert_eq!(distance("", "port", 4), Some(4));
        assert_eq!(distance("port", "", 4), Some(4));
    }

    #[test]
    fn more_errors_than_allowed_are_not_counted() {
        for (name, errors) in [("port", 0), ("pord", 1), ("prot", 1), ("ropt", 2), ("mqtt", 3)] {
            for most in 0..5 {
                let counted = distance(name, "port", most);
                assert_eq!(counted, (errors <= most).then_some(errors), "{name}, {most}");
            }
        }
    }

    #[test]
    fn closest_name_wins() {
        let names = ["MQTT_HOST", "MQTT_PORT", "MQTT_USER"];
        assert_eq!(closest("mqtt_hsot", names), Some(("MQTT_HOST", 1)));
        assert_eq!(closest("MQTT_USERS", names), Some(("MQTT_USER", 1)));
        assert_eq!(closest("x", []), None);
    }

    #[test]
    fn shared_word_counts_more_than_letters() {
        let names = ["MQTT_HOST", "MQTT_BASE_TOPIC", "MQTT_PORT", "MQTT_PASSWORD"];
        let name = |name| closest(name, names).map(|(near, _)| near);
        assert_eq!(name("MQTT_TOPIC"), Some("MQTT_BASE_TOPIC"));
        assert_eq!(name("MQTT_PASS"), Some("MQTT_PASSWORD"));
        assert_eq!(name("MQTT_HOSTNAME"), Some("MQTT_HOST"));
    }

    #[test]
    fn distant_names_are_not_suggested() {
        let name = |name| closest(name, ["BMS_PORT", "BMS_BARCODE", "history_file", "name"]);
        for far in ["BMS_FOO_BAR", "unknown_thing", "enabled", "BMS_", "x"] {
            assert_eq!(name(far), None, "{far}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_name_is_compared() {
        assert_eq!(distance(&"x".repeat(1_000_000), "", MAX_COMPARED), Some(MAX_COMPARED));
    }
}

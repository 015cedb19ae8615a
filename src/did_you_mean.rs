//! Which known name did somebody mean who wrote an unknown one?

use std::cmp::Reverse;

/// Longer words are compared by their beginning only, so that a huge name costs nothing.
const COMPARED: usize = 64;

/// Parts of so many names that sharing them says nothing.
const COMMON: [&str; 3] = ["bms", "mqtt", "file"];

/// Shorter beginnings of a word are chance: `bar` is no `barcode`.
const SHORTEST_BEGINNING: usize = 4;

/// The name that was probably meant, ignoring case, and how many typing errors lie between. The
/// one that shares most words counts, of several the closest; where nothing is close, none.
pub fn closest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    let name: String = name.chars().take(COMPARED).collect::<String>().to_lowercase();
    let ranked =
        known.into_iter().map(|known| (shared(&name, known), distance(&name, known), known));
    let (shared, errors, known) =
        ranked.min_by_key(|(shared, errors, _)| (Reverse(*shared), *errors))?;
    let letters: usize = words(&name).map(|word| word.chars().count()).sum();
    // With more than a third of its letters wrong it is another word.
    (shared > 0 || errors <= letters.div_ceil(3)).then_some((known, errors))
}

/// How many words of the one stand in the other, too, whole or as a beginning.
fn shared(name: &str, known: &str) -> usize {
    let known = known.to_lowercase();
    let begins =
        |long: &str, short: &str| short.len() >= SHORTEST_BEGINNING && long.starts_with(short);
    let same = |one: &str, other: &str| one == other || begins(one, other) || begins(other, one);
    words(name).filter(|word| words(&known).any(|other| same(word, other))).count()
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['_', '-']).filter(|word| !word.is_empty() && !COMMON.contains(word))
}

/// Letters to insert, drop, replace or swap with their neighbour (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let letters = |text: &str| {
        text.chars().take(COMPARED).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let (left, right) = (letters(left), letters(right));
    // rows[i][j]: distance between the first i letters of the one and the first j of the other.
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_typing_error_counts_once() {
        assert_eq!(distance("port", "PORT"), 0);
        assert_eq!(distance("pord", "port"), 1);
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("pot", "port"), 1);
        assert_eq!(distance("poort", "port"), 1);
        assert_eq!(distance("", "port"), 4);
        assert_eq!(distance("port", ""), 4);
    }

    #[test]
    fn the_closest_name_wins() {
        let names = ["MQTT_HOST", "MQTT_PORT", "MQTT_USER"];
        assert_eq!(closest("mqtt_hsot", names), Some(("MQTT_HOST", 1)));
        assert_eq!(closest("MQTT_USERS", names), Some(("MQTT_USER", 1)));
        assert_eq!(closest("x", []), None);
    }

    #[test]
    fn a_shared_word_counts_more_than_letters() {
        let names = ["MQTT_HOST", "MQTT_BASE_TOPIC", "MQTT_PORT", "MQTT_PASSWORD"];
        let name = |name| closest(name, names).map(|(near, _)| near);
        assert_eq!(name("MQTT_TOPIC"), Some("MQTT_BASE_TOPIC"));
        assert_eq!(name("MQTT_PASS"), Some("MQTT_PASSWORD"));
        assert_eq!(name("MQTT_HOSTNAME"), Some("MQTT_HOST"));
    }

    #[test]
    fn nothing_is_named_that_is_far_away() {
        let name = |name| closest(name, ["BMS_PORT", "BMS_BARCODE", "history_file", "name"]);
        for far in ["BMS_FOO_BAR", "unknown_thing", "enabled", "BMS_", "x"] {
            assert_eq!(name(far), None, "{far}");
        }
    }

    #[test]
    fn a_huge_word_is_compared_by_its_beginning() {
        assert_eq!(distance(&"x".repeat(1_000_000), ""), COMPARED);
    }
}

//! Which known name did somebody mean who wrote an unknown one?

/// Longer words are compared by their beginning only, so that a huge name costs nothing.
const COMPARED: usize = 64;

/// The name that is closest to `word`, ignoring case, and how many typing errors lie between.
pub fn nearest<'a>(
    word: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    names.into_iter().map(|name| (name, distance(word, name))).min_by_key(|(_, distance)| *distance)
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
        assert_eq!(nearest("mqtt_hsot", names), Some(("MQTT_HOST", 1)));
        assert_eq!(nearest("MQTT_USERS", names), Some(("MQTT_USER", 1)));
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_huge_word_is_compared_by_its_beginning() {
        assert_eq!(distance(&"x".repeat(1_000_000), ""), COMPARED);
    }
}

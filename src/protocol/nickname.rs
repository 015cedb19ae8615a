//! Other names of brands, which people try as the type.

use super::{drivers, profiles};

/// The beginning of a name without blanks and signs, and the type that it stands for.
const NICKNAMES: [(&str, &str); 16] = [
    ("antbms", "ant"),
    ("dalysmart", "daly"),
    ("jiabaida", "jbd"),
    ("jikong", "jk"),
    ("jkpb", "jk"),
    ("liontron", "jbd"),
    ("lltpower", "jbd"),
    ("overkill", "jbd"),
    ("sc0500", "pylontech-sc0500"),
    ("seplosv2", "seplos"),
    ("up5000", "pylontech"),
    ("us2000", "pylontech"),
    ("us3000", "pylontech"),
    ("us5000", "pylontech"),
    ("xiaoxiang", "jbd"),
    ("xxbms", "jbd"),
];

/// Words that say nothing about the brand.
const FILLERS: [&str; 4] = ["bms", "battery", "akku", "lifepo4"];

/// The type that people mean by this name of a brand, an app or a series.
pub fn nickname(name: &str) -> Option<&'static str> {
    let letters = letters(name);
    let core = core(&letters);
    if core.is_empty() {
        return None;
    }
    let is_name = |known: &str| core == self::core(&self::letters(known));
    let by_name = || drivers().iter().find(|info| is_name(info.name) || is_name(info.title));
    let table = NICKNAMES.iter().find(|(nickname, _)| letters.starts_with(nickname));
    let by_brand = || drivers().iter().find(|info| profiles::brands(info).any(is_name));
    by_name()
        .map(|info| info.name)
        .or(table.map(|(_, name)| *name))
        .or_else(|| by_brand().map(|info| info.name))
}

fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The letters without a filler at either end.
fn core(letters: &str) -> &str {
    let mut core = letters;
    for filler in FILLERS {
        core = core.strip_suffix(filler).unwrap_or(core);
        core = core.strip_prefix(filler).unwrap_or(core);
    }
    core
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::find;

    #[test]
    fn nicknames_lead_to_their_type() {
        for (name, expected) in [
            ("xiaoxiang", Some("jbd")),
            ("jkbms", Some("jk")),
            ("JK-BMS", Some("jk")),
            ("Daly BMS", Some("daly")),
            ("US2000C", Some("pylontech")),
            ("LiTime", Some("litime")),
            ("Redodo", Some("litime")),
            ("Sok", Some("abc")),
            ("Seplos V3", Some("seplos-v3")),
            ("bms", None),
            ("nonsense", None),
        ] {
            assert_eq!(nickname(name), expected, "{name}");
        }
    }

    #[test]
    fn every_nickname_stands_for_a_type() {
        for (name, meant) in NICKNAMES {
            assert!(find(meant).is_some(), "{name}: {meant}");
            assert_eq!(letters(name), name);
        }
    }
}

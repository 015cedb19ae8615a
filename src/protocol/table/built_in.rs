//! The texts of the profiles in the program.

/// Name and text of each.
pub static TEXTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/brands.rs"));

pub fn names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

pub fn text(name: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

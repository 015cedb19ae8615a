//! The brands that are data: those in the program, and those of the user.

use std::sync::OnceLock;

use super::info::DriverInfo;
use super::table::load;

/// Name and text of each profile in the program.
static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/brands.rs"));

/// Profiles of the user, which replace those of the same name.
static OWN: OnceLock<Vec<&'static DriverInfo>> = OnceLock::new();

/// The names of the profiles in the program.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The text of a profile in the program.
pub fn text(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The brand of a profile in the program, which is read when it is used for the first time.
pub fn built_in(name: &str) -> Option<&'static DriverInfo> {
    static READ: [OnceLock<Option<&'static DriverInfo>>; BUILT_IN.len()] =
        [const { OnceLock::new() }; BUILT_IN.len()];
    let at = BUILT_IN.iter().position(|(known, _)| *known == name)?;
    *READ[at].get_or_init(|| load::parse(BUILT_IN[at].1).ok().map(load::info))
}

/// The profiles of the user.
pub fn own() -> &'static [&'static DriverInfo] {
    OWN.get().map_or(&[], Vec::as_slice)
}

/// Adds the profiles of the user, before any brand is looked up; later ones are ignored.
pub fn add(profiles: Vec<&'static DriverInfo>) {
    let _ = OWN.set(profiles);
}

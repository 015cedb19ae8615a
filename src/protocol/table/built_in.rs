//! The texts of the profiles in the program, which `build.rs` packs.

use std::ops::Range;

use crate::lz4::unpack;

/// Name of each, and its place in the text of all.
pub static PROFILES: &[(&str, Range<usize>)] = include!(concat!(env!("OUT_DIR"), "/brands.rs"));

pub fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// Unpacked each time: all texts together take 0.2 MB, and most processes need one or none.
pub fn text(name: &str) -> Option<String> {
    static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/brands.lz4"));
    let (_, place) = PROFILES.iter().find(|(known, _)| *known == name)?;
    let bytes = unpack(PACKED, place.end);
    String::from_utf8(bytes.get(place.clone())?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_profiles_equal_their_files() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/protocol/brands");
        let files = std::fs::read_dir(folder).unwrap();
        assert_eq!(files.count(), PROFILES.len());
        for name in names() {
            let file = std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap();
            assert_eq!(text(name), Some(file), "{name}");
        }
    }
}

//! `docs/configuration.md` is made from the table of variables and must not lag behind it.

use std::fs;
use std::path::Path;

#[test]
fn the_reference_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let reference = bms_reader::config::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &reference).expect("docs/configuration.md can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/configuration.md differs from src/config/variables.rs; \
         UPDATE_DOCS=1 cargo test --test configuration_docs writes it anew"
    );
}

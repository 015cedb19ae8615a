//! `docs/configuration.md` is generated from the table of variables.

use std::fs;
use std::path::Path;

#[test]
fn configuration_docs_match_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let reference = bms_reader::config::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &reference).expect("docs/configuration.md is writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/configuration.md differs from src/config/variables.rs; \
         regenerate it: UPDATE_DOCS=1 cargo test --test configuration_docs"
    );
}

//! The engine of the profiles stays small: a new brand is a file of data, not code.

use std::fs;
use std::path::Path;

use crate::{repository, sources};

/// Loading, safety, decoding and simulating, in lines of code without tests.
const MAX_ENGINE: usize = 1_500;
/// Median of the lines of the profiles in the program.
const MAX_PROFILE: usize = 70;

/// The file format, and `profile new`.
const NO_ENGINE: &[&str] = &["built_in", "guess", "key", "scalar", "schema", "yaml", "tree"];

fn is_engine(file: &str) -> bool {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_table = file.starts_with("src/protocol/table/") || file.starts_with("src/sim/table");
    is_table && !NO_ENGINE.contains(&stem)
}

fn code_lines(source: &str) -> usize {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn engine_of_the_profiles_is_small() {
    let mut files = sources();
    files.retain(|(file, _)| is_engine(file));
    let sizes: Vec<_> = files.iter().map(|(file, source)| (file, code_lines(source))).collect();
    let sum: usize = sizes.iter().map(|(_, lines)| lines).sum();
    assert!((MAX_ENGINE / 2..=MAX_ENGINE).contains(&sum), "{sum} lines: {sizes:#?}");
}

#[test]
fn profiles_are_short() {
    let folder = fs::read_dir(repository().join("src/protocol/brands")).expect("a folder");
    let text = |path| fs::read_to_string(path).expect("UTF-8");
    let mut lines: Vec<usize> =
        folder.map(|it| text(it.expect("an entry").path()).lines().count()).collect();
    lines.sort_unstable();
    assert!(lines.len() > 20 && lines[lines.len() / 2] <= MAX_PROFILE, "{lines:?}");
}

#[test]
fn comments_and_tests_are_no_code() {
    let source =
        "//! Doc.\n\nfn one() {\n    // Why.\n    two()\n}\n\n#[cfg(test)]\nmod tests {}\n";
    assert_eq!(code_lines(source), 3);
}

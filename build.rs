//! Prepares what is embedded in the program: the profiles of `src/protocol/brands`, so that a brand is
//! one file and nothing else, and the files of the dashboard.
//!
//! The profiles are similar, so all of them together are one block in the format of LZ4, about a
//! fifth of their size. `src/lz4.rs` unpacks it, and the files of the dashboard, which get half as large.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

#[path = "src/lz4.rs"]
#[allow(dead_code, reason = "the program unpacks")]
mod lz4;

use lz4::MIN_MATCH;

const FOLDER: &str = "src/protocol/brands";
const PAGE: &str = "src/sink/http/page";
/// Repetitions of one place that are compared; more of them save less than 1 %.
const CANDIDATES: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::var("OUT_DIR")?;
    embed_profiles(Path::new(&folder))?;
    embed_page(Path::new(&folder))
}

/// Packs the files of the page, without comments and most blanks.
fn embed_page(folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PAGE}");
    for entry in fs::read_dir(PAGE)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let is_comment = |line: &str| line.starts_with("//") || line.starts_with("/*");
        let lines: Vec<&str> = lines.filter(|line| !is_comment(line)).collect();
        let (name, mut text) = (path.file_name().ok_or("a file")?, lines.join("\n"));
        if path.extension().is_some_and(|extension| extension == "js") {
            text = squeeze(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if name == "style.css" {
            for sign in ["{", ":", ";", ",", "}"] {
                text = text.replace(&format!("{sign} "), sign).replace(&format!("{sign}\n"), sign);
            }
            text = text.replace(" {", "{");
        }
        let mut packed = folder.join(name).into_os_string();
        packed.push(".lz4");
        fs::write(packed, compress(text.as_bytes()))?;
    }
    Ok(())
}

/// Removes the blanks of a script that separate no words. Texts keep theirs: strings, and templates, whose
/// expressions are code again. Regular expressions must contain neither quotes nor blanks.
fn squeeze(script: &str) -> Result<String, &'static str> {
    let mut squeezed = String::with_capacity(script.len());
    // The quotes and braces that are open.
    let mut open = Vec::new();
    let mut characters = script.chars().peekable();
    while let Some(character) = characters.next() {
        let quote = open.last().copied().filter(|open| *open != '{');
        match (quote, character) {
            (Some(_), '\n') => return Err("the lines of a text lose their indentation"),
            (Some(_), '\\') => {
                squeezed.push(character);
                squeezed.extend(characters.next());
                continue;
            }
            (Some(quote), _) if quote == character => _ = open.pop(),
            (Some('`'), '{') if squeezed.ends_with('$') => open.push('{'),
            (Some(_), _) => {}
            (None, '"' | '\'' | '`' | '{') => open.push(character),
            (None, '}') => _ = open.pop(),
            (None, '\n') if continues(squeezed.chars().last(), characters.peek()) => continue,
            (None, ' ') if !separates(squeezed.chars().last(), characters.peek()) => continue,
            (None, _) => {}
        }
        squeezed.push(character);
    }
    if open.is_empty() { Ok(squeezed) } else { Err("an open quote or brace at the end") }
}

/// Whether a blank between these is needed: between words, and in `a - -b`.
fn separates(before: Option<char>, after: Option<&char>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let is_word = |character: char| character.is_alphanumeric() || "_$".contains(character);
    let is_sign = |character: char| "+-".contains(character);
    is_word(before) && is_word(*after) || is_sign(before) && is_sign(*after)
}

/// Whether a statement cannot end at a line break between these, or ends without it.
fn continues(before: Option<char>, after: Option<&char>) -> bool {
    before.is_some_and(|it| "{([,;".contains(it)) || after.is_some_and(|it| "})]".contains(*it))
}

fn embed_profiles(folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let mut files = Vec::new();
    for entry in fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    let (mut list, mut all) = (Vec::new(), String::new());
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).ok_or("a name in Unicode")?;
        let start = all.len();
        all += &fs::read_to_string(&file)?;
        list.push((name.to_owned(), start..all.len()));
    }
    fs::write(folder.join("brands.rs"), format!("&{list:?}"))?;
    fs::write(folder.join("brands.lz4"), compress(all.as_bytes()))?;
    Ok(())
}

/// A block of LZ4: literals and repetitions of earlier bytes in turn, literals at the end.
fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut seen: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let (mut at, mut literals) = (0, 0);
    while at < bytes.len() {
        let (length, distance) = longest_match(bytes, at, &seen);
        note(bytes, at, &mut seen);
        // A longer repetition may begin one byte later.
        if length < MIN_MATCH || longest_match(bytes, at + 1, &seen).0 > length {
            at += 1;
            continue;
        }
        lz4::append(&mut packed, &bytes[literals..at], Some((length, distance as u16)));
        (at + 1..at + length).for_each(|at| note(bytes, at, &mut seen));
        at += length;
        literals = at;
    }
    lz4::append(&mut packed, &bytes[literals..], None);
    packed
}

fn note<'a>(bytes: &'a [u8], at: usize, seen: &mut HashMap<&'a [u8], Vec<usize>>) {
    if let Some(start) = bytes.get(at..at + MIN_MATCH) {
        seen.entry(start).or_default().push(at);
    }
}

/// Length and distance; (0, 0) if there is none.
fn longest_match(bytes: &[u8], at: usize, seen: &HashMap<&[u8], Vec<usize>>) -> (usize, usize) {
    let places = bytes.get(at..at + MIN_MATCH).and_then(|start| seen.get(start));
    let near = places.into_iter().flatten().rev().take(CANDIDATES);
    let near = near.map(|place| (lz4::common(&bytes[*place..], &bytes[at..]), at - place));
    near.filter(|(_, distance)| *distance <= usize::from(u16::MAX))
        .max_by_key(|(length, distance)| (*length, std::cmp::Reverse(*distance)))
        .unwrap_or_default()
}

//! The documents: every link leads somewhere, and a reader of README.md finds every page.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that a new reader is asked to read.
const MAX_README: usize = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>()
    };
    [in_folder("."), in_folder("docs"), in_folder("ha-addon")].concat()
}

/// The text without blocks of code, whose brackets are no links.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("```").step_by(2).collect()
}

/// The targets of the links and images.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1);
    targets.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors that GitHub makes of the headings.
fn anchors(path: &Path) -> BTreeSet<String> {
    let headings = prose(path);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Local links of a document: the file, and the place in it.
fn local_links(document: &Path) -> Vec<(String, PathBuf, Option<String>)> {
    let is_local = |link: &String| !link.contains("://") && !link.starts_with("mailto:");
    let resolve = |link: String| {
        let (file, anchor) = match link.split_once('#') {
            Some((file, anchor)) => (file, Some(anchor.to_owned())),
            None => (link.as_str(), None),
        };
        let path = match file.is_empty() {
            true => document.to_path_buf(),
            false => document.parent().unwrap().join(file),
        };
        (link.clone(), path, anchor)
    };
    links(&prose(document)).into_iter().filter(is_local).map(resolve).collect()
}

#[test]
fn local_links_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        for (link, path, anchor) in local_links(&document) {
            assert!(path.exists(), "{}: {link} does not exist", document.display());
            if let Some(anchor) = anchor {
                let known = anchors(&path);
                assert!(known.contains(&anchor), "{}: {link}, {known:?}", document.display());
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} links");
}

#[test]
fn readme_is_short_and_leads_to_every_page() {
    let readme = root().join("README.md");
    let lines = fs::read_to_string(&readme).unwrap().lines().count();
    assert!(lines <= MAX_README, "README.md has {lines} lines");
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open = vec![readme];
    while let Some(page) = open.pop() {
        let page = page.canonicalize().unwrap();
        if page.extension().is_some_and(|it| it == "md") && reached.insert(page.clone()) {
            open.extend(local_links(&page).into_iter().map(|(_, path, _)| path));
        }
    }
    for page in documents().iter().filter(|page| page.parent().unwrap().ends_with("docs")) {
        assert!(
            reached.contains(&page.canonicalize().unwrap()),
            "{} is not reached",
            page.display()
        );
    }
}

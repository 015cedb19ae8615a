//! The languages of the page: each has every text of the English one, every value of the catalogue and
//! every alarm. Instead of a text that a language lacks, its key would be shown.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bms_reader::model::Alarm;
use bms_reader::model::catalog::{CATALOG, Get};

const LANGUAGES: [&str; 3] = ["cs", "de", "fr"];

fn script(name: &str) -> String {
    let path = format!("{}/src/sink/http/page/{name}.js", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

/// The keys and texts of the object that begins with this line. The texts contain no quotes.
fn table(script: &str, begin: &str) -> BTreeMap<String, String> {
    let (_, after) = script.split_once(begin).unwrap();
    let indent = begin.len() - begin.trim_start().len();
    let end = format!("\n{}}}", " ".repeat(indent));
    let mut rest = after[..after.find(&end).unwrap()].trim_start();
    let mut texts = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(": \"").unwrap();
        let (text, after) = after.split_once('"').unwrap();
        texts.insert(key.trim_matches('"').to_owned(), text.to_owned());
        rest = after.trim_start_matches([',', ' ', '\n']);
    }
    texts
}

fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
}

/// Keys of the first table without a text in the second.
fn missing<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    texts: &BTreeMap<String, String>,
) -> Vec<&'a str> {
    keys.into_iter().filter(|key| !texts.contains_key(*key)).collect()
}

#[test]
fn every_text_is_in_every_language() {
    let english = table(&script("texts-en"), "  texts: {");
    assert!(english.len() > 100, "{english:?}");
    for language in LANGUAGES {
        let script = script(&format!("texts-{language}"));
        let texts = table(&script, "  texts: {");
        let empty: Vec<&str> = missing(english.keys().map(String::as_str), &texts);
        assert!(empty.is_empty(), "{language} lacks {empty:?}");
        let unused: Vec<&str> = missing(texts.keys().map(String::as_str), &english);
        assert!(unused.is_empty(), "{language} has {unused:?}, which the page does not use");
        for (key, text) in &texts {
            assert!(!text.is_empty(), "{language}: {key}");
            assert_eq!(placeholders(text), placeholders(&english[key]), "{language}: {key}");
        }
    }
}

#[test]
fn every_value_and_alarm_is_in_every_language() {
    let is_listed = |get: &Get| !matches!(get, Get::Cell(_) | Get::Alarm | Get::Threshold(_));
    let values = CATALOG.iter().filter(|row| is_listed(&row.get)).map(|row| row.key);
    let thresholds = CATALOG.iter().filter(|row| matches!(row.get, Get::Threshold(_)));
    let thresholds = thresholds.map(|row| row.key.trim_start_matches("alarm_"));
    let alarms: Vec<&str> = Alarm::ALL.iter().map(|alarm| alarm.name()).chain(thresholds).collect();
    for language in LANGUAGES {
        let script = script(&format!("texts-{language}"));
        let empty = missing(values.clone(), &table(&script, "  values: {"));
        assert!(empty.is_empty(), "{language} lacks the values {empty:?}");
        let texts = table(&script, "  alarms: {");
        // A warning without a text of its own has that of its protection.
        let is_known = |name: &str| texts.contains_key(name.trim_end_matches("_warning"));
        let empty: Vec<_> = missing(alarms.iter().copied(), &texts)
            .into_iter()
            .filter(|it| !is_known(it))
            .collect();
        assert!(empty.is_empty(), "{language} lacks the alarms {empty:?}");
    }
}

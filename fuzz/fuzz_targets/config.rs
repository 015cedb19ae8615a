//! Add-on options, and variables such as `DEVICES` and `BANKS`.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;

use bms_reader::config;

static OPTIONS_FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("fuzz-{}.json", std::process::id())));

// A line `NAME=value` for each variable, or the JSON object of the add-on.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Other files of this machine are no part of the input.
    let lower = text.to_lowercase();
    if ["file", "profiles"].iter().any(|word| lower.contains(word)) {
        return;
    }
    let mut environment: BTreeMap<String, String> = text
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if text.starts_with('{') {
        std::fs::write(&*OPTIONS_FILE, text).expect("the options file is written");
        let path = OPTIONS_FILE.to_str().expect("the path is text");
        environment = BTreeMap::from([("BMS_OPTIONS_FILE".to_owned(), path.to_owned())]);
    }
    let _ = format!("{:?}", config::redacted(environment.clone()));
    match config::load(environment) {
        Ok(config) => {
            let ids: Vec<_> = config.devices.iter().map(|device| &device.profile.id).collect();
            let distinct: BTreeSet<_> = ids.iter().collect();
            assert_eq!(ids.len(), distinct.len(), "two batteries have one id");
        }
        Err(diagnostics) => assert!(!diagnostics.errors.is_empty(), "refused without a reason"),
    }
});

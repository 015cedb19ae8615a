//! Every driver is fuzzed, and the fuzzer begins with real frames.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bms_reader::protocol::DRIVERS;
use common::{Vector, vectors};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn every_driver_has_a_fuzz_target() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for info in DRIVERS {
        let path = format!("fuzz_targets/{}.rs", info.name);
        let entry = format!("[[bin]]\nname = \"{}\"\npath = \"{path}\"\n", info.name);
        assert!(manifest.contains(&entry), "fuzz/Cargo.toml has no target {}", info.name);
        let target = fs::read_to_string(fuzz().join(&path)).expect(&path);
        assert!(target.contains("drive::drive(&INFO"), "{path} drives nothing");
    }
}

/// The folder `fuzz/corpus` is not kept with the sources; this fills it.
#[test]
fn the_corpus_begins_with_recorded_frames() {
    for info in DRIVERS {
        let all = vectors(info.name);
        let live = all.iter().find(|v| v.kind == "response").unwrap();
        for vector in all.iter().filter(|v| !v.response.is_empty()) {
            let Vector { id, response, .. } = vector;
            // Alone, and as the answer to the question after the first one.
            save(info.name, id, &[&[64], &response[..]].concat());
            save(
                info.name,
                &format!("{id}-second"),
                &[&[255], &live.response[..], &[0xFF], response].concat(),
            );
            save("ascii_frame", id, response);
        }
        let seeds = fs::read_dir(fuzz().join("corpus").join(info.name)).unwrap().count();
        assert!(seeds >= 12, "{} begins with {seeds} frames", info.name);
    }
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = fuzz().join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

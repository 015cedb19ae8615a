//! Files that `replay` reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut printed = Vec::new();
    // An error ends the replay; here only a panic counts.
    if let Ok(differences) = bms_reader::cli::replay_capture(bytes, &mut printed) {
        let attempts = printed.iter().filter(|byte| **byte == b'\n').count();
        assert!(differences <= attempts, "{differences} of {attempts} attempts differ");
    }
});

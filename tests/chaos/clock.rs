//! The clocks that the program sees.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Seconds that a library adds to the clocks of a dynamic program which preloads it.
///
/// The kernel only lets root set the time, and a time namespace has no time of day of its own. The
/// monotonic clock stays as it is: in a suspend it stands still, while the two others go on.
#[derive(Debug)]
pub struct ShiftedClock {
    library: PathBuf,
    path: PathBuf,
    file: File,
    /// Of the time of day and of the boot-time clock.
    offsets: Mutex<[i64; 2]>,
}

impl ShiftedClock {
    /// Builds the library in this folder with the C compiler that the crates of the program need, too.
    pub fn build(folder: &Path) -> Self {
        let (library, path) = (folder.join("clock.so"), folder.join("clock"));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/clock.c"))
            .status()
            .expect("a C compiler (Debian package gcc)");
        assert!(built.success());
        let file = File::options().write(true).create(true).truncate(true).open(&path);
        let file = file.expect("a file for the clock");
        let clock = ShiftedClock { library, path, file, offsets: Mutex::default() };
        clock.jump(0, 0);
        clock
    }

    /// The variables of the program.
    pub fn variables(&self) -> [(String, String); 2] {
        [("LD_PRELOAD", &self.library), ("CHAOS_CLOCK", &self.path)]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
    }

    /// The time of day jumps by so many seconds, and the boot-time clock forward.
    pub fn jump(&self, time_of_day: i64, boot_time: u32) {
        let mut offsets = self.offsets.lock().expect("no panic");
        *offsets = [offsets[0] + time_of_day, offsets[1] + i64::from(boot_time)];
        for (place, offset) in (0..).step_by(8).zip(*offsets) {
            self.file.write_all_at(&offset.to_ne_bytes(), place).expect("a file");
        }
    }
}

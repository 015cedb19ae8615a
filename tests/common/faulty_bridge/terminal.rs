//! A serial port of this machine: a pseudo-terminal behind a path that stays the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_serial::{SerialPort, SerialStream};

/// The far end of the port. The path is missing once it is dropped.
pub struct Terminal {
    pub far: SerialStream,
    /// Without it, the far end would get errors while the port is closed.
    _near: SerialStream,
    path: PathBuf,
}

/// A path at which no port is yet.
pub fn unused_path() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("bms-port-{}-{number}", std::process::id()))
}

impl Terminal {
    pub fn plug_in(path: &Path) -> Self {
        let (far, near) = SerialStream::pair().unwrap();
        let _ = fs::remove_file(path);
        symlink(near.name().unwrap(), path).unwrap();
        Terminal { far, _near: near, path: path.to_owned() }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// How often this process has the port open, besides the near end of the terminal.
pub fn open_count(path: &Path) -> usize {
    let Ok(device) = fs::canonicalize(path) else { return 0 };
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = descriptors.filter(|it| fs::read_link(it.path()).is_ok_and(|to| to == device));
    open.count().saturating_sub(1)
}

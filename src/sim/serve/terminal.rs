//! A pseudo-terminal with the bus at its far end, and a symbolic link with a fixed name to it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tokio_serial::{SerialPort, SerialStream};

use super::SimBus;
use crate::transport::serial::SerialLink;
use crate::transport::{Link, LinkError};

#[derive(Debug)]
pub(super) struct Terminal {
    far: SerialLink,
    /// Kept open because the far end would read as closed between two readers. Dropping the far end
    /// disconnects a reader all the same.
    _near: SerialStream,
    path: String,
    link: Option<PortLink>,
}

impl Terminal {
    pub(super) fn open(link: Option<&Path>) -> io::Result<Self> {
        let (far, near) = SerialStream::pair()?;
        let path =
            near.name().ok_or_else(|| io::Error::other("the pseudo-terminal has no name"))?;
        let link = link.map(|link| PortLink::create(link, Path::new(&path))).transpose()?;
        let far = SerialLink::new(format!("far end of {path}"), far);
        Ok(Terminal { far, _near: near, path, link })
    }

    pub(super) fn port(&self) -> String {
        self.link.as_ref().map_or_else(|| self.path.clone(), |link| link.path.display().to_string())
    }

    pub(super) async fn serve(self, bus: &SimBus) -> LinkError {
        // Bound to names, so that they live as long as this future.
        let Terminal { far, _near, path: _, link: _link } = self;
        let mut far = Link::from(far);
        loop {
            match bus.serve(&mut far).await {
                // The reader has stopped reading; the next one gets a fresh start.
                LinkError::Stuck { .. } => {}
                error => return error,
            }
        }
    }
}

/// A symbolic link that exists as long as this value.
#[derive(Debug)]
struct PortLink {
    path: PathBuf,
    target: PathBuf,
}

impl PortLink {
    /// Creates the link atomically. It replaces an older link (a killed simulator leaves one behind),
    /// but nothing else.
    fn create(path: &Path, target: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink()) {
            let message = format!("{} exists and is not a link", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let describe = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot link {}: {error}", path.display()))
        };
        symlink(target, &draft).map_err(describe)?;
        fs::rename(&draft, path).map_err(|error| {
            let _ = fs::remove_file(&draft);
            describe(error)
        })?;
        Ok(PortLink { path: path.into(), target: target.into() })
    }
}

impl Drop for PortLink {
    fn drop(&mut self) {
        // Another simulator may have replaced the link.
        if fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_link_replaces_only_links_and_removes_only_itself() {
        let name = format!("bms-simulator-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "precious").unwrap();
        let error = PortLink::create(&path, Path::new("/dev/pts/9")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();

        let first = PortLink::create(&path, Path::new("/dev/pts/8")).unwrap();
        let second = PortLink::create(&path, Path::new("/dev/pts/9")).unwrap();
        drop(first);
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/dev/pts/9"));
        drop(second);
        assert!(fs::symlink_metadata(&path).is_err());
        assert!(PortLink::create(Path::new("/nowhere/port"), Path::new("/dev/pts/9")).is_err());
    }
}

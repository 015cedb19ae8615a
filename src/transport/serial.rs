//! A serial port of this machine.

use std::fs;
use std::io;
use std::path::Path;

use tokio_serial::{ErrorKind, SerialStream};

use super::stream::{ByteStream, StreamLink};
use super::{LinkError, owner};

pub type SerialLink = StreamLink<SerialStream>;

impl ByteStream for SerialStream {
    /// Reading from an unplugged adapter returns zero bytes.
    const END_REASON: &'static str = "the device was unplugged";

    /// Measured on Linux 6.18: exclusive mode outlasts our close as long as anything else has the
    /// terminal open, and then only root can open it.
    fn before_close(&mut self) {
        let _ = self.set_exclusive(false);
    }
}

/// Opens the port for exclusive use: two readers on one bus would read each other's replies. The
/// default of `tokio_serial` is 8 data bits, no parity, one stop bit and no flow control.
pub fn open(path: &str, baud: u32) -> Result<SerialLink, LinkError> {
    match SerialStream::open(&tokio_serial::new(path, baud).exclusive(true)) {
        Ok(stream) => Ok(SerialLink::new(path.to_owned(), stream)),
        Err(error) => Err(open_error(path.to_owned(), &error)),
    }
}

/// serialport 4.10 keeps the error number of a few causes only; the others differ by their text,
/// which comes from its own table and not from the locale. A device node without a device (an
/// adapter unplugged while a container has it) counts as missing.
fn open_error(endpoint: String, error: &tokio_serial::Error) -> LinkError {
    match (error.kind, error.description.as_str()) {
        (ErrorKind::NoDevice, _) => {
            LinkError::Busy { program: owner::program(&endpoint), endpoint }
        }
        (ErrorKind::Io(io::ErrorKind::NotFound), _)
        | (_, "No such device" | "No such device or address") => LinkError::NotFound { endpoint },
        (ErrorKind::Io(io::ErrorKind::PermissionDenied), _) | (_, "Operation not permitted") => {
            LinkError::Denied { group: owner::group(&endpoint), endpoint }
        }
        (_, "Not a typewriter") => {
            LinkError::Open { endpoint, reason: "it is not a serial port".into() }
        }
        (_, reason) => LinkError::Open { endpoint, reason: reason.into() },
    }
}

/// A serial port of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// The path to configure: one that names the adapter, if the system has such a link.
    pub path: String,
    /// The device that the link points to, for example `/dev/ttyUSB0`.
    pub device: Option<String>,
}

pub fn list() -> Vec<PortInfo> {
    list_under(Path::new("/"))
}

/// Adapters by their persistent names first, then devices without one (in containers, on boards).
/// `root` is `/` except in tests.
pub fn list_under(root: &Path) -> Vec<PortInfo> {
    let devices = root.join("dev");
    let mut ports = Vec::new();
    for link in names(&devices.join("serial/by-id")) {
        let path = devices.join("serial/by-id").join(link);
        if let Ok(device) = fs::canonicalize(&path) {
            ports.push(PortInfo {
                path: path.display().to_string(),
                device: Some(device.display().to_string()),
            });
        }
    }
    for name in names(&devices).into_iter().filter(|name| is_serial(root, name)) {
        let path = devices.join(name).display().to_string();
        if !ports.iter().any(|port| port.device.as_ref() == Some(&path)) {
            ports.push(PortInfo { path, device: None });
        }
    }
    ports
}

fn is_serial(root: &Path, name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    // Most /dev/ttyS* are slots without hardware; type 0 is the kernel's PORT_UNKNOWN.
    let has_uart = || {
        fs::read_to_string(root.join("sys/class/tty").join(name).join("type"))
            .is_ok_and(|kind| kind.trim() != "0")
    };
    ["ttyUSB", "ttyACM", "ttyAMA"].into_iter().any(numbered) || (numbered("ttyS") && has_uart())
}

/// The names in a folder in order (`ttyS2` before `ttyS10`); none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;
    use tokio_serial::{DataBits, FlowControl, Parity, SerialPort, StopBits};

    use super::*;
    use crate::transport::{Channel, Link};

    /// Long enough that only a hang fails a test.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The far end of a pseudo-terminal, a handle on its near end, and the path of that.
    fn terminal() -> (SerialStream, SerialStream, String) {
        let (far, near) = SerialStream::pair().unwrap();
        let path = near.name().unwrap();
        (far, near, path)
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bms-serial-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_in_both_directions() {
        let (mut far, near, path) = terminal();
        drop(near);
        let mut link = open(&path, 9600).unwrap();
        let every_byte: Vec<u8> = (0..=255).collect();
        link.send(&every_byte).await.unwrap();
        let mut received = vec![0; 256];
        timeout(PATIENCE, far.read_exact(&mut received)).await.unwrap().unwrap();
        assert_eq!(received, every_byte);
        far.write_all(&every_byte).await.unwrap();
        let mut received = Vec::new();
        while received.len() < every_byte.len() {
            received.extend(timeout(PATIENCE, link.receive()).await.unwrap().unwrap());
        }
        assert_eq!(received, every_byte);
    }

    #[tokio::test]
    async fn port_is_8n1_at_the_given_baud_rate() {
        let (_far, _near, path) = terminal();
        let link = open(&path, 19_200).unwrap();
        assert_eq!(link.stream.baud_rate().unwrap(), 19_200);
        assert_eq!(link.stream.data_bits().unwrap(), DataBits::Eight);
        assert_eq!(link.stream.parity().unwrap(), Parity::None);
        assert_eq!(link.stream.stop_bits().unwrap(), StopBits::One);
        assert_eq!(link.stream.flow_control().unwrap(), FlowControl::None);
    }

    #[tokio::test]
    async fn unplugged_port_is_gone() {
        let (far, _near, path) = terminal();
        let mut link = open(&path, 9600).unwrap();
        drop(far);
        let gone =
            LinkError::Gone { endpoint: path.clone(), reason: SerialStream::END_REASON.into() };
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap(), Err(gone.clone()));
        let sent = timeout(PATIENCE, link.send(b"?")).await.unwrap();
        assert!(matches!(sent, Err(LinkError::Gone { .. })), "{sent:?}");
        assert_eq!(Link::from(link).drain(), Err(gone));
    }

    #[tokio::test]
    async fn open_port_is_busy_until_dropped() {
        let (_far, _near, path) = terminal();
        let first = open(&path, 9600).unwrap();
        let second = open(&path, 9600);
        assert_eq!(second.err(), Some(LinkError::Busy { endpoint: path.clone(), program: None }));
        drop(first);
        open(&path, 9600).unwrap();
    }

    #[tokio::test]
    async fn drain_discards_only_what_has_arrived() {
        let (mut far, _near, path) = terminal();
        let mut link = Link::from(open(&path, 9600).unwrap());
        link.drain().unwrap();
        far.write_all(b"stale").await.unwrap();
        let Channel::Serial(port) = &link.channel else { panic!("another link") };
        timeout(PATIENCE, port.stream.readable()).await.unwrap().unwrap();
        link.drain().unwrap();
        far.write_all(b"fresh").await.unwrap();
        assert_eq!(timeout(PATIENCE, link.receive()).await.unwrap().unwrap(), b"fresh");
    }

    #[tokio::test(start_paused = true)]
    async fn port_that_accepts_nothing_is_stuck() {
        let (_far, _near, path) = terminal();
        let mut link = open(&path, 9600).unwrap();
        let sent = link.send(&vec![0x55; 1 << 20]).await;
        assert_eq!(sent, Err(LinkError::Stuck { endpoint: path }));
    }

    #[tokio::test]
    async fn large_message_arrives_complete() {
        let (mut far, _near, path) = terminal();
        let mut link = open(&path, 115_200).unwrap();
        let message: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let mut received = vec![0; message.len()];
        let (sent, read) = timeout(PATIENCE, async {
            tokio::join!(link.send(&message), far.read_exact(&mut received))
        })
        .await
        .unwrap();
        sent.unwrap();
        read.unwrap();
        assert_eq!(received, message);
    }

    #[tokio::test]
    async fn open_errors_are_distinguished() {
        let folder = folder("reasons");
        let path = |name: &str| folder.join(name).display().to_string();
        let error = |path: String| open(&path, 9600).err().unwrap();
        assert_eq!(error(path("none")), LinkError::NotFound { endpoint: path("none") });

        fs::write(folder.join("file"), "").unwrap();
        let LinkError::Open { endpoint, reason } = error(path("file")) else { panic!("opened") };
        assert_eq!((endpoint, reason.as_str()), (path("file"), "it is not a serial port"));

        // Opening a socket fails like a node without its device: "No such device or address".
        let _socket = UnixListener::bind(folder.join("node")).unwrap();
        assert_eq!(error(path("node")), LinkError::NotFound { endpoint: path("node") });

        let refused =
            tokio_serial::Error::new(ErrorKind::Io(io::ErrorKind::PermissionDenied), "no");
        assert_eq!(
            open_error(path("none"), &refused),
            LinkError::Denied { endpoint: path("none"), group: None }
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn list_prefers_persistent_names_and_skips_empty_slots() {
        let root = fs::canonicalize(folder("list")).unwrap();
        fs::create_dir_all(root.join("dev/serial/by-id")).unwrap();
        for name in ["ttyUSB0", "ttyUSB1", "ttyUSB10", "ttyS0", "ttyS1", "ttyS2", "tty0", "null"] {
            fs::write(root.join("dev").join(name), "").unwrap();
        }
        symlink("../../ttyUSB1", root.join("dev/serial/by-id/usb-adapter-if00")).unwrap();
        symlink("../../ttyUSB9", root.join("dev/serial/by-id/usb-pulled-if00")).unwrap();
        for (name, kind) in [("ttyS0", "0\n"), ("ttyS1", "4\n")] {
            fs::create_dir_all(root.join("sys/class/tty").join(name)).unwrap();
            fs::write(root.join("sys/class/tty").join(name).join("type"), kind).unwrap();
        }
        let dev = |name: &str| root.join("dev").join(name).display().to_string();
        let found = list_under(&root);
        let paths: Vec<_> = found.iter().map(|port| port.path.clone()).collect();
        assert_eq!(
            paths,
            ["serial/by-id/usb-adapter-if00", "ttyS1", "ttyUSB0", "ttyUSB10"].map(dev)
        );
        assert_eq!(found[0].device, Some(dev("ttyUSB1")));
        assert_eq!(list_under(&root.join("missing")), []);
        fs::remove_dir_all(root).unwrap();
    }
}

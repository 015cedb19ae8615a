//! Simulated packs on a pseudo-terminal or behind a TCP port.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bms_reader::protocol;
use bms_reader::sim::bus::RequestBuffer;
use bms_reader::sim::{Battery, Bus, Faults, SimBrand, SimPack};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::plan::Random;
use crate::state::{Clock, Record, state};

/// How often a serving thread looks whether it has to end.
const POLL: Duration = Duration::from_millis(100);

/// A pack that the program reads.
#[derive(Debug, Clone)]
pub struct Pack {
    pub id: String,
    pub seed: u64,
    pub address: u8,
    pub sent: Record,
}

/// The packs of a line and their faults. Clones share them.
#[derive(Clone)]
pub struct Packs {
    pub brand: &'static SimBrand,
    pub list: Vec<Pack>,
    /// Those of the simulator.
    pub faults: Faults,
    /// One in this many replies has a damaged byte; 0: none.
    pub damage: Arc<AtomicU64>,
    /// Nothing is read or written.
    pub stuck: Arc<AtomicBool>,
    /// Another master repeats the last request of the program after this many milliseconds; 0: none.
    pub rival_ms: Arc<AtomicU64>,
    bus: Arc<Mutex<Bus>>,
    random: Arc<Mutex<Random>>,
    clock: Clock,
}

impl Packs {
    pub fn new(brand: &'static SimBrand, list: Vec<Pack>, clock: Clock, seed: u64) -> Self {
        let faults = Faults::default();
        let mut bus = Bus::new(brand, seed, faults.clone());
        for Pack { address, seed, .. } in &list {
            let battery = Battery::computed(*seed, state);
            bus.add(*address, brand.pack(SimPack::new(*address, battery, faults.clone())));
        }
        Packs {
            brand,
            list,
            faults,
            damage: Arc::default(),
            stuck: Arc::default(),
            rival_ms: Arc::default(),
            bus: Arc::new(Mutex::new(bus)),
            random: Arc::new(Mutex::new(Random(seed))),
            clock,
        }
    }

    /// The entries of `DEVICES`.
    pub fn configuration(&self, port: &str) -> Vec<serde_json::Value> {
        let brand = self.brand;
        let entry = |pack: &Pack| {
            let mut entry = serde_json::json!({
                "id": pack.id, "type": brand.driver(), "port": port, "slave_id": pack.address
            });
            if let Some(variant) = brand.variant() {
                entry["variant"] = variant.into();
            }
            entry
        };
        self.list.iter().map(entry).collect()
    }

    pub fn is_console(&self) -> bool {
        self.brand.name.starts_with("pylontech-")
    }

    fn reply(&self, request: &[u8]) -> Vec<u8> {
        let step = self.clock.step();
        let mut bus = self.bus.lock().expect("no panic");
        let before = bus.last_reply();
        let reply = bus.reply(request, step as f64);
        let replied = bus.last_reply().filter(|last| Some(*last) != before || !reply.is_empty());
        if let Some((address, _)) = replied {
            self.list.iter().filter(|pack| pack.address == address).for_each(|pack| {
                pack.sent.add(pack.seed, step);
            });
        }
        drop(bus);
        self.damaged(reply)
    }

    fn unsolicited(&self) -> Vec<u8> {
        let step = self.clock.step();
        let frames = self.bus.lock().expect("no panic").unsolicited(step as f64);
        self.list.iter().for_each(|pack| pack.sent.add(pack.seed, step));
        self.damaged(frames)
    }

    /// Every checksum detects one wrong byte. A console has none, but line noise is not ASCII.
    fn damaged(&self, mut reply: Vec<u8>) -> Vec<u8> {
        let mut random = self.random.lock().expect("no panic");
        let one_in = self.damage.load(Ordering::Relaxed);
        if one_in == 0 || reply.is_empty() || random.below(one_in) != 0 {
            return reply;
        }
        let is_checked = protocol::find(self.brand.driver()).is_some_and(|info| !info.unchecked);
        let index = random.below(reply.len() as u64) as usize;
        let flip = 1 + random.below(255) as u8;
        reply[index] = if is_checked { reply[index] ^ flip } else { reply[index] | 0x80 };
        reply
    }

    /// Serves a reader until `stop` or the end of the connection.
    fn serve(&self, mut port: impl Read + Write, stop: &AtomicBool) -> io::Result<()> {
        let mut requests: RequestBuffer = self.bus.lock().expect("no panic").connect();
        let stream = self.brand.stream.map(Duration::from_secs_f64);
        let mut next_frame = stream.map(|pause| Instant::now() + pause);
        let mut last_request = Vec::new();
        let mut rival_due = None;
        let mut chunk = [0; 1024];
        while !stop.load(Ordering::Relaxed) {
            if self.stuck.load(Ordering::Relaxed) {
                thread::sleep(POLL);
                continue;
            }
            match port.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => requests.push(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            while let Some(request) = requests.next_request() {
                send(&mut port, &self.reply(&request))?;
                let pause = self.rival_ms.load(Ordering::Relaxed);
                rival_due = (pause > 0).then(|| Instant::now() + Duration::from_millis(pause));
                last_request = request;
            }
            if rival_due.is_some_and(|due| due <= Instant::now()) {
                rival_due = None;
                send(&mut port, &self.reply(&last_request))?;
            }
            if let (Some(due), Some(pause)) = (&mut next_frame, stream)
                && *due <= Instant::now()
            {
                *due = Instant::now() + pause;
                send(&mut port, &self.unsolicited())?;
            }
        }
        Ok(())
    }
}

/// What a reader does not fetch is lost.
fn send(port: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    match port.write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

/// Packs on a pseudo-terminal with a fixed name, which can be unplugged.
pub struct Terminal {
    pub packs: Packs,
    /// The `port` of its batteries.
    pub path: PathBuf,
    server: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Terminal {
    pub fn plugged_in(path: PathBuf, packs: Packs) -> Self {
        let mut terminal = Terminal { packs, path, server: None };
        terminal.plug_in();
        terminal
    }

    pub fn plug_in(&mut self) {
        if self.server.is_some() {
            return;
        }
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let far = posix_openpt(flags).expect("a pseudo-terminal");
        grantpt(&far).expect("access to the pseudo-terminal");
        unlockpt(&far).expect("an open pseudo-terminal");
        let name = ptsname_r(&far).expect("the name of the pseudo-terminal");
        // Kept open, because the far end reads as closed between two readers.
        let no_terminal = OFlag::O_NOCTTY.bits();
        let near = OpenOptions::new().read(true).write(true).custom_flags(no_terminal).open(&name);
        let near = near.expect("the pseudo-terminal opens");
        let mut settings = tcgetattr(&near).expect("the settings of a terminal");
        cfmakeraw(&mut settings);
        tcsetattr(&near, SetArg::TCSANOW, &settings).expect("a raw terminal");
        symlink(name, &self.path).expect("a link to the pseudo-terminal");
        let stop = Arc::new(AtomicBool::new(false));
        let (packs, stopped) = (self.packs.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let _near = near;
            let far = FarEnd(File::from(OwnedFd::from(far)));
            packs.serve(far, &stopped).expect("a pseudo-terminal that works");
        });
        self.server = Some((stop, thread));
    }

    /// A program that has the port open gets a hang-up.
    pub fn unplug(&mut self) {
        if let Some((stop, thread)) = self.server.take() {
            let _ = fs::remove_file(&self.path);
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.unplug();
    }
}

/// Reading waits for [`POLL`] at most, and writing not at all.
struct FarEnd(File);

impl Read for FarEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wait = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, PollTimeout::try_from(POLL).expect("a short time"))?;
        self.0.read(buffer)
    }
}

impl Write for FarEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves packs on a TCP port as long as the process runs, and returns the port.
pub fn serve_on_tcp(packs: &Packs) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let packs = packs.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let packs = packs.clone();
            let wait = |stream: &TcpStream| {
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(POLL))
            };
            if wait(&stream).is_ok() {
                thread::spawn(move || packs.serve(stream, &AtomicBool::new(false)));
            }
        }
    });
    port
}

//! The parts of a service test: simulated batteries, and the program as its users start it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bms_reader::sim::pylontech_sc0500::{self, StackState};
use bms_reader::sim::serve::{ListenAddr, SimServer, SimServerOptions};
use bms_reader::sim::{Bus, Faults, PackState, SimBrand, daren, faults};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::mosquitto::{Mosquitto, WAIT_LIMIT, free_port};

const SEED: u64 = 7;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Simulated packs on one line. Their time stands still, so what they say is known.
pub struct Packs {
    pub faults: Faults,
    /// What a service has to open.
    pub port: String,
    stop: CancellationToken,
}

impl Packs {
    /// On a pseudo-terminal with a lasting name.
    pub fn on_terminal(addresses: &[u8]) -> Self {
        Packs::of(&daren::BRAND, addresses)
    }

    /// A stack behind an SC0500, on a pseudo-terminal.
    pub fn stack() -> Self {
        Packs::of(&pylontech_sc0500::BRAND, &[1])
    }

    /// The same on a TCP port, where somebody else may type, too.
    pub fn stack_on_tcp() -> Self {
        Packs::start(&pylontech_sc0500::BRAND, &[1], ListenAddr::Tcp("127.0.0.1:0".into()), None)
    }

    fn of(brand: &'static SimBrand, addresses: &[u8]) -> Self {
        let link = fresh_name();
        let listen = ListenAddr::Terminal { link: Some(link.clone()) };
        Packs::start(brand, addresses, listen, Some(link))
    }

    /// On a TCP port.
    pub fn on_tcp(addresses: &[u8]) -> Self {
        Packs::start(&daren::BRAND, addresses, ListenAddr::Tcp("127.0.0.1:0".into()), None)
    }

    fn start(
        brand: &'static SimBrand,
        addresses: &[u8],
        listen: ListenAddr,
        link: Option<PathBuf>,
    ) -> Self {
        let faults = Faults::default();
        let options = SimServerOptions {
            brand,
            addresses: addresses.to_vec(),
            seed: SEED,
            speed: 0.0,
            pacing: None,
            faults: faults.clone(),
            listen,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (tell, told) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = SimServer::open(&options).await.expect("a place for the packs");
                tell.send(server.port()).unwrap();
                server.serve(stopped).await.expect("the packs are served");
            });
        });
        let place = told.recv().expect("the packs are there");
        let port = link.map_or(place, |link| link.display().to_string());
        Packs { faults, port, stop }
    }

    /// What the pack at this address says.
    pub fn state(&self, address: u8) -> PackState {
        Bus::battery(SEED, address).state(0.0)
    }

    /// What the stack says while nothing is wrong with it.
    pub fn stack_state(&self) -> StackState {
        StackState::of(&mut Bus::battery(SEED, 1), pylontech_sc0500::MODULES, 0.0)
    }

    /// From now on these go wrong, in the words of `simulate --fault`.
    pub fn set_faults(&self, list: &str) {
        self.faults.set(faults::parse(list).unwrap());
    }
}

impl Drop for Packs {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn fresh_name() -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("bms-reader-port-{}-{number}", std::process::id()))
}

/// A simulator in a process of its own: only there does its terminal really go away, because every
/// child of this process inherits the terminals that are open here.
pub struct Adapter {
    /// What a service has to open.
    pub port: String,
    brand: &'static str,
    process: Option<Child>,
}

impl Adapter {
    /// With a pack at address 1.
    pub fn plugged_in() -> Self {
        Adapter::to("daren")
    }

    /// With a battery of this brand.
    pub fn to(brand: &'static str) -> Self {
        let port = fresh_name().display().to_string();
        let mut adapter = Adapter { port, brand, process: None };
        adapter.plug_in();
        adapter
    }

    pub fn plug_in(&mut self) {
        let arguments =
            ["simulate", "--type", self.brand, "--speed", "0", "--port-link", &self.port];
        let mut process = program(&[]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), self.port);
        self.process = Some(process);
    }

    /// Its name disappears, and whoever holds it open is hung up on.
    pub fn unplug(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = process.id().to_string();
            assert!(Command::new("kill").arg(&id).status().unwrap().success());
            process.wait().unwrap();
        }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.unplug();
    }
}

/// The program, started as a user would.
pub struct Service {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    listen: String,
}

impl Service {
    /// The service with these variables and no others.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Service::start_with(variables, &format!("127.0.0.1:{}", free_port()))
    }

    /// The service, with its HTTP server there.
    pub fn start_with(variables: &[(&str, &str)], listen: &str) -> Self {
        let mut process = program(variables)
            .env("HTTP_LISTEN", listen)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, output) = (log.clone(), process.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Service { process, log, listen: listen.to_owned() }
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Where its HTTP server is.
    pub fn listen(&self) -> String {
        self.listen.clone()
    }

    /// Waits until it has logged this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + WAIT_LIMIT;
        while self.logged(text) == 0 {
            assert!(Instant::now() < deadline, "{text} is not in the log:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lines of the log that hold this text.
    pub fn logged(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    pub fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits until it has ended by itself. The stop takes two seconds at most; the rest is for a busy
    /// machine.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.process.try_wait().unwrap() {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "still running:\n{}", self.log()),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Memory in use, in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// What it answers on HTTP, or `None` while it does not.
    pub fn get(&self, path: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.listen).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    }

    /// Waits until the newest state of a battery satisfies.
    #[track_caller]
    pub fn wait_state(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_state_up_to(WAIT_LIMIT, id, what, wanted)
    }

    #[track_caller]
    pub fn wait_state_up_to(
        &self,
        limit: Duration,
        id: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + limit;
        let mut last = None;
        while Instant::now() < deadline {
            if let Some((200, state)) = self.get(&format!("/api/devices/{id}")) {
                if wanted(&state) {
                    return state;
                }
                last = Some(state);
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come; last state {last:#?}; log:\n{}", self.log());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program with these variables and nothing else of this test's environment.
pub fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs a sub-command to its end.
pub fn run(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut process = program(variables)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A command that reads nothing may have ended already.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    process.wait_with_output().unwrap()
}

/// The objects that a command printed, one a line.
pub fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The environment block that users of the older container have, for this port and broker.
pub fn legacy_environment(port: &str, broker: &Mosquitto) -> Vec<(&'static str, String)> {
    vec![
        ("BMS_PORT", port.to_owned()),
        ("BMS_SLAVE_ID", "1".into()),
        ("READ_INTERVAL", "1".into()),
        ("MQTT_HOST", "127.0.0.1".into()),
        ("MQTT_PORT", broker.port().to_string()),
        ("MQTT_USER", "mqtt_user".into()),
        ("MQTT_PASSWORD", "mqtt_password".into()),
        ("MQTT_TOPIC_PREFIX", "homeassistant".into()),
        ("DEVICE_ID", "bms_lifepo4_01".into()),
        ("DEBUG_MODE", "false".into()),
    ]
}

pub fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

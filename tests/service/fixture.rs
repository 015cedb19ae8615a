//! Simulated batteries, and the program as users start it.

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
use bms_reader::sim::{Bus, Faults, PackState, SimBrand, daren, faults, jbd};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::mosquitto::{Message, Mosquitto, Subscriber, WAIT_LIMIT, free_port};

const SEED: u64 = 7;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Simulated batteries on one line. Their time stands still, so that their values are known.
pub struct Packs {
    pub faults: Faults,
    /// The `BMS_PORT` to use.
    pub port: String,
    stop: CancellationToken,
}

impl Packs {
    /// Daren packs on a pseudo-terminal with a fixed name.
    pub fn on_terminal(addresses: &[u8]) -> Self {
        Packs::with_port_link(&daren::BRAND, addresses)
    }

    /// A JBD pack, which has switches for charging and discharging.
    pub fn with_switches() -> Self {
        Packs::with_port_link(&jbd::BRAND, &[1])
    }

    /// A stack behind an SC0500, on a pseudo-terminal.
    pub fn stack() -> Self {
        Packs::with_port_link(&pylontech_sc0500::BRAND, &[1])
    }

    /// The same on a TCP port, which accepts a second client.
    pub fn stack_on_tcp() -> Self {
        Packs::start(&pylontech_sc0500::BRAND, &[1], ListenAddr::Tcp("127.0.0.1:0".into()), None)
    }

    fn with_port_link(brand: &'static SimBrand, addresses: &[u8]) -> Self {
        let link = fresh_name();
        let listen = ListenAddr::Terminal { link: Some(link.clone()) };
        Packs::start(brand, addresses, listen, Some(link))
    }

    /// Daren packs on a TCP port.
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
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = SimServer::open(&options).await.expect("the port opens");
                sender.send(server.port()).unwrap();
                server.serve(stopped).await.expect("the packs are served");
            });
        });
        let port = receiver.recv().expect("the server starts");
        let port = link.map_or(port, |link| link.display().to_string());
        Packs { faults, port, stop }
    }

    /// The values of the pack at this address.
    pub fn state(&self, address: u8) -> PackState {
        Bus::battery(SEED, address).state(0.0)
    }

    /// The values of the stack without faults.
    pub fn stack_state(&self) -> StackState {
        StackState::of(&mut Bus::battery(SEED, 1), pylontech_sc0500::MODULES, 0.0)
    }

    /// Replaces the faults; the list is that of `simulate --fault`.
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

/// A USB adapter: a simulator in a process of its own. Children of this process inherit its open
/// terminals, so that only the end of another process really closes one.
pub struct Adapter {
    /// The `BMS_PORT` to use.
    pub port: String,
    brand: &'static str,
    process: Option<Child>,
}

impl Adapter {
    /// With a Daren pack at address 1.
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

    /// Removes the port; a program that has it open gets a hang-up.
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

/// The program as a service.
pub struct Service {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    listen: String,
}

impl Service {
    /// Starts it with these variables and no others.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Service::start_with(variables, &format!("127.0.0.1:{}", free_port()))
    }

    /// Starts it with its HTTP server at this address.
    pub fn start_with(variables: &[(&str, &str)], listen: &str) -> Self {
        let mut service = Service::spawn(program(variables), listen, Stdio::piped());
        let stderr = service.process.stderr.take().unwrap();
        service.read_log(stderr);
        service
    }

    /// Starts it with its log in this pipe, for [`Service::read_log`].
    pub fn start_logging_to(variables: &[(&str, &str)], stderr: impl Into<Stdio>) -> Self {
        Service::start_command(program(variables), stderr)
    }

    /// Starts a command that becomes the program.
    pub fn start_command(command: Command, stderr: impl Into<Stdio>) -> Self {
        Service::spawn(command, &format!("127.0.0.1:{}", free_port()), stderr.into())
    }

    fn spawn(mut command: Command, listen: &str, stderr: Stdio) -> Self {
        command.env("HTTP_LISTEN", listen).stdout(Stdio::null()).stderr(stderr);
        let process = command.spawn().expect("the program starts");
        Service { process, log: Arc::default(), listen: listen.to_owned() }
    }

    /// Collects the lines of its log from now on.
    pub fn read_log(&self, stderr: impl Read + Send + 'static) {
        let lines = self.log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Address of its HTTP server.
    pub fn listen(&self) -> String {
        self.listen.clone()
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        self.wait_until_logged(1, text);
    }

    /// The log contains this text this number of times. A line may arrive after the messages of the broker
    /// that belong to it, because it takes another way.
    #[track_caller]
    pub fn assert_logged(&self, count: usize, text: &str) {
        self.wait_until_logged(count, text);
        assert_eq!(self.logged(text), count, "{text}:\n{}", self.log());
    }

    #[track_caller]
    fn wait_until_logged(&self, count: usize, text: &str) {
        let deadline = Instant::now() + WAIT_LIMIT;
        while self.logged(text) < count {
            assert!(Instant::now() < deadline, "{text} is not in the log:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number of lines in the log that contain this text.
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

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Status and JSON of an HTTP request; `None` while the server does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, Value)> {
        get(&self.listen, path)
    }

    /// The body of an HTTP response; empty while the server does not answer.
    pub fn text(&self, path: &str) -> String {
        body(&self.listen, path).map(|(_, body)| body).unwrap_or_default()
    }

    /// Waits until the state of a battery is as wanted.
    #[track_caller]
    pub fn wait_state(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_json(&format!("/api/devices/{id}"), what, wanted)
    }

    /// Waits until this path answers as wanted.
    #[track_caller]
    pub fn wait_json(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut last = None;
        while Instant::now() < deadline {
            if let Some((200, state)) = self.get(path) {
                if wanted(&state) {
                    return state;
                }
                last = Some(state);
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come; last state {last:#?}; log:\n{}", self.log());
    }

    /// The line of this limit in the table of the kernel: name, soft limit, hard limit.
    pub fn limit(&self, name: &str) -> String {
        let limits =
            std::fs::read_to_string(format!("/proc/{}/limits", self.process.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status and JSON of an HTTP request; `None` while nothing answers.
pub fn get(listen: &str, path: &str) -> Option<(u16, Value)> {
    let (status, body) = body(listen, path)?;
    Some((status, serde_json::from_str(&body).ok()?))
}

fn body(listen: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(listen).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The program with these variables and no others.
pub fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bms-reader"));
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs a subcommand to its end.
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

/// The JSON objects in the output, one per line.
pub fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The environment of the older container, for this port and broker.
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

/// Keys of values that change with each read although the battery does not.
const ABOUT_THE_READ: [&str; 4] =
    ["last_update", "read_duration", "read_errors", "readings_rejected"];
const ABOUT_THE_BATTERY: [&str; 4] = ["online", "raw", "meta", "alarms"];

/// A service with one battery, and everything that it publishes.
pub struct PublishedBattery {
    pub broker: Mosquitto,
    pub mqtt: Subscriber,
    pub service: Service,
    base_topic: String,
}

impl PublishedBattery {
    pub fn start(broker: Mosquitto, id: &str, variables: &[(&'static str, String)]) -> Self {
        let mqtt = broker.subscribe();
        let service = Service::start(&borrowed(variables));
        PublishedBattery { broker, mqtt, service, base_topic: format!("bms/{id}") }
    }

    pub fn topic(&self, key: &str) -> String {
        format!("{}/{key}", self.base_topic)
    }

    /// Waits for such a value of the `raw` topic.
    #[track_caller]
    pub fn wait_raw(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let topic = self.topic("raw");
        parse(&self.mqtt.wait(what, |message| message.topic == topic && wanted(&parse(message))))
    }

    /// Waits for a good read.
    #[track_caller]
    pub fn wait_good(&self) -> Value {
        self.wait_raw("a good read", |raw| raw["error"].is_null())
    }

    /// Waits for a failed read with this type of error.
    #[track_caller]
    pub fn wait_error(&self, kind: &str) -> Value {
        self.wait_raw(kind, |raw| raw["error"]["type"] == kind)
    }

    /// Waits for this many reads from now on, good or bad.
    #[track_caller]
    pub fn wait_reads(&self, count: usize) {
        for _ in 0..count {
            let topic = self.topic("raw");
            self.mqtt.discard(|message| message.topic == topic);
            self.mqtt.wait_on(&topic);
        }
    }

    /// The values of the battery that were published so far: key and payload.
    pub fn values(&self) -> Vec<(String, String)> {
        let value = |message: Message| {
            let key = message.topic.strip_prefix(&self.base_topic)?.strip_prefix('/')?;
            let is_value = !ABOUT_THE_READ.contains(&key) && !ABOUT_THE_BATTERY.contains(&key);
            is_value.then(|| (key.to_owned(), message.payload.clone()))
        };
        self.mqtt.all().into_iter().filter_map(value).collect()
    }
}

/// The payload of a message as JSON.
pub fn parse(message: &Message) -> Value {
    serde_json::from_str(&message.payload).unwrap()
}

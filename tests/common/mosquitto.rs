//! Starts a Mosquitto broker on a free port with a temporary folder, and a subscriber that records
//! every message. Tests that use it fail if Mosquitto is not installed.

#![allow(dead_code, reason = "no test crate uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Upper bound for steps that take milliseconds; only a failing test reaches it.
pub const WAIT_LIMIT: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A broker process without persistence: a restart loses all retained messages.
pub struct Mosquitto {
    folder: PathBuf,
    port: u16,
    login: Option<(String, String)>,
    process: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker that accepts anonymous clients.
    pub fn start() -> Self {
        Self::with_config("allow_anonymous true\n")
    }

    /// Starts a broker that accepts this login only.
    pub fn with_login(user: &str, password: &str) -> Self {
        let mut broker = Self::not_started();
        let file = broker.folder.join("passwords");
        let status = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&file)
            .args([user, password])
            .stderr(Stdio::null())
            .status()
            .expect("mosquitto_passwd starts");
        assert!(status.success());
        let config = format!("allow_anonymous false\npassword_file {}\n", file.display());
        broker.login = Some((user.to_owned(), password.to_owned()));
        broker.configure(&config);
        broker.restart();
        broker
    }

    /// Starts a broker with additional configuration lines.
    pub fn with_config(lines: &str) -> Self {
        let mut broker = Self::not_started();
        broker.configure(lines);
        broker.restart();
        broker
    }

    /// Picks a port and creates the folder; [`Mosquitto::restart`] starts the broker.
    pub fn not_started() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bms-reader-mosquitto-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the broker");
        let broker = Mosquitto { folder, port: free_port(), login: None, process: None };
        broker.configure("allow_anonymous true\n");
        broker
    }

    /// Replaces the configuration, which [`Mosquitto::restart`] applies.
    pub fn configure(&self, lines: &str) {
        // Started as root, Mosquitto would switch to a user that cannot write to the folder.
        let text = format!(
            "user root\npersistence false\nlog_dest file {}\nlog_type all\nlistener {} 127.0.0.1\n{lines}",
            self.log_file().display(),
            self.port
        );
        fs::write(self.folder.join("broker.conf"), text).expect("a configuration");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Deleted when the broker is dropped.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills the process. Clients receive no DISCONNECT.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts a new process and waits until it listens.
    pub fn restart(&mut self) {
        self.stop();
        let process = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.join("broker.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is needed for this test (Debian: apt install mosquitto)");
        self.process = Some(process);
        let deadline = Instant::now() + WAIT_LIMIT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the broker does not listen:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Suspends the process: connections stay open, but nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("the broker runs").id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("kill starts");
        assert!(status.success());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + WAIT_LIMIT;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        let mut command = self.client("mosquitto_pub");
        command.args(["-q", "1", "-t", topic]);
        if payload.is_empty() {
            command.arg("-n")
        } else {
            command.args(["-m", payload])
        };
        if retain {
            command.arg("-r");
        }
        assert!(command.status().expect("mosquitto_pub starts").success(), "published {topic}");
    }

    /// Publishes a retained message that is too long for an argument.
    pub fn publish_large(&self, topic: &str, payload: &str) {
        let mut command = self.client("mosquitto_pub");
        command.args(["-q", "1", "-t", topic, "-r", "-s"]).stdin(Stdio::piped());
        let mut process = command.spawn().expect("mosquitto_pub starts");
        let mut input = process.stdin.take().expect("a pipe");
        input.write_all(payload.as_bytes()).expect("mosquitto_pub reads");
        drop(input);
        assert!(process.wait().expect("mosquitto_pub ends").success(), "published {topic}");
    }

    /// Publishes the same message many times over one connection.
    pub fn publish_many(&self, topic: &str, payload: &str, count: usize) {
        let mut command = self.client("mosquitto_pub");
        command.args(["-q", "0", "-t", topic, "-l"]).stdin(Stdio::piped());
        let mut process = command.spawn().expect("mosquitto_pub starts");
        let mut input = process.stdin.take().expect("a pipe");
        let lines = format!("{payload}\n").repeat(count);
        input.write_all(lines.as_bytes()).expect("mosquitto_pub reads");
        drop(input);
        assert!(process.wait().expect("mosquitto_pub ends").success(), "published {topic}");
    }

    /// Subscribes to every topic. Retained messages are recorded as well.
    pub fn subscribe(&self) -> Subscriber {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let probe = format!("probe/{number}");
        let mut command = self.client("mosquitto_sub");
        // With QoS 1 the broker lets messages of QoS 0 overtake those of QoS 1.
        command.args(["-q", "0", "-t", "#", "-F", "%r\t%t\t%p"]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("mosquitto_sub starts");
        let output = process.stdout.take().expect("a pipe");
        let messages = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = messages.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, '\t');
                let retained = parts.next() == Some("1");
                let topic = parts.next().unwrap_or_default().to_owned();
                let payload = parts.next().unwrap_or_default().to_owned();
                let (list, added) = &*shared;
                list.lock().expect("no panic").push(Message { topic, payload, retained });
                added.notify_all();
            }
        });
        let subscriber = Subscriber { process, messages };
        // The subscription is active once a probe message arrives.
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            self.publish(&probe, "?", false);
            if subscriber
                .wait_up_to(Duration::from_millis(200), |message| message.topic == probe)
                .is_some()
            {
                break;
            }
            assert!(Instant::now() < deadline, "no subscription:\n{}", self.log());
        }
        subscriber.discard(|message| message.topic == probe);
        subscriber
    }

    pub fn retained(&self) -> Vec<Message> {
        let mut list = self.subscribe().all();
        list.retain(|message| message.retained);
        list
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).stderr(Stdio::null());
        if let Some((user, password)) = &self.login {
            command.args(["-u", user, "-P", password]);
        }
        command
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port that is free at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    /// Published before the subscription.
    pub retained: bool,
}

/// Records messages in the order in which they arrive.
pub struct Subscriber {
    process: Child,
    messages: Arc<(Mutex<Vec<Message>>, Condvar)>,
}

impl Subscriber {
    /// Returns the first recorded message that `matches`, or waits for one.
    #[track_caller]
    pub fn wait(&self, description: &str, matches: impl Fn(&Message) -> bool) -> Message {
        self.wait_up_to(WAIT_LIMIT, matches).unwrap_or_else(|| {
            let all = self.all();
            let tail = &all[all.len().saturating_sub(40)..];
            panic!("{description} did not arrive; the last messages: {tail:#?}")
        })
    }

    /// Waits for a message on this topic.
    #[track_caller]
    pub fn wait_on(&self, topic: &str) -> Message {
        self.wait(topic, |message| message.topic == topic)
    }

    #[track_caller]
    pub fn wait_for(&self, topic: &str, payload: &str) -> Message {
        let matches = |message: &Message| message.topic == topic && message.payload == payload;
        self.wait(&format!("{topic} = {payload}"), matches)
    }

    /// Like [`Subscriber::wait`]; `None` if no such message arrives within the limit.
    pub fn wait_up_to(
        &self,
        limit: Duration,
        matches: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        let deadline = Instant::now() + limit;
        let (list, added) = &*self.messages;
        let mut list = list.lock().expect("no panic");
        loop {
            if let Some(message) = list.iter().find(|message| matches(message)) {
                return Some(message.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            list = added.wait_timeout(list, left).expect("no panic").0;
        }
    }

    pub fn all(&self) -> Vec<Message> {
        self.messages.0.lock().expect("no panic").clone()
    }

    /// All payloads received on a topic.
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        self.all()
            .into_iter()
            .filter(|message| message.topic == topic)
            .map(|message| message.payload)
            .collect()
    }

    /// Index of the first message that `matches`.
    pub fn position(&self, matches: impl Fn(&Message) -> bool) -> Option<usize> {
        self.all().iter().position(matches)
    }

    /// Forgets recorded messages, so that a later wait only matches new ones.
    pub fn discard(&self, matches: impl Fn(&Message) -> bool) {
        self.messages.0.lock().expect("no panic").retain(|message| !matches(message));
    }

    pub fn clear(&self) {
        self.discard(|_| true);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

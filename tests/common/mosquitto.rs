//! A real broker for tests: its own process, port and folder, and clients to look at it from
//! outside. A test that cannot find mosquitto fails.

#![allow(dead_code, reason = "each test file uses another part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything that ought to happen at once; reached only when a test fails.
pub const WAIT_LIMIT: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The broker. It keeps nothing over a restart.
pub struct Mosquitto {
    folder: PathBuf,
    port: u16,
    login: Option<(String, String)>,
    process: Option<Child>,
}

impl Mosquitto {
    /// A broker that lets everybody in.
    pub fn start() -> Self {
        Self::with_config("allow_anonymous true\n")
    }

    /// A broker that wants this login.
    pub fn with_login(user: &str, password: &str) -> Self {
        let mut broker = Self::prepared();
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

    /// A broker with these further lines in its configuration.
    pub fn with_config(lines: &str) -> Self {
        let mut broker = Self::prepared();
        broker.configure(lines);
        broker.restart();
        broker
    }

    /// A folder and a port, and nobody there yet.
    pub fn prepared() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bms-reader-mosquitto-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder for the broker");
        let broker = Mosquitto { folder, port: free_port(), login: None, process: None };
        broker.configure("allow_anonymous true\n");
        broker
    }

    /// Replaces the configuration; in force after the next [`Mosquitto::restart`].
    pub fn configure(&self, lines: &str) {
        // `user` matters only where the test runs as root.
        let text = format!(
            "user root\npersistence false\nlog_dest file {}\nlog_type all\nlistener {} 127.0.0.1\n{lines}",
            self.log_file().display(),
            self.port
        );
        fs::write(self.folder.join("broker.conf"), text).expect("a configuration");
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder that lives as long as the broker.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills it; its clients get no goodbye and everything retained is lost.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it (again), empty.
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

    /// Stops its process in its tracks: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// The opposite.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("the broker runs").id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("kill starts");
        assert!(status.success());
    }

    /// What the broker wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Waits until the broker has written this.
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

    /// Publishes one message from outside.
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

    /// Hears everything from now on, and what is retained.
    pub fn subscribe(&self) -> Subscriber {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let probe = format!("probe/{number}");
        let mut command = self.client("mosquitto_sub");
        // With QoS 1 the broker would let unconfirmed messages overtake confirmed ones.
        command.args(["-q", "0", "-t", "#", "-F", "%r\t%t\t%p"]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("mosquitto_sub starts");
        let output = process.stdout.take().expect("a pipe");
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = heard.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut parts = line.splitn(3, '\t');
                let retained = parts.next() == Some("1");
                let topic = parts.next().unwrap_or_default().to_owned();
                let payload = parts.next().unwrap_or_default().to_owned();
                let (list, news) = &*shared;
                list.lock().expect("no panic").push(Message { topic, payload, retained });
                news.notify_all();
            }
        });
        let subscriber = Subscriber { process, heard };
        // The subscription takes its time; a probe that comes back proves it.
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            self.publish(&probe, "?", false);
            if subscriber.wait_up_to(Duration::from_millis(200), |it| it.topic == probe).is_some() {
                break;
            }
            assert!(Instant::now() < deadline, "no subscription:\n{}", self.log());
        }
        subscriber.forget(|it| it.topic == probe);
        subscriber
    }

    /// What a newcomer finds: the retained messages.
    pub fn retained(&self) -> Vec<Message> {
        let mut list = self.subscribe().all();
        list.retain(|heard| heard.retained);
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

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// One message as a subscriber saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: String,
    /// It lay there before the subscription.
    pub retained: bool,
}

/// Collects messages in their order.
pub struct Subscriber {
    process: Child,
    heard: Arc<(Mutex<Vec<Message>>, Condvar)>,
}

impl Subscriber {
    /// Waits until such a message has come (or finds it among the earlier ones).
    #[track_caller]
    pub fn wait(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.wait_up_to(WAIT_LIMIT, wanted).unwrap_or_else(|| {
            let all = self.all();
            let tail = &all[all.len().saturating_sub(40)..];
            panic!("{what} did not come; the last messages: {tail:#?}")
        })
    }

    /// Waits for a message on this topic.
    #[track_caller]
    pub fn wait_on(&self, topic: &str) -> Message {
        self.wait(topic, |message| message.topic == topic)
    }

    /// Waits for this payload on this topic.
    #[track_caller]
    pub fn wait_for(&self, topic: &str, payload: &str) -> Message {
        let wanted = |heard: &Message| heard.topic == topic && heard.payload == payload;
        self.wait(&format!("{topic} = {payload}"), wanted)
    }

    /// The same with another limit; `None` when it did not come.
    pub fn wait_up_to(
        &self,
        limit: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        let deadline = Instant::now() + limit;
        let (list, news) = &*self.heard;
        let mut list = list.lock().expect("no panic");
        loop {
            if let Some(heard) = list.iter().find(|heard| wanted(heard)) {
                return Some(heard.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            list = news.wait_timeout(list, left).expect("no panic").0;
        }
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Message> {
        self.heard.0.lock().expect("no panic").clone()
    }

    /// The payloads on one topic so far.
    pub fn on(&self, topic: &str) -> Vec<String> {
        self.all().into_iter().filter(|it| it.topic == topic).map(|it| it.payload).collect()
    }

    /// Where the first such message stands among all.
    pub fn position(&self, wanted: impl Fn(&Message) -> bool) -> Option<usize> {
        self.all().iter().position(wanted)
    }

    /// Drops such messages, so that later ones can be told from them.
    pub fn forget(&self, unwanted: impl Fn(&Message) -> bool) {
        self.heard.0.lock().expect("no panic").retain(|heard| !unwanted(heard));
    }

    /// Drops everything.
    pub fn clear(&self) {
        self.forget(|_| true);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

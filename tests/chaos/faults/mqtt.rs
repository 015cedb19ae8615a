//! Another user of the broker, who publishes anything on every topic that the program reads.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::{CLIENT_ID, Rig};

/// Upper bound for an answer of the broker.
const TIMEOUT: Duration = Duration::from_millis(500);

/// More than the program accepts on any topic.
const OVERSIZED: usize = 1_100_000;

/// None of them is a valid command, and the program publishes none of them.
const JUNK: &[&str] = &[
    "999999.5",
    "-1",
    "nan",
    "1e400",
    "{",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "null",
    "[null]",
    "\u{0}\u{7f}\u{fffd}",
    r#"{"address": 7, "poll_interval_s": -1, "timeout_s": "x"}"#,
    r#"{"poll_interval_s": 1e300}"#,
    r#"[{"battery": "junk", "name": "<b>junk</b>", "words": 7}]"#,
    r#"{"o": {"name": "bms-reader"}, "components": {"junk": {"platform": "x/#"}}}"#,
    r#"{"unique_id": "junk", "o": {"name": "bms-reader"}}"#,
];

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "mqtt", apply }
}

pub const FAULTS: &[Fault] = &[
    fault("flood of read commands", |rig, random| {
        let topic = format!("bms/{}/cmd/read", random_id(rig, random));
        flood(rig, topic, "x")
    }),
    fault("flood of invalid commands", |rig, random| {
        let topic = format!("bms/{}/cmd/config", random_id(rig, random));
        flood(rig, topic, random.pick(JUNK))
    }),
    fault("flood of birth messages", |rig, _| {
        flood(rig, "homeassistant/status".to_owned(), "online")
    }),
    fault("oversized retained messages", |rig, random| {
        let topics = subscribed_topics(&random_id(rig, random));
        retain(rig, topics, |_| vec!["x".repeat(OVERSIZED)])
    }),
    fault("junk on every topic", |rig, random| {
        let all = rig.ids.iter();
        let topics = all.flat_map(|id| subscribed_topics(id)).collect();
        let first = random.below(JUNK.len() as u64) as usize;
        retain(rig, topics, move |number| {
            // A different one remains retained on each topic.
            let junk = JUNK.iter().cycle().skip(first + number).take(JUNK.len());
            junk.map(|junk| (*junk).to_owned()).collect()
        })
    }),
];

fn random_id(rig: &Rig, random: &mut Random) -> String {
    rig.ids[random.below(rig.ids.len() as u64) as usize].clone()
}

/// The topics that the program reads of a battery, and those that all share.
fn subscribed_topics(id: &str) -> Vec<String> {
    let discovery = ["sensor/{}/soc", "button/{}/junk", "device/{}", "device/{}/module_3"];
    let discovery =
        discovery.map(|path| format!("homeassistant/{}/config", path.replace("{}", id)));
    let own = ["cmd/read", "cmd/config", "cmd/charging", "cmd/junk", "alarms", "energy_charged"];
    let own = own.map(|key| format!("bms/{id}/{key}"));
    let shared = ["homeassistant/status".into(), format!("bms/bridge/{CLIENT_ID}/ping")];
    [&discovery[..], &own, &shared].concat()
}

/// Thousands of the same message, again and again.
fn flood(rig: &Rig, topic: String, payload: &'static str) -> Undo {
    rig.observer.ignore(payload);
    let port = rig.broker.port();
    super::repeat(move || {
        // The broker may have a fault, too.
        let _ = Publisher::connect(port).and_then(|mut publisher| {
            for _ in 0..2000 {
                publisher.publish(&topic, payload.as_bytes(), false)?;
            }
            publisher.finish()
        });
        thread::sleep(Duration::from_millis(100));
    })
}

/// Retains these payloads one after the other on each topic. The last ones stay there.
fn retain(rig: &Rig, topics: Vec<String>, payloads: impl Fn(usize) -> Vec<String>) -> Undo {
    let port = rig.broker.port();
    let messages: Vec<(String, String)> = topics
        .iter()
        .enumerate()
        .flat_map(|(number, topic)| {
            payloads(number).into_iter().map(|payload| (topic.clone(), payload))
        })
        .collect();
    messages.iter().for_each(|(_, payload)| rig.observer.ignore(payload));
    let publish = move || {
        let mut publisher = Publisher::connect(port)?;
        for (topic, payload) in &messages {
            publisher.publish(topic, payload.as_bytes(), true)?;
        }
        publisher.finish()
    };
    let mut is_done = false;
    super::repeat(move || {
        is_done = is_done || publish().is_ok();
        thread::sleep(Duration::from_millis(100));
    })
}

/// A connection to the broker that only publishes.
struct Publisher(TcpStream);

impl Publisher {
    fn connect(port: u16) -> io::Result<Publisher> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // MQTT 3.1.1, a clean session, no keep-alive, no client id.
        stream.write_all(&packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0\0\0".as_slice()]))?;
        stream.read_exact(&mut [0; 4])?;
        Ok(Publisher(stream))
    }

    fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> io::Result<()> {
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let parts = [&length[..], topic.as_bytes(), payload];
        self.0.write_all(&packet(0x30 | u8::from(retain), &parts))
    }

    /// Waits until the broker has taken everything.
    fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&packet(0xC0, &[]))?;
        self.0.read_exact(&mut [0; 2])
    }
}

fn packet(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut rest: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let more = if rest >= 128 { 0x80 } else { 0 };
        packet.push((rest % 128) as u8 | more);
        rest /= 128;
        if rest == 0 {
            break;
        }
    }
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

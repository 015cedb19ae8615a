//! `counts WORKLOAD COUNT` does the same work that often. What one repetition costs is the difference between two
//! counts: instructions, allocations and memory under valgrind (`benches/counts.py`), or time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for developers"
)]

mod broker;

use std::time::{Duration, Instant};

use bms_reader::board::Board;
use bms_reader::clock;
use bms_reader::command::CommandBus;
use bms_reader::model::derived_state::DerivedState;
use bms_reader::model::{
    AlarmThresholds, DeviceId, DeviceState, EnergySource, Milliamps, Profile, Reading, Uptime,
};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Driver, Options, Step, drivers};
use bms_reader::sink::mqtt;
use bms_reader::tasks::Tasks;
use tokio_util::sync::CancellationToken;

type Bytes = Vec<u8>;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(workload), Some(count)) = (arguments.next(), arguments.next()) else { return };
    let count: usize = count.parse().expect("a count");
    let nanoseconds = match workload.as_str() {
        "decode-jk" => Battery::jk().read_often(count),
        "decode-jbd" => Battery::jbd().read_often(count),
        "publish-changed" => publish(1, count, true),
        "publish-rest" => publish(1, count, false),
        "batteries" => publish(count, 1, true),
        other => panic!("unknown workload {other}"),
    };
    println!("{}", nanoseconds / count as u128);
}

/// A driver, and what its battery answers.
struct Battery {
    driver: Box<dyn Driver>,
    replies: Vec<(Bytes, Vec<Bytes>)>,
    /// Sent while the driver waits for something that it did not request.
    stream: Vec<Bytes>,
}

impl Battery {
    fn new(brand: &str, medium: Medium, replies: Vec<(Bytes, Vec<Bytes>)>) -> Self {
        let info = drivers().iter().find(|info| info.name == brand).expect("a brand");
        let driver = info.driver(&Options { medium, ..Options::default() });
        Battery { driver, replies, stream: Vec::new() }
    }

    fn jk() -> Self {
        let vector = |id| vector(include_str!("../tests/vectors/jk.json"), id);
        let (request, cells) = vector("jk02_32s_pb2a16s20p_v15_cell");
        let (_, settings) = vector("jk02_32s_pb2a16s20p_v15_settings");
        let replies = vec![
            vector("jk02_32s_pb2a16s20p_v15_devinfo"),
            (request, [settings, cells.clone()].concat()),
        ];
        Battery { stream: cells, ..Battery::new("jk", Medium::Ble, replies) }
    }

    fn jbd() -> Self {
        let vector = |id| vector(include_str!("../tests/vectors/jbd.json"), id);
        let (basic, cells) =
            ("jbd_16s_ble_basic_three_notifications", "jbd_16s_ble_cells_two_notifications");
        Battery::new("jbd", Medium::Serial, vec![vector(basic), vector(cells)])
    }

    /// Nanoseconds for that many reads of the same session.
    fn read_often(mut self, count: usize) -> u128 {
        for _ in 0..20 {
            self.read();
        }
        let began = Instant::now();
        for _ in 0..count {
            std::hint::black_box(self.read());
        }
        began.elapsed().as_nanos()
    }

    fn read(&mut self) -> Reading {
        let Battery { driver, replies, stream } = self;
        driver.start(CycleKind::Read);
        let mut pending: Option<&[Bytes]> = None;
        for _ in 0..100 {
            match driver.step() {
                Step::Pause(_) => driver.advance(),
                Step::Send(bytes) => {
                    let reply = replies.iter().find(|(request, _)| *request == bytes);
                    pending = reply.map(|(_, chunks)| &chunks[..]);
                    driver.advance();
                }
                Step::Await(_) => match pending.take().or(Some(&stream[..])) {
                    Some(chunks) if !chunks.is_empty() => {
                        chunks.iter().for_each(|chunk| driver.receive(chunk));
                    }
                    _ => driver.handle_timeout(),
                },
                Step::Done(reading) => return *reading,
                Step::Failed(error) => panic!("{error}"),
            }
        }
        panic!("the read does not end");
    }
}

/// Request and reply of a recorded exchange, the reply in notifications of at most 20 bytes.
fn vector(file: &str, id: &str) -> (Bytes, Vec<Bytes>) {
    let file: serde_json::Value = serde_json::from_str(file).expect("JSON");
    let all = file["vectors"].as_array().expect("vectors");
    let vector = all.iter().find(|vector| vector["id"] == id).expect("a vector");
    let bytes = |value: &serde_json::Value| -> Bytes {
        let text = value.as_str().unwrap_or_default().replace(' ', "");
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
        (0..text.len()).step_by(2).map(byte).collect()
    };
    let reply = match vector["notifications_hex"].as_array() {
        Some(notifications) => notifications.iter().map(bytes).collect(),
        None => bytes(&vector["response_hex"]).chunks(20).map(<[u8]>::to_vec).collect(),
    };
    (bytes(&vector["request_hex"]), reply)
}

/// Nanoseconds in which each of `batteries` publishes `reads` reads to a broker in this process.
fn publish(batteries: usize, reads: usize, changing: bool) -> u128 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let reading = Battery::jk().read();
        let ids = (0..batteries).map(|n| DeviceId::new(&format!("pack{n}")).expect("an id"));
        let board = Board::new(ids.map(|id| Profile::new(id, "jk", "JK")));
        let (port, mut raw_messages) = broker::start().await;
        let (commands, _inboxes) = CommandBus::new(&[]);
        let task = Tasks::default().register("mqtt", &CancellationToken::new());
        let file_restored = CancellationToken::new();
        file_restored.cancel();
        tokio::spawn(mqtt::run(settings(port), board.clone(), commands, file_restored, task));
        let mut publisher = PublishedReads::new(&board, reading, changing);
        // The first read is announced to Home Assistant.
        for number in 0..10 {
            publisher.read(number, &mut raw_messages).await;
        }
        let began = Instant::now();
        for number in 0..reads {
            publisher.read(10 + number, &mut raw_messages).await;
        }
        began.elapsed().as_nanos()
    })
}

struct PublishedReads {
    board: Board,
    reading: Reading,
    changing: bool,
    derived: Vec<DerivedState>,
    raw_messages: u64,
}

impl PublishedReads {
    fn new(board: &Board, reading: Reading, changing: bool) -> Self {
        let derived = board.devices().map(|_| DerivedState::new(AlarmThresholds::default()));
        let derived = derived.collect();
        for id in board.devices() {
            board.restore(id, None, EnergySource::File);
        }
        PublishedReads { board: board.clone(), reading, changing, derived, raw_messages: 0 }
    }

    /// Each battery is read once, and published.
    async fn read(&mut self, number: usize, raw_messages: &mut broker::Count) {
        let change = if self.changing { (number % 7) as i32 } else { 0 };
        for (id, derived) in self.board.devices().zip(&mut self.derived) {
            let mut reading = self.reading.clone();
            for cell in &mut reading.cells {
                cell.voltage.iter_mut().for_each(|voltage| voltage.0 += change);
                cell.resistance.iter_mut().for_each(|resistance| resistance.0 += change * 1000);
            }
            reading.probes.iter_mut().flat_map(|it| &mut it.value).for_each(|it| it.0 += change);
            let pack = &mut reading.pack;
            pack.voltage.iter_mut().for_each(|voltage| voltage.0 += change * 10);
            pack.current = Some(Milliamps(change * 100));
            pack.soc.iter_mut().for_each(|soc| soc.0 -= change * 10);
            let at = Uptime(1000 * number as u64);
            let derived = derived.derive(&reading, at, 1000);
            self.board.update(id, |state: &mut DeviceState| {
                state.record_attempt(clock::now(), 100, true, None);
                state.accept((clock::now(), clock::uptime()), 100, reading, derived);
            });
        }
        self.raw_messages += self.derived.len() as u64;
        let all = self.raw_messages;
        // Messages of a battery that was read twice before it was published are lost.
        raw_messages.wait_for(|count| *count >= all).await.expect("a broker");
    }
}

fn settings(port: u16) -> mqtt::Settings {
    mqtt::Settings {
        supervisor: None,
        host: "127.0.0.1".to_owned(),
        port,
        login: None,
        client_id: "counts".to_owned(),
        keep_alive: Duration::from_secs(3600),
        version: mqtt::Version::V311,
        tls: None,
        base_topic: "bms/{id}".to_owned(),
        discovery_prefix: "homeassistant".to_owned(),
        discovery: mqtt::Discovery::Entity,
        publish: mqtt::Publish::Changes(Duration::from_secs(3600)),
        allow_config: false,
        remote_config: false,
        dashboard: None,
        ingress: None,
        victron: Default::default(),
        backfill: None,
    }
}

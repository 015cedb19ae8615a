//! The first publication, and the pauses on a bus, with real drivers and simulated batteries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::model::DeviceId;
use bms_reader::poll::{Line, LineMember, run_line};
use bms_reader::protocol::{Options, find};
use bms_reader::sim::{Bus, Faults, SimBrand, brands};
use bms_reader::tasks::Tasks;
use bms_reader::transport::{LinkConfig, MemoryPort};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::fixture::{id, member, profile};

/// A request as the bus received it.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    request: Vec<u8>,
    /// The number of good reads of each battery at this moment.
    reads: Vec<u64>,
}

/// Time from a request to its reply.
const REPLY: Duration = Duration::from_millis(3);

fn sim(name: &str) -> &'static SimBrand {
    brands().iter().find(|brand| brand.name == name).unwrap()
}

/// The requests on a bus of this brand in half a minute, in which every battery is read a few times.
async fn requests(brand: &str, addresses: &[u8]) -> (Vec<Seen>, Board) {
    let members: Vec<_> = addresses
        .iter()
        .map(|&address| LineMember {
            driver: find(brand),
            options: Options { address, ..Options::default() },
            ..member(address)
        })
        .collect();
    let ids: Vec<DeviceId> = addresses.iter().map(|address| id(*address)).collect();
    let board = Board::new(ids.iter().map(profile));
    let mut bus = Bus::with_batteries(sim(brand), addresses, 1, Faults::default());
    let (port, mut arrivals) = MemoryPort::new("line");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, states) = (seen.clone(), board.clone());
    tokio::spawn(async move {
        while let Some(mut link) = arrivals.recv().await {
            while let Ok(request) = link.receive().await {
                let reads =
                    ids.iter().map(|id| states.latest(id).unwrap().counters.reads).collect();
                log.lock().unwrap().push(Seen {
                    at: Instant::now(),
                    request: request.clone(),
                    reads,
                });
                sleep(REPLY).await;
                let _ = link.send(&bus.reply(&request, 0.0)).await;
            }
        }
    });
    let task = Tasks::default().register("line", &CancellationToken::new());
    let (_commands, mut inboxes) = bms_reader::command::CommandBus::new(&[Vec::new()]);
    let line = Line::new(LinkConfig::Memory(port), members);
    tokio::spawn(run_line(line, board.clone(), inboxes.remove(0), task));
    sleep(Duration::from_secs(28)).await;
    let seen = seen.lock().unwrap().clone();
    (seen, board)
}

fn is_live(seen: &Seen) -> bool {
    // Service 42 of Daren.
    seen.request.get(7..9) == Some(b"42")
}

#[tokio::test(start_paused = true)]
async fn first_values_of_every_battery_precede_the_identity_of_any() {
    let began = Instant::now();
    let (seen, board) = requests("daren", &[1, 2, 3]).await;
    assert!(seen[..3].iter().all(is_live), "{seen:?}");
    assert_eq!(seen[0].at, began, "no pause on a line on which nothing was sent");
    let identity = seen.iter().find(|seen| !is_live(seen)).unwrap();
    assert_eq!(identity.reads, [1, 1, 1]);
    for address in [1, 2, 3] {
        let snapshot = board.latest(&id(address)).unwrap().snapshot.unwrap();
        assert!(snapshot.reading.identity.serial.is_some() && !snapshot.reading.live_only);
    }
    // Three first reads, three with four more requests, and then two of each battery.
    assert_eq!(seen.len(), 3 + 3 * 5 + 3 * 2);
}

#[tokio::test(start_paused = true)]
async fn request_waits_only_for_the_rest_of_the_pause() {
    let (seen, _) = requests("daren", &[1]).await;
    let waits: Vec<_> = seen.windows(2).map(|pair| pair[1].at - pair[0].at - REPLY).collect();
    let (pauses, intervals): (Vec<_>, Vec<_>) =
        waits.into_iter().partition(|wait| *wait < Duration::from_secs(1));
    assert_eq!(pauses.len(), 5);
    let pause = Duration::from_millis(10)..=Duration::from_millis(11);
    assert!(pauses.iter().all(|time| pause.contains(time)), "after a reply: {pauses:?}");
    assert_eq!(intervals.len(), 2);
    let interval = Duration::from_secs(10);
    let published = seen[0].at + REPLY;
    let later: Vec<_> = seen[6..].iter().map(|read| read.at - published).collect();
    assert_eq!(later, [interval, interval * 2], "no pause after seconds of silence");
}

/// The longest pauses that a source asks for.
#[tokio::test(start_paused = true)]
async fn pause_of_a_brand_is_kept_after_a_fast_reply() {
    for (brand, address, pause) in [("seplos-v3", 0, 200), ("daly", 1, 20), ("jbd", 1, 10)] {
        let (seen, _) = requests(brand, &[address]).await;
        let waits = seen.windows(2).map(|pair| pair[1].at - pair[0].at - REPLY);
        let shortest = waits.min().unwrap();
        // The paused clock advances by whole milliseconds.
        let expected = Duration::from_millis(pause)..=Duration::from_millis(pause + 1);
        assert!(expected.contains(&shortest), "{brand}: {shortest:?}");
    }
}

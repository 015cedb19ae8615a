use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::feed::MAX_CHUNK;
use super::*;
use crate::model::Profile;

fn board() -> Board {
    Board::new(["a", "b"].map(Profile::sample))
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// A new reading; its number is that of the battery.
fn read(board: &Board, backfill: &Backfill, name: &str) {
    board.update(&id(name), |state| {
        let now = (clock::now(), clock::uptime());
        state.accept(now, 250, Default::default(), Default::default());
    });
    backfill.add(&[board.latest(&id(name)).unwrap()]);
}

async fn backfill(mode: Mode) -> (Board, Arc<Backfill>, Feed) {
    let (board, backfill) = (board(), Arc::new(Backfill::new(mode)));
    backfill.restore(&board).await;
    let feed = Feed::new(backfill.clone(), board.devices().cloned());
    (board, backfill, feed)
}

fn waiting(backfill: &Backfill) -> usize {
    backfill.lock().waiting.len()
}

fn chunk(feed: &Feed) -> Option<(String, usize)> {
    let chunk = feed.backfill.chunk(MAX_CHUNK, |device, sequence| feed.is_due(device, sequence))?;
    Some((chunk.device, chunk.numbers.len()))
}

fn publish(feed: &mut Feed, battery: usize, sequence: u64, is_live: bool) {
    let live = &mut feed.live[battery];
    live.published = sequence;
    live.unconfirmed.extend(is_live.then_some(sequence));
}

#[tokio::test]
async fn row_has_time_numbers_and_flags() {
    let (board, backfill, _) = backfill(Mode::All).await;
    read(&board, &backfill, "a");
    let chunk = backfill.chunk(MAX_CHUNK, |_, _| true).unwrap();
    let row: serde_json::Value = serde_json::from_str(&chunk.rows).unwrap();
    let state = board.latest(&id("a")).unwrap();
    assert_eq!(row["ts"], state.snapshot.as_ref().unwrap().taken.0);
    assert_eq!(row["values"]["read_duration"], 250.0);
    assert!(
        row["values"].as_object().unwrap().values().all(|it| it.is_number() || it.is_boolean())
    );
}

#[tokio::test]
async fn only_readings_that_the_broker_has_not_confirmed_are_missed() {
    let (board, backfill, mut feed) = backfill(Mode::Missed).await;
    (0..3).for_each(|_| read(&board, &backfill, "a"));
    assert_eq!(chunk(&feed), None, "they will be published live");
    publish(&mut feed, 0, 3, true);
    assert_eq!(chunk(&feed), Some(("a".into(), 2)));
    let (_, delivered) = oneshot::channel();
    feed.confirm_later(delivered);
    feed.finish_live();
    assert_eq!(waiting(&backfill), 2, "the last one is confirmed");
    // One reading is replaced on the board before it is published.
    read(&board, &backfill, "a");
    read(&board, &backfill, "a");
    publish(&mut feed, 0, 5, true);
    assert_eq!(chunk(&feed), Some(("a".into(), 3)));
    // The connection is lost before the last one is confirmed.
    let mut feed = Feed::new(backfill.clone(), board.devices().cloned());
    publish(&mut feed, 0, 5, false);
    assert_eq!(chunk(&feed), Some(("a".into(), 4)));
}

#[tokio::test]
async fn chunks_have_one_battery_and_limits() {
    let (board, backfill, _) = backfill(Mode::All).await;
    for number in 0..300 {
        read(&board, &backfill, if number % 3 == 0 { "b" } else { "a" });
    }
    let mut sizes = BTreeMap::new();
    let mut last = BTreeMap::new();
    while let Some(chunk) = backfill.chunk(MAX_CHUNK, |_, _| true) {
        assert!(chunk.rows.len() <= MAX_CHUNK && chunk.numbers.len() <= MAX_ROWS);
        assert!(chunk.numbers.is_sorted());
        let before = last.insert(chunk.device.clone(), *chunk.numbers.last().unwrap());
        assert!(before.is_none_or(|before| before < chunk.numbers[0]), "oldest first");
        *sizes.entry(chunk.device).or_insert(0) += chunk.numbers.len();
        backfill.confirm(&chunk.numbers);
    }
    assert_eq!(sizes, BTreeMap::from([("a".to_owned(), 200), ("b".to_owned(), 100)]));
    assert_eq!((backfill.lock().bytes, backfill.counts.written.load(Relaxed)), (0, 300));
    read(&board, &backfill, "a");
    assert_eq!(backfill.chunk(1, |_, _| true).unwrap().numbers.len(), 1, "whatever its size");
}

#[tokio::test]
async fn memory_is_bounded_and_the_oldest_make_room() {
    let (board, backfill, _) = backfill(Mode::All).await;
    for _ in 0..MAX_BYTES / OVERHEAD {
        read(&board, &backfill, "a");
    }
    let dropped = backfill.counts.dropped.load(Relaxed) as usize;
    assert!(backfill.lock().bytes <= MAX_BYTES);
    assert_eq!(waiting(&backfill) + dropped, MAX_BYTES / OVERHEAD);
    assert!(backfill.lock().waiting.first_key_value().unwrap().0 >= &(FIRST + dropped as u64));
}

#[tokio::test]
async fn rows_of_the_last_run_come_first() {
    let (board, backfill) = (board(), Arc::new(Backfill::new(Mode::Missed)));
    let unsent = Arc::new(Unsent::new("mqtt"));
    backfill.unsent.set(unsent.clone()).unwrap();
    read(&board, &backfill, "a");
    let mut feed = Feed::new(backfill.clone(), board.devices().cloned());
    publish(&mut feed, 0, 1, false);
    assert_eq!(chunk(&feed), None, "the order is not known yet");
    let now = clock::now().0;
    let lines = format!("{now} a {{\"ts\":1}}\n{now} gone {{\"ts\":2}}\n{now} a {{\"ts\":3}}\n");
    unsent.restore_for_test(&[(1, lines)]);
    backfill.restore(&board).await;
    let chunk =
        backfill.chunk(MAX_CHUNK, |device, sequence| feed.is_due(device, sequence)).unwrap();
    assert!(chunk.rows.starts_with(r#"{"ts":1},{"ts":3},{"ts":"#), "{}", chunk.rows);
    assert_eq!(chunk.numbers.len(), 3);
}

#[tokio::test]
async fn slow_acknowledgements_make_chunks_smaller() {
    let (.., mut feed) = backfill(Mode::All).await;
    let mut acknowledge = |after: u64| {
        let (_, receiver) = oneshot::channel();
        let since = Instant::now();
        feed.sending = Some((receiver, Vec::new(), since));
        feed.finish_chunk(since + Duration::from_millis(after));
        feed.max_chunk
    };
    assert_eq!(
        [10, 10, 10, 500, 1500, 1500].map(&mut acknowledge),
        [4096, 8192, 8192, 8192, 4096, 2048]
    );
    (0..20).for_each(|_| {
        acknowledge(5000);
    });
    assert_eq!(acknowledge(5000), 1, "a single reading");
}

#[test]
fn thingsboard_gets_the_rows_under_the_name_of_the_battery() {
    for (mode, payload) in [(Mode::All, "[1,2]"), (Mode::ThingsBoard, r#"{"a":[1,2]}"#)] {
        let chunk = Chunk { device: "a".into(), rows: "1,2".into(), numbers: vec![1, 2] };
        let feed = Feed::new(Arc::new(Backfill::new(mode)), std::iter::empty());
        assert_eq!(feed.outgoing(chunk).payload, payload);
    }
}

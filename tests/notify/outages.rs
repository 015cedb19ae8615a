//! The sink with a board: what arrives in the end, whatever the servers do.

use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::model::derive::derive;
use bms_reader::model::{Alarm, DeviceId, Millis, Profile, Reading, Uptime};
use bms_reader::sink::notify::{Settings, Target, run};
use bms_reader::tls::Tls;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::receiver::{ACCEPTED, Answer, Receiver};
use crate::{SERVICES, target};

/// Upper bound for a few attempts with pauses between them; only a failing test reaches it.
const LIMIT: Duration = Duration::from_secs(60);

struct Sink {
    board: Board,
    ids: Vec<DeviceId>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sink {
    fn start(targets: Vec<Target>, batteries: usize) -> Self {
        let ids: Vec<_> =
            (0..batteries).map(|it| DeviceId::new(&format!("rack{it}")).unwrap()).collect();
        let board = Board::new(ids.iter().map(|id| Profile::new(id.clone(), "daren", "Daren")));
        let settings = Settings { targets, tls: Tls::default(), daily: None, zone: None };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(settings, board.clone(), stop.clone().into()));
        Sink { board, ids, stop, task }
    }

    fn alarm(&self, battery: usize, active: bool) {
        let mut reading = Reading::default();
        reading.alarms.note(Alarm::FuseBlown, active);
        let derived = derive(&reading);
        let read_at = Uptime(u64::MAX / 2);
        self.board.update(&self.ids[battery], |state| {
            state.accept((Millis(0), read_at), 1, reading, derived);
        });
    }

    fn counts(&self) -> [u64; 3] {
        let counts = self.board.notifications.get().unwrap();
        [&counts.sent, &counts.failed, &counts.left_out].map(|count| count.load(Relaxed))
    }

    async fn wait_sent(&self, count: u64) {
        let sent = async {
            while self.board.notifications.get().is_none() || self.counts()[0] < count {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, sent).await.unwrap_or_else(|_| panic!("{:?}", self.counts()));
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(1), self.task).await.expect("the sink stops at once").unwrap();
    }
}

const FAILED: Answer = Answer::Http("500 Internal Server Error", "");

#[tokio::test]
async fn message_arrives_once_after_errors_and_a_hung_server_delays_only_itself() {
    let answers: [&[Answer]; 5] = [
        &[ACCEPTED],
        &[FAILED, ACCEPTED],
        &[Answer::Http("429 Too Many Requests\r\nRetry-After: 6", ""), ACCEPTED],
        &[Answer::Http("404 Not Found", ""), ACCEPTED],
        &[Answer::Hang],
    ];
    let receivers = answers.map(Receiver::start);
    let targets = receivers.iter().map(|receiver| target(SERVICES[0].0, receiver.port(), false));
    let sink = Sink::start(targets.collect(), 1);
    sink.alarm(0, true);
    sink.wait_sent(4).await;
    for (receiver, count) in receivers.iter().zip([1, 2, 2, 2, 1]) {
        let requests = receiver.requests();
        assert_eq!(requests.len(), count);
        let text = "Alarm: rack0: fuse blown (BMS fault)";
        assert!(requests.iter().all(|request| request.text() == text), "{requests:?}");
        assert_eq!(requests[0].body["priority"], 5);
    }
    let [limited, failed] = [2, 1].map(|number: usize| {
        let requests = receivers[number].requests();
        requests[1].at - requests[0].at
    });
    assert!(limited >= Duration::from_secs(6), "the server asked for 6 s: {limited:?}");
    assert!(failed >= Duration::from_millis(2500), "{failed:?}");
    assert_eq!(sink.counts(), [4, 3, 0]);
    sink.stop().await;
}

#[tokio::test]
async fn events_of_an_outage_arrive_as_one_message_that_counts_what_was_left_out() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sink = Sink::start(vec![target(SERVICES[1].0, port, false)], 60);
    (0..60).for_each(|battery| sink.alarm(battery, true));
    let failed = async {
        while sink.board.notifications.get().is_none() || sink.counts()[1] == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, failed).await.expect("an attempt fails");
    let receiver = Receiver::start_at(port, &[ACCEPTED]);
    sink.wait_sent(3).await;
    let requests = receiver.requests();
    let lines: usize =
        requests.iter().map(|request| request.text().matches("fuse blown").count()).sum();
    assert_eq!((requests.len(), lines), (3, 50));
    let first = requests[0].text();
    assert!(first.starts_with("Batteries: 20 changes: Alarm: rack"), "{first}");
    assert!(first.ends_with("\n10 earlier messages were left out."), "{first}");
    assert!(!requests[1].text().contains("left out"));
    assert_eq!(sink.counts()[2], 10);
    sink.stop().await;
}

#[tokio::test]
async fn flapping_alarm_sends_few_messages_and_a_webhook_gets_each_event() {
    let receiver = Receiver::start(&[ACCEPTED]);
    let sink = Sink::start(vec![target(SERVICES[3].0, receiver.port(), false)], 2);
    for number in 0..40_u64 {
        sink.alarm(0, number % 2 == 0);
        // A state that is replaced before the sink runs is no event.
        sink.wait_sent((number + 1).min(4)).await;
        tokio::task::yield_now().await;
    }
    sink.alarm(1, true);
    sink.wait_sent(5).await;
    let events: Vec<_> = receiver.requests().into_iter().map(|request| request.body).collect();
    let names: Vec<_> =
        events.iter().map(|it| (it["battery"].clone(), it["event"].clone())).collect();
    let [started, ended] = ["alarm_started", "alarm_ended"];
    let expected = [
        ("rack0", started),
        ("rack0", ended),
        ("rack0", started),
        ("rack0", ended),
        ("rack1", started),
    ];
    assert_eq!(names, expected.map(|(battery, event)| (battery.into(), event.into())));
    assert_eq!(events[0]["type"], "failure");
    assert_eq!(events[0]["alarm"]["name"], "fuse_blown");
    assert_eq!(events[1]["type"], "success");
    sink.stop().await;
}

use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock;
use crate::model::bank::Wiring;
use crate::model::derive::derive;
use crate::model::{EnergySource, EnergyTotals, Milliamps, Millis, Profile, Reading};

/// A bank of `a` (read every 10 s) and `b` (every 30 s).
struct TestBank {
    board: Board,
    commands: CommandBus,
    inboxes: Vec<CommandInbox>,
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a good id")
}

impl TestBank {
    fn start() -> Self {
        let profile = |name: &str, interval_ms| Profile { interval_ms, ..Profile::sample(name) };
        let bank = config::Bank {
            profile: profile("bank", 30_000),
            members: vec![id("a"), id("b")],
            wiring: Wiring::Parallel,
            victron: None,
        };
        let profiles = [profile("a", 10_000), profile("b", 30_000), bank.profile.clone()];
        let board = Board::new(profiles);
        let groups = ["a", "b", "bank"].map(|name| vec![id(name)]);
        let (commands, mut inboxes) = CommandBus::new(&groups);
        let inbox = inboxes.pop().expect("the inbox of the bank");
        let task =
            run_bank(bank, board.clone(), commands.clone(), inbox, CancellationToken::new().into());
        tokio::spawn(task);
        TestBank { board, commands, inboxes }
    }

    fn read(&self, name: &str, amps: i32) {
        self.board.update(&id(name), |state| {
            let mut reading = Reading::default();
            reading.pack.current = Some(Milliamps(amps * 1000));
            let derived = derive(&reading);
            state.accept((Millis(0), clock::uptime()), 1, reading, derived);
        });
    }

    fn offline(&self, name: &str) {
        let since = Millis(0);
        self.board.update(&id(name), |state| state.link = LinkState::Offline { since });
    }

    fn state(&self) -> DeviceState {
        self.board.latest(&id("bank")).expect("the bank")
    }

    /// The sum of the currents, and the missing members.
    fn current_and_missing(&self) -> (Option<i32>, Vec<String>) {
        let state = self.state();
        let snapshot = state.snapshot.expect("a snapshot");
        let missing = &snapshot.derived.bank.as_ref().expect("a bank").missing;
        let current = snapshot.reading.pack.current.map(|current| current.0 / 1000);
        (current, missing.iter().map(ToString::to_string).collect())
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn bank_waits_for_all_members_then_follows_them() {
    let bank = TestBank::start();
    seconds(5).await;
    assert_eq!(bank.state().link, LinkState::Connecting, "no member was read yet");
    bank.read("a", 5);
    seconds(1).await;
    assert_eq!(bank.state().link, LinkState::Connecting, "b is the next to be read");
    bank.read("b", 7);
    seconds(1).await;
    assert_eq!(bank.current_and_missing(), (Some(12), vec![]));
    assert_eq!(bank.state().link, LinkState::Online);
    let number = bank.state().attempt.expect("an attempt").number;
    seconds(5).await;
    assert_eq!(bank.state().attempt.expect("an attempt").number, number, "nothing new");
}

#[tokio::test(start_paused = true)]
async fn offline_or_stale_member_is_missing() {
    let bank = TestBank::start();
    bank.read("a", 5);
    bank.read("b", 7);
    seconds(29).await;
    assert_eq!(bank.current_and_missing(), (Some(12), vec![]));
    // Three intervals of `a`, and at least 30 s.
    seconds(2).await;
    assert_eq!(bank.current_and_missing(), (None, vec!["a".to_owned()]));
    bank.read("a", 5);
    seconds(1).await;
    assert_eq!(bank.current_and_missing(), (Some(12), vec![]));
    bank.offline("b");
    seconds(1).await;
    assert_eq!(bank.current_and_missing(), (None, vec!["b".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn silent_member_delays_the_bank_until_it_is_offline() {
    let bank = TestBank::start();
    bank.read("a", 5);
    seconds(20).await;
    assert!(bank.state().snapshot.is_none());
    bank.offline("b");
    seconds(1).await;
    assert_eq!(bank.current_and_missing(), (None, vec!["b".to_owned()]));
    assert_eq!(bank.state().link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn bank_without_members_fails_at_its_interval() {
    let bank = TestBank::start();
    bank.read("a", 5);
    bank.read("b", 7);
    seconds(1).await;
    bank.offline("a");
    bank.offline("b");
    seconds(1).await;
    let state = bank.state();
    assert!(matches!(state.link, LinkState::Offline { .. }));
    assert_eq!(
        state.attempt.and_then(|attempt| attempt.fault).map(|fault| fault.kind),
        Some(FaultKind::Timeout)
    );
    let counted: Vec<_> = state.counters.faults().collect();
    assert_eq!(counted, [(FaultKind::Timeout, state.counters.errors)], "one fault for each error");
    let errors = state.counters.errors;
    seconds(301).await;
    assert!((9..=11).contains(&(bank.state().counters.errors - errors)));
    bank.read("a", 5);
    bank.read("b", 7);
    seconds(1).await;
    assert_eq!(bank.state().link, LinkState::Online);
    assert_eq!(bank.state().counters.consecutive_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn bank_adopts_the_longest_interval_of_its_members() {
    let bank = TestBank::start();
    let set_interval = |name: &str, interval_ms| {
        bank.board.update_profile(&id(name), |profile| profile.interval_ms = interval_ms);
    };
    seconds(1).await;
    assert_eq!(bank.state().profile.interval_ms, 30_000);
    set_interval("a", 600_000);
    seconds(1).await;
    assert_eq!(bank.state().profile.interval_ms, 600_000);
    bank.offline("a");
    bank.offline("b");
    seconds(1).await;
    let errors = bank.state().counters.errors;
    seconds(1210).await;
    assert_eq!(bank.state().counters.errors - errors, 2, "the bank fails at the longer interval");
    set_interval("a", 10_000);
    seconds(1).await;
    assert_eq!(bank.state().profile.interval_ms, 30_000);
}

#[tokio::test(start_paused = true)]
async fn bank_continues_restored_energy_counters() {
    let bank = TestBank::start();
    let kept = EnergyTotals { charged: crate::model::Energy(500), ..EnergyTotals::default() };
    bank.board.restore(&id("bank"), Some(kept), EnergySource::Broker);
    bank.read("a", 5);
    bank.read("b", 7);
    seconds(1).await;
    let energy = bank.state().snapshot.expect("a snapshot").derived.energy;
    assert_eq!(energy, Some(kept));
}

#[tokio::test(start_paused = true)]
async fn read_is_forwarded_to_each_member() {
    let mut bank = TestBank::start();
    let received = bank.inboxes.iter_mut().map(|inbox| async {
        let request = inbox.recv().await.expect("a command");
        request.reply.send(Ok(())).expect("the bank waits");
        (request.device.to_string(), request.command)
    });
    let mut received: Vec<_> = received.collect();
    let (second, first) = (received.pop().expect("b"), received.pop().expect("a"));
    let bank_id = id("bank");
    let (first, second, sent) =
        tokio::join!(first, second, bank.commands.send(&bank_id, Command::Read));
    assert_eq!(sent, Ok(()));
    assert_eq!([first, second], [("a".into(), Command::Read), ("b".into(), Command::Read)]);
    let change = Command::Configure(crate::command::ConfigChange::default());
    let refused = bank.commands.send(&bank_id, change).await.expect_err("a bank");
    assert!(refused.0.contains("is a bank"), "{refused}");
}

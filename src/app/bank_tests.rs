use super::*;
use crate::model::bank::Wiring;
use crate::model::derive::derive;
use crate::model::units::{Milliamps, Millis};
use crate::model::{EnergyTotals, Profile, Reading};

struct Rig {
    board: Board,
    commands: CommandBus,
    inboxes: Vec<CommandInbox>,
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a good id")
}

impl Rig {
    /// A bank of `a` (read every 10 s) and `b` (every 30 s).
    fn start() -> Self {
        let profile = |name: &str, interval_ms| Profile { interval_ms, ..Profile::sample(name) };
        let bank = config::Bank {
            profile: profile("house", 30_000),
            members: vec![id("a"), id("b")],
            wiring: Wiring::Parallel,
        };
        let profiles = [profile("a", 10_000), profile("b", 30_000), bank.profile.clone()];
        let board = Board::new(profiles);
        let groups = ["a", "b", "house"].map(|name| vec![id(name)]);
        let (commands, mut inboxes) = CommandBus::new(&groups);
        let inbox = inboxes.pop().expect("that of the bank");
        let task = run_bank(bank, board.clone(), commands.clone(), inbox, CancellationToken::new());
        tokio::spawn(task);
        Rig { board, commands, inboxes }
    }

    fn read(&self, name: &str, amps: i32) {
        self.board.update(&id(name), |state| {
            let mut reading = Reading::default();
            reading.pack.current = Some(Milliamps(amps * 1000));
            let derived = derive(&reading);
            state.accept(Millis(0), 1, reading, derived);
        });
    }

    fn offline(&self, name: &str) {
        let since = Millis(0);
        self.board.update(&id(name), |state| state.link = LinkState::Offline { since });
    }

    fn house(&self) -> DeviceState {
        self.board.latest(&id("house")).expect("the bank")
    }

    /// The sum of the currents, and who is missing.
    fn seen(&self) -> (Option<i32>, Vec<String>) {
        let state = self.house();
        let snapshot = state.snapshot.expect("a snapshot");
        let missing = &snapshot.derived.bank.as_ref().expect("a bank").missing;
        let current = snapshot.reading.pack.current.map(|it| it.0 / 1000);
        (current, missing.iter().map(ToString::to_string).collect())
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_bank_follows_its_members() {
    let rig = Rig::start();
    seconds(5).await;
    assert_eq!(rig.house().link, LinkState::Connecting, "nobody was asked yet");
    rig.read("a", 5);
    seconds(1).await;
    assert_eq!(rig.house().link, LinkState::Connecting, "b is the next to be asked");
    rig.read("b", 7);
    seconds(1).await;
    assert_eq!(rig.seen(), (Some(12), vec![]));
    assert_eq!(rig.house().link, LinkState::Online);
    let number = rig.house().attempt.expect("an attempt").number;
    seconds(5).await;
    assert_eq!(rig.house().attempt.expect("an attempt").number, number, "nothing new");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_offline_or_grew_old_is_missing() {
    let rig = Rig::start();
    rig.read("a", 5);
    rig.read("b", 7);
    seconds(29).await;
    assert_eq!(rig.seen(), (Some(12), vec![]));
    // Three intervals of `a`, and at least 30 s.
    seconds(2).await;
    assert_eq!(rig.seen(), (None, vec!["a".to_owned()]));
    rig.read("a", 5);
    seconds(1).await;
    assert_eq!(rig.seen(), (Some(12), vec![]));
    rig.offline("b");
    seconds(1).await;
    assert_eq!(rig.seen(), (None, vec!["b".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_never_answers_holds_the_others_up_no_longer_than_until_it_is_offline() {
    let rig = Rig::start();
    rig.read("a", 5);
    seconds(20).await;
    assert!(rig.house().snapshot.is_none());
    rig.offline("b");
    seconds(1).await;
    assert_eq!(rig.seen(), (None, vec!["b".to_owned()]));
    assert_eq!(rig.house().link, LinkState::Online);
}

#[tokio::test(start_paused = true)]
async fn a_bank_without_anybody_is_offline_and_says_so_at_its_beat() {
    let rig = Rig::start();
    rig.read("a", 5);
    rig.read("b", 7);
    seconds(1).await;
    rig.offline("a");
    rig.offline("b");
    seconds(1).await;
    let state = rig.house();
    assert!(matches!(state.link, LinkState::Offline { .. }));
    assert_eq!(state.attempt.and_then(|it| it.fault).map(|it| it.kind), Some(FaultKind::Timeout));
    let counted: Vec<_> = state.counters.faults().collect();
    assert_eq!(counted, [(FaultKind::Timeout, state.counters.errors)], "as the metrics want it");
    let errors = state.counters.errors;
    seconds(301).await;
    assert!((9..=11).contains(&(rig.house().counters.errors - errors)));
    rig.read("a", 5);
    rig.read("b", 7);
    seconds(1).await;
    assert_eq!(rig.house().link, LinkState::Online);
    assert_eq!(rig.house().counters.consecutive_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_bank_is_as_slow_as_its_slowest_member_is_made() {
    let rig = Rig::start();
    let pace = |name: &str, interval_ms| {
        rig.board.update_profile(&id(name), |profile| profile.interval_ms = interval_ms);
    };
    seconds(1).await;
    assert_eq!(rig.house().profile.interval_ms, 30_000);
    pace("a", 600_000);
    seconds(1).await;
    assert_eq!(rig.house().profile.interval_ms, 600_000);
    rig.offline("a");
    rig.offline("b");
    seconds(1).await;
    let errors = rig.house().counters.errors;
    seconds(1210).await;
    assert_eq!(rig.house().counters.errors - errors, 2, "its own beat is the slower one, too");
    pace("a", 10_000);
    seconds(1).await;
    assert_eq!(rig.house().profile.interval_ms, 30_000);
}

#[tokio::test(start_paused = true)]
async fn its_counters_go_on_like_those_of_a_battery() {
    let rig = Rig::start();
    let kept =
        EnergyTotals { charged: crate::model::energy::Energy(500), ..EnergyTotals::default() };
    rig.board.restore(&id("house"), Some(kept));
    rig.read("a", 5);
    rig.read("b", 7);
    seconds(1).await;
    let energy = rig.house().snapshot.expect("a snapshot").derived.energy;
    assert_eq!(energy, Some(kept));
}

#[tokio::test(start_paused = true)]
async fn a_read_of_the_bank_is_one_of_each_member() {
    let mut rig = Rig::start();
    let asked = rig.inboxes.iter_mut().map(|inbox| async {
        let request = inbox.recv().await.expect("a command");
        request.reply.send(Ok(())).expect("somebody waits");
        (request.device.to_string(), request.command)
    });
    let mut asked: Vec<_> = asked.collect();
    let (second, first) = (asked.pop().expect("b"), asked.pop().expect("a"));
    let house = id("house");
    let (first, second, sent) =
        tokio::join!(first, second, rig.commands.send(&house, Command::Read));
    assert_eq!(sent, Ok(()));
    assert_eq!([first, second], [("a".into(), Command::Read), ("b".into(), Command::Read)]);
    let change = Command::Configure(crate::command::ConfigChange::default());
    let refused = rig.commands.send(&house, change).await.expect_err("a bank");
    assert!(refused.0.contains("is a bank"), "{refused}");
}

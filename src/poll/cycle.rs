//! One cycle: carries out the steps of a driver on an open link.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::capture::{Event, TrafficLog};
use crate::clock;
use crate::model::plausible::Implausible;
use crate::model::units::millis;
use crate::model::{Fault, FaultKind, Reading};
use crate::protocol::{CycleKind, Driver, Pause, ProtocolError, Step};
use crate::remedy;
use crate::tasks::catch_panic;
use crate::transport::{EsphomeFault, Link, LinkError};

/// The rest of a reply may take this long after the pause that follows it: 16 frames of Daly take
/// 220 ms.
const MAX_TAIL: Duration = Duration::from_millis(300);

/// Why a cycle failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CycleError {
    /// The connection could not be opened or was lost.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The driver got no valid reply, or an error reply.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A reading with impossible values, until a second one confirms it.
    #[error("implausible reading: {}", .0.0)]
    Implausible(Implausible),
    /// The driver had not finished when the time for the whole cycle was over.
    #[error("the read took longer than {} s", limit.as_secs())]
    Overrun {
        /// Time for the whole cycle.
        limit: Duration,
        /// Number of bytes received.
        received: usize,
    },
    /// No candidate of a search got a valid reply; contains the list of candidates.
    #[error("no known battery answered; tried: {0}")]
    Unrecognised(String),
    /// The Bluetooth device with this address has no channel of a brand that can be searched for.
    #[error("{0} has no Bluetooth service of a known battery")]
    NoKnownService(String),
    /// The driver panicked. A bug, which costs this battery one read and does not affect the others.
    #[error("the driver crashed: {0}")]
    Panicked(String),
}

impl CycleError {
    /// The error as sinks publish it.
    pub fn fault(&self) -> Fault {
        let (kind, hint) = match self {
            CycleError::Link(error) => (link_kind(error), error.hint()),
            CycleError::Protocol(error) => (error.kind(), error.hint()),
            CycleError::Implausible(_) => (
                FaultKind::BadFrame,
                "the battery is read again at once; if this happens often, check the cable and the \
                 type",
            ),
            // Several timeouts in one cycle can add up to more than its limit.
            CycleError::Overrun { received: 0, .. } => {
                let silence = ProtocolError::Timeout { query: String::new(), received: 0 };
                (FaultKind::Timeout, silence.hint())
            }
            CycleError::Overrun { .. } => (
                FaultKind::Timeout,
                "the line never falls silent: make sure that only one program reads it",
            ),
            CycleError::Unrecognised(_) => (FaultKind::Timeout, remedy::UNRECOGNISED.text()),
            CycleError::NoKnownService(_) => {
                (FaultKind::ConnectFailed, remedy::NO_KNOWN_SERVICE.text())
            }
            CycleError::Panicked(_) => (FaultKind::BadFrame, remedy::CRASH.text()),
        };
        Fault::new(kind, self.to_string(), hint)
    }
}

fn link_kind(error: &LinkError) -> FaultKind {
    match error {
        LinkError::NotFound { .. } => FaultKind::PortNotFound,
        LinkError::Denied { .. } => FaultKind::PermissionDenied,
        LinkError::Busy { .. } => FaultKind::PortBusy,
        LinkError::Open { .. } | LinkError::NoService { .. } => FaultKind::ConnectFailed,
        LinkError::Gone { .. } | LinkError::Stuck { .. } => FaultKind::Disconnected,
        LinkError::NoBus { fault, .. } if fault.is_refusal() => FaultKind::PermissionDenied,
        LinkError::NoBus { .. } | LinkError::NoAdapter { .. } | LinkError::AdapterOff { .. } => {
            FaultKind::AdapterNotFound
        }
        LinkError::Esphome { fault, .. } => match fault {
            EsphomeFault::WrongKey
            | EsphomeFault::KeyRequired
            | EsphomeFault::NotEncrypted
            | EsphomeFault::PinRequired => FaultKind::AuthFailed,
            EsphomeFault::Unreachable(_)
            | EsphomeFault::NoProxy
            | EsphomeFault::OnlyListens
            | EsphomeFault::ReceivesNothing => FaultKind::AdapterNotFound,
            EsphomeFault::ProxyBusy | EsphomeFault::BatteryTaken => FaultKind::PortBusy,
            EsphomeFault::NoPort { .. } => FaultKind::PortNotFound,
            _ => FaultKind::ConnectFailed,
        },
        LinkError::NotSeen { .. } => FaultKind::DeviceNotFound,
        LinkError::Pairing { .. } => FaultKind::AuthFailed,
    }
}

/// The reading of a cycle, or why there is none.
pub type ReadResult = Result<Box<Reading>, CycleError>;

/// How a cycle ended.
#[derive(Debug)]
pub struct Outcome {
    /// The reading or the error.
    pub result: ReadResult,
    /// Number of bytes received, valid or not.
    pub received: usize,
}

impl Outcome {
    /// Whether the battery sent nothing at all.
    pub(super) fn is_silent(&self) -> bool {
        let timed_out = |error: &CycleError| error.fault().kind == FaultKind::Timeout;
        self.received == 0 && self.result.as_ref().is_err_and(timed_out)
    }
}

/// Runs one cycle within `limit`. A panic of the driver is a failed cycle.
pub async fn cycle(
    driver: &mut dyn Driver,
    link: &mut Link,
    kind: CycleKind,
    limit: Duration,
    traffic: &mut TrafficLog,
) -> Outcome {
    let mut cycle = Cycle { driver, link, traffic, received: 0 };
    let result = catch_panic(cycle.run(kind, limit)).await;
    let result = result.unwrap_or_else(|panic| Err(CycleError::Panicked(panic)));
    if !matches!(result, Ok(_) | Err(CycleError::Protocol(_))) {
        cycle.traffic.write(|| Event::Broken);
    }
    Outcome { result, received: cycle.received }
}

struct Cycle<'a> {
    driver: &'a mut dyn Driver,
    link: &'a mut Link,
    traffic: &'a mut TrafficLog,
    received: usize,
}

impl Cycle<'_> {
    async fn run(&mut self, kind: CycleKind, limit: Duration) -> ReadResult {
        let deadline = Instant::now() + limit;
        // Stands still in a suspend, after which a reply of unknown age may be waiting.
        let started = clock::uptime();
        let is_over =
            || Instant::now() >= deadline || clock::uptime().since(started) >= millis(limit);
        self.traffic.write(|| Event::Start { kind });
        self.link.drain()?;
        self.driver.start(kind);
        let mut next = None;
        loop {
            if is_over() {
                return Err(CycleError::Overrun { limit, received: self.received });
            }
            match next.take().unwrap_or_else(|| self.driver.step()) {
                Step::Send(bytes) => {
                    self.traffic.sent(self.driver, &bytes);
                    self.link.send(&bytes).await?;
                    self.driver.advance();
                }
                Step::Pause(pause) => {
                    self.pause(pause, deadline).await?;
                    self.driver.advance();
                }
                Step::Await(time) => {
                    next = self.listen(time, (Instant::now() + time).min(deadline)).await?;
                }
                Step::Done(reading) => return Ok(reading),
                Step::Failed(error) => return Err(error.into()),
            }
        }
    }

    /// Bytes of an earlier reply prolong the quiet, but a line that never falls silent does not keep a
    /// request back.
    async fn pause(&mut self, pause: Pause, deadline: Instant) -> Result<(), LinkError> {
        let time = match pause {
            Pause::Quiet(time) => time,
            Pause::Full(time) => {
                sleep(time).await;
                return Ok(());
            }
        };
        let last = self.link.quiet_at(time).map(|quiet| deadline.min(quiet + MAX_TAIL));
        while let Some(quiet) = self.link.quiet_at(time).min(last)
            && quiet > Instant::now()
            && let Ok(chunk) = timeout_at(quiet, self.link.receive()).await
        {
            let chunk = chunk?;
            self.traffic.received(self.driver, &chunk);
            self.driver.receive(&chunk);
        }
        Ok(())
    }

    /// Feeds the driver until its step is no longer `Await(time)`, and returns that step; `None` when
    /// the time is over.
    async fn listen(&mut self, time: Duration, until: Instant) -> Result<Option<Step>, LinkError> {
        while let Ok(chunk) = timeout_at(until, self.link.receive()).await {
            let chunk = chunk?;
            self.received += chunk.len();
            self.traffic.received(self.driver, &chunk);
            self.driver.receive(&chunk);
            let step = self.driver.step();
            if step != Step::Await(time) {
                return Ok(Some(step));
            }
            // A line that never falls silent always has a chunk ready, so `timeout_at` never expires.
            if Instant::now() >= until {
                break;
            }
        }
        self.traffic.write(|| Event::Silence);
        self.driver.handle_timeout();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::model::DeviceId;
    use crate::transport::MemoryLink;

    /// A driver with a fixed list of steps that records its inputs.
    struct ScriptedDriver {
        steps: VecDeque<Step>,
        inputs: Vec<String>,
        /// Chunks until the current `Await` is satisfied.
        chunks_wanted: usize,
    }

    impl Driver for ScriptedDriver {
        fn reset(&mut self) {}
        fn start(&mut self, _kind: CycleKind) {}
        fn step(&mut self) -> Step {
            self.steps.front().cloned().unwrap_or_else(|| panic!("out of steps"))
        }
        fn advance(&mut self) {
            self.inputs.push("advance".into());
            self.steps.pop_front();
        }
        fn receive(&mut self, bytes: &[u8]) {
            self.inputs.push(String::from_utf8_lossy(bytes).into_owned());
            self.chunks_wanted = self.chunks_wanted.saturating_sub(1);
            if self.chunks_wanted == 0 {
                self.steps.pop_front();
            }
        }
        fn handle_timeout(&mut self) {
            self.inputs.push("silence".into());
            self.steps.pop_front();
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn scripted(steps: impl Into<VecDeque<Step>>, chunks_wanted: usize) -> ScriptedDriver {
        ScriptedDriver { steps: steps.into(), inputs: Vec::new(), chunks_wanted }
    }

    /// One read within nine seconds.
    async fn read(driver: &mut ScriptedDriver, link: MemoryLink) -> Outcome {
        let mut traffic = TrafficLog::new(&DeviceId::new("b").unwrap(), None);
        cycle(driver, &mut Link::from(link), CycleKind::Read, SECOND * 9, &mut traffic).await
    }

    #[tokio::test(start_paused = true)]
    async fn driver_receives_chunks_until_its_step_changes() {
        let (near, mut far) = MemoryLink::pair("test");
        let steps = [Step::Send(b"?".to_vec()), Step::Await(SECOND), Step::Done(Box::default())];
        let mut driver = scripted(steps, 2);
        let answer = async {
            assert_eq!(far.receive().await.unwrap(), b"?");
            far.send(b"a").await.unwrap();
            far.send(b"bc").await.unwrap();
        };
        let (outcome, ()) = tokio::join!(read(&mut driver, near), answer);
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.received, 3);
        assert_eq!(driver.inputs, ["advance", "a", "bc"]);
    }

    #[tokio::test(start_paused = true)]
    async fn stale_bytes_are_discarded_before_a_cycle() {
        let (near, mut far) = MemoryLink::pair("test");
        far.send(b"stale").await.unwrap();
        let mut driver = scripted([Step::Await(SECOND), Step::Done(Box::default())], 1);
        let outcome = read(&mut driver, near).await;
        assert!(outcome.result.is_ok());
        assert_eq!(driver.inputs, ["silence"]);
    }

    #[tokio::test(start_paused = true)]
    async fn babbling_line_times_out() {
        let (near, mut far) = MemoryLink::pair("test");
        let mut driver = scripted([Step::Await(SECOND), Step::Done(Box::default())], usize::MAX);
        let babble = async {
            while far.send(b"x").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = read(&mut driver, near) => outcome,
            () = babble => panic!("the link ended"),
        };
        assert!(outcome.result.is_ok());
        assert_eq!(driver.inputs.last().unwrap(), "silence");
    }

    const PAUSE: Duration = Duration::from_millis(100);
    const QUIET: Step = Step::Pause(Pause::Quiet(PAUSE));

    /// How long a cycle with these steps takes.
    async fn time_of(steps: Vec<Step>, link: &mut Link) -> Duration {
        let began = Instant::now();
        let steps = [steps, vec![Step::Done(Box::default())]].concat();
        let mut driver = scripted(steps, usize::MAX);
        let mut traffic = TrafficLog::new(&DeviceId::new("b").unwrap(), None);
        let outcome = cycle(&mut driver, link, CycleKind::Read, SECOND * 9, &mut traffic).await;
        assert!(outcome.result.is_ok(), "{outcome:?}");
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn pause_is_counted_from_the_last_byte() {
        let (near, mut far) = MemoryLink::pair("test");
        let mut link = Link::from(near);
        assert_eq!(time_of(vec![QUIET], &mut link).await, Duration::ZERO, "nothing was sent yet");

        far.send(b"a reply").await.unwrap();
        assert_eq!(time_of(vec![QUIET], &mut link).await, PAUSE, "right after a reply");
        sleep(PAUSE / 4).await;
        assert_eq!(time_of(vec![], &mut link).await, Duration::ZERO);
        sleep(PAUSE).await;
        assert_eq!(time_of(vec![QUIET], &mut link).await, Duration::ZERO, "after a long silence");

        let request = Step::Send(b"?".to_vec());
        let elapsed = time_of(vec![request, QUIET], &mut link).await;
        assert_eq!(elapsed, PAUSE, "after a request without a reply");
        let full = Step::Pause(Pause::Full(PAUSE));
        assert_eq!(time_of(vec![full], &mut link).await, PAUSE, "whatever was before");
    }

    #[tokio::test(start_paused = true)]
    async fn rest_of_a_reply_prolongs_the_pause() {
        for (pieces, end) in [(0, 100), (1, 180), (2, 260), (50, 400)] {
            let (near, mut far) = MemoryLink::pair("test");
            let mut link = Link::from(near);
            far.send(b"a reply").await.unwrap();
            let rest = async {
                for _ in 0..pieces {
                    sleep(PAUSE * 4 / 5).await;
                    far.send(b" and more").await.unwrap();
                }
            };
            let (elapsed, ()) = tokio::join!(time_of(vec![QUIET], &mut link), rest);
            assert_eq!(elapsed, Duration::from_millis(end), "{pieces} more pieces");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_without_a_reply_makes_later_pauses_longer() {
        let (near, mut far) = MemoryLink::pair("test");
        let mut link = Link::from(near);
        let short = || Step::Pause(Pause::Quiet(PAUSE / 10));
        far.send(b"a reply").await.unwrap();
        assert_eq!(time_of(vec![short()], &mut link).await, PAUSE / 10);
        let request = vec![Step::Send(b"?".to_vec()), Step::Await(SECOND), short()];
        assert_eq!(time_of(request, &mut link).await, SECOND);
        far.send(b"a reply").await.unwrap();
        assert_eq!(time_of(vec![short()], &mut link).await, PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_driver_is_stopped_at_the_limit() {
        let (near, _far) = MemoryLink::pair("test");
        let pauses: VecDeque<Step> =
            std::iter::repeat_n(Step::Pause(Pause::Full(SECOND)), 100).collect();
        let mut driver = scripted(pauses, 0);
        let outcome = read(&mut driver, near).await;
        let overrun = outcome.result.unwrap_err();
        assert_eq!(overrun, CycleError::Overrun { limit: SECOND * 9, received: 0 });
        assert!(overrun.fault().hint.contains("awake"), "nothing was received: {overrun:?}");
        let babble = CycleError::Overrun { limit: SECOND * 9, received: 1 };
        assert!(babble.fault().hint.contains("never falls silent"));
    }

    #[tokio::test(start_paused = true)]
    async fn driver_panic_is_a_failed_cycle() {
        let (near, _far) = MemoryLink::pair("test");
        let mut driver = scripted([], 0);
        let outcome = read(&mut driver, near).await;
        assert_eq!(outcome.result, Err(CycleError::Panicked("out of steps".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_link_is_reported_as_disconnected() {
        let (near, far) = MemoryLink::pair("test");
        drop(far);
        let mut driver = scripted([Step::Done(Box::default())], 0);
        let outcome = read(&mut driver, near).await;
        let fault = outcome.result.unwrap_err().fault();
        assert_eq!(fault.kind, FaultKind::Disconnected);
    }

    #[test]
    fn implausible_reading_is_a_bad_frame() {
        let why = Implausible("cell 3 at 65.535 V cannot be".into());
        let fault = CycleError::Implausible(why).fault();
        assert_eq!(
            fault.to_string(),
            "bad_frame: implausible reading: cell 3 at 65.535 V cannot be"
        );
        assert!(!fault.hint.is_empty());
    }
}

//! The loop that obeys a driver's steps: the only caller of both a driver and a link.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::capture::Tap;
use crate::model::plausible::Implausible;
use crate::model::{Fault, FaultKind, Reading};
use crate::protocol::{CycleKind, Driver, ProtocolError, Step};
use crate::transport::{Link, LinkError};

/// Why a cycle failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CycleError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The conversation.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// An answer that no battery gives, as long as a second one has not said the same.
    #[error("not believed: {}", .0.0)]
    Implausible(Implausible),
    /// The driver went on for longer than a cycle may take.
    #[error("the read took longer than {} s", limit.as_secs())]
    Overrun {
        /// Time for the whole cycle.
        limit: Duration,
        /// Bytes that came in.
        heard: usize,
    },
    /// Nobody of those that it may be.
    #[error("nobody answers who is known; asked were {0}")]
    Unrecognised(String),
    /// The driver panicked: our mistake, which costs this battery one read and the others nothing.
    #[error("the driver broke down: {0}")]
    Broken(String),
}

impl CycleError {
    /// In the words that sinks may show.
    pub fn fault(&self) -> Fault {
        let (kind, hint) = match self {
            CycleError::Link(error) => (link_kind(error), error.hint()),
            CycleError::Protocol(error) => (error.kind(), error.hint()),
            CycleError::Implausible(_) => (
                FaultKind::BadFrame,
                "it is read again at once; when that happens often, look at the cable and at \
                 BMS_TYPE",
            ),
            // Several answers that stay out may take longer than the whole read may.
            CycleError::Overrun { heard: 0, .. } => (FaultKind::Timeout, silence().hint()),
            CycleError::Overrun { .. } => (
                FaultKind::Timeout,
                "something talks on the line without end: check that only one reader is on it",
            ),
            CycleError::Unrecognised(_) => (
                FaultKind::Timeout,
                "check that the battery is awake and of a type that is supported, and the wiring \
                 or the distance; set its type if you know it",
            ),
            CycleError::Broken(_) => (
                FaultKind::BadFrame,
                "this is a mistake in bms-reader: please report it with the log of LOG_LEVEL=TRACE",
            ),
        };
        Fault::new(kind, self.to_string(), hint)
    }
}

fn silence() -> ProtocolError {
    ProtocolError::Timeout { query: String::new(), received: 0 }
}

fn link_kind(error: &LinkError) -> FaultKind {
    match error {
        LinkError::NotFound { .. } => FaultKind::PortNotFound,
        LinkError::Denied { .. } => FaultKind::PermissionDenied,
        LinkError::Busy { .. } => FaultKind::PortBusy,
        LinkError::Open { .. } => FaultKind::ConnectFailed,
        LinkError::Gone { .. } | LinkError::Stuck { .. } => FaultKind::Disconnected,
        LinkError::NoBus { fault, .. } if fault.is_refusal() => FaultKind::PermissionDenied,
        LinkError::NoBus { .. } | LinkError::NoAdapter { .. } | LinkError::AdapterOff { .. } => {
            FaultKind::AdapterNotFound
        }
        LinkError::NotSeen { .. } => FaultKind::DeviceNotFound,
        LinkError::NoService { .. } => FaultKind::ConnectFailed,
        LinkError::Pairing { .. } => FaultKind::AuthFailed,
    }
}

/// How a cycle ended, and whether anything at all was heard.
#[derive(Debug)]
pub struct Outcome {
    /// The reading, or why there is none.
    pub result: Result<Box<Reading>, CycleError>,
    /// Bytes that came in.
    pub heard: usize,
}

/// Runs one cycle within `limit`. A driver that panics is a failed cycle.
pub async fn cycle(
    driver: &mut dyn Driver,
    link: &mut Link,
    ask: CycleKind,
    limit: Duration,
    tap: &mut Tap,
) -> Outcome {
    let mut ear = Ear { heard: 0, tap };
    let result = {
        let mut conversation = pin!(converse(driver, link, ask, limit, &mut ear));
        poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| conversation.as_mut().poll(context)))
                .unwrap_or_else(|panic| Err(CycleError::Broken(panic_text(&*panic))).into())
        })
        .await
    };
    if !matches!(result, Ok(_) | Err(CycleError::Protocol(_))) {
        ear.tap.broken();
    }
    Outcome { result, heard: ear.heard }
}

/// What is noted of a conversation besides its end.
struct Ear<'a> {
    heard: usize,
    tap: &'a mut Tap,
}

async fn converse(
    driver: &mut dyn Driver,
    link: &mut Link,
    ask: CycleKind,
    limit: Duration,
    ear: &mut Ear<'_>,
) -> Result<Box<Reading>, CycleError> {
    let deadline = Instant::now() + limit;
    ear.tap.start(ask);
    link.drain()?;
    driver.start(ask);
    loop {
        if Instant::now() >= deadline {
            return Err(CycleError::Overrun { limit, heard: ear.heard });
        }
        match driver.step() {
            Step::Send(bytes) => {
                ear.tap.sent(driver, &bytes);
                link.send(&bytes).await?;
                driver.advance();
            }
            Step::Pause(time) => {
                sleep(time).await;
                driver.advance();
            }
            Step::Await(time) => {
                let until = (Instant::now() + time).min(deadline);
                listen(driver, link, time, until, ear).await?;
            }
            Step::Done(reading) => return Ok(reading),
            Step::Failed(error) => return Err(error.into()),
        }
    }
}

/// Feeds the driver until it wants something else (another time limit is something else) or the
/// time is over.
async fn listen(
    driver: &mut dyn Driver,
    link: &mut Link,
    time: Duration,
    until: Instant,
    ear: &mut Ear<'_>,
) -> Result<(), LinkError> {
    while driver.step() == Step::Await(time) {
        match timeout_at(until, link.receive()).await {
            Ok(chunk) => {
                let chunk = chunk?;
                ear.heard += chunk.len();
                ear.tap.received(driver, &chunk);
                driver.receive(&chunk);
            }
            Err(_) => {
                ear.tap.silence();
                driver.handle_timeout();
                break;
            }
        }
        // A line that never falls silent is always ready to be read; the limit holds all the same.
        if Instant::now() >= until && driver.step() == Step::Await(time) {
            ear.tap.silence();
            driver.handle_timeout();
            break;
        }
    }
    Ok(())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::model::DeviceId;
    use crate::transport::MemoryLink;

    /// A driver that plays a fixed list of steps and notes what it was told.
    #[derive(Default)]
    struct Script {
        steps: VecDeque<Step>,
        told: Vec<String>,
        chunks_wanted: usize,
    }

    impl Driver for Script {
        fn reset(&mut self) {}
        fn start(&mut self, _kind: CycleKind) {}
        fn step(&mut self) -> Step {
            self.steps.front().cloned().unwrap_or_else(|| panic!("out of steps"))
        }
        fn advance(&mut self) {
            self.told.push("advance".into());
            self.steps.pop_front();
        }
        fn receive(&mut self, bytes: &[u8]) {
            self.told.push(String::from_utf8_lossy(bytes).into_owned());
            self.chunks_wanted = self.chunks_wanted.saturating_sub(1);
            if self.chunks_wanted == 0 {
                self.steps.pop_front();
            }
        }
        fn handle_timeout(&mut self) {
            self.told.push("silence".into());
            self.steps.pop_front();
        }
    }

    fn tap() -> Tap {
        Tap::new(&DeviceId::new("b").unwrap(), None)
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn script(steps: impl Into<VecDeque<Step>>, chunks_wanted: usize) -> Script {
        Script { steps: steps.into(), told: Vec::new(), chunks_wanted }
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_fed_until_the_driver_is_content() {
        let (near, mut far) = MemoryLink::pair("test");
        let mut link = Link::Memory(near);
        let steps = [Step::Send(b"?".to_vec()), Step::Await(SECOND), Step::Done(Box::default())];
        let mut driver = script(steps, 2);
        let answer = async {
            assert_eq!(far.receive().await.unwrap(), b"?");
            far.send(b"a").await.unwrap();
            far.send(b"bc").await.unwrap();
        };
        let mut tap = tap();
        let (outcome, ()) = tokio::join!(
            cycle(&mut driver, &mut link, CycleKind::Read, SECOND * 9, &mut tap),
            answer
        );
        assert!(outcome.result.is_ok());
        assert_eq!(outcome.heard, 3);
        assert_eq!(driver.told, ["advance", "a", "bc"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_before_the_question_is_forgotten() {
        let (near, mut far) = MemoryLink::pair("test");
        far.send(b"stale").await.unwrap();
        let mut driver = script([Step::Await(SECOND), Step::Done(Box::default())], 1);
        let outcome =
            cycle(&mut driver, &mut Link::Memory(near), CycleKind::Read, SECOND * 9, &mut tap())
                .await;
        assert!(outcome.result.is_ok());
        assert_eq!(driver.told, ["silence"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_babbling_line_ends_at_the_limit() {
        let (near, mut far) = MemoryLink::pair("test");
        let mut driver = script([Step::Await(SECOND), Step::Done(Box::default())], usize::MAX);
        let babble = async {
            while far.send(b"x").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let mut link = Link::Memory(near);
        let mut tap = tap();
        let outcome = tokio::select! {
            outcome = cycle(&mut driver, &mut link, CycleKind::Read, SECOND * 9, &mut tap) => outcome,
            () = babble => panic!("the link ended"),
        };
        assert!(outcome.result.is_ok());
        assert_eq!(driver.told.last().unwrap(), "silence");
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_without_end_is_overrun() {
        let (near, _far) = MemoryLink::pair("test");
        let pauses: VecDeque<Step> = std::iter::repeat_n(Step::Pause(SECOND), 100).collect();
        let mut driver = script(pauses, 0);
        let outcome =
            cycle(&mut driver, &mut Link::Memory(near), CycleKind::Read, SECOND * 9, &mut tap())
                .await;
        let overrun = outcome.result.unwrap_err();
        assert_eq!(overrun, CycleError::Overrun { limit: SECOND * 9, heard: 0 });
        assert!(overrun.fault().hint.contains("awake"), "nothing was heard: {overrun:?}");
        let babble = CycleError::Overrun { limit: SECOND * 9, heard: 1 };
        assert!(babble.fault().hint.contains("without end"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failed_cycle() {
        let (near, _far) = MemoryLink::pair("test");
        let mut driver = script([], 0);
        let outcome =
            cycle(&mut driver, &mut Link::Memory(near), CycleKind::Read, SECOND, &mut tap()).await;
        assert_eq!(outcome.result, Err(CycleError::Broken("out of steps".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_link_is_told_as_such() {
        let (near, far) = MemoryLink::pair("test");
        drop(far);
        let mut driver = script([Step::Done(Box::default())], 0);
        let outcome =
            cycle(&mut driver, &mut Link::Memory(near), CycleKind::Read, SECOND, &mut tap()).await;
        let fault = outcome.result.unwrap_err().fault();
        assert_eq!(fault.kind, FaultKind::Disconnected);
    }

    #[test]
    fn a_reading_that_is_not_believed_is_a_bad_frame() {
        let why = Implausible("cell 3 at 65.535 V cannot be".into());
        let fault = CycleError::Implausible(why).fault();
        assert_eq!(fault.to_string(), "bad_frame: not believed: cell 3 at 65.535 V cannot be");
        assert!(!fault.hint.is_empty());
    }
}

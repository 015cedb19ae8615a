//! One quick question instead of a whole read, while nothing is known about a line.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::protocol::{CycleKind, Driver, ProtocolError, Side, Step};

/// A driver may use another form of its request in its second cycle.
const CYCLES: u8 = 2;
/// Far more steps than any driver needs.
const MAX_STEPS: usize = 10_000;

/// Sends each distinct request of a driver once, waits for any byte and then ends as failed.
/// Requests that had no reply are passed over, so that brands that share one cost no further time.
pub(crate) struct Probe<'a> {
    driver: Box<dyn Driver>,
    /// Requests that had no reply on this line at this baud rate.
    unanswered: &'a mut BTreeSet<Vec<u8>>,
    /// Time limit for the first byte of a reply.
    limit: Duration,
    cycles: u8,
    /// The request that waits for its reply.
    request: Vec<u8>,
    received: Vec<u8>,
    /// The current request is not sent, because it is known to have no reply.
    skips: bool,
    answered: bool,
}

impl<'a> Probe<'a> {
    pub fn new(
        driver: Box<dyn Driver>,
        unanswered: &'a mut BTreeSet<Vec<u8>>,
        limit: Duration,
    ) -> Self {
        Probe {
            driver,
            unanswered,
            limit,
            cycles: 0,
            request: Vec::new(),
            received: Vec::new(),
            skips: false,
            answered: false,
        }
    }

    /// Something other than the echo of the request was received.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    fn end(&self) -> Step {
        let received = self.received.len();
        Step::Failed(ProtocolError::Timeout { query: "a probe".into(), received })
    }
}

impl Driver for Probe<'_> {
    fn reset(&mut self) {
        self.driver.reset();
    }

    fn start(&mut self, _kind: CycleKind) {
        self.cycles = 1;
        self.driver.start(CycleKind::Read);
    }

    fn step(&mut self) -> Step {
        if self.answered {
            return self.end();
        }
        for _ in 0..MAX_STEPS {
            match self.driver.step() {
                Step::Send(request) => {
                    self.skips = self.unanswered.contains(&request);
                    if !self.skips {
                        return Step::Send(request);
                    }
                    self.driver.advance();
                }
                Step::Pause(_) if self.skips => self.driver.advance(),
                Step::Pause(pause) => return Step::Pause(pause.min(self.limit)),
                Step::Await(_) if self.skips => self.driver.handle_timeout(),
                Step::Await(time) => return Step::Await(time.min(self.limit)),
                Step::Done(_) | Step::Failed(_) if self.cycles < CYCLES => {
                    self.cycles += 1;
                    self.driver.start(CycleKind::Read);
                }
                Step::Done(_) | Step::Failed(_) => break,
            }
        }
        self.end()
    }

    fn advance(&mut self) {
        if let Step::Send(request) = self.driver.step() {
            self.request = request;
            self.received.clear();
        }
        self.driver.advance();
    }

    /// Some adapters return what they send.
    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.answered = !self.request.starts_with(&self.received);
    }

    fn handle_timeout(&mut self) {
        self.unanswered.insert(std::mem::take(&mut self.request));
        self.driver.handle_timeout();
    }

    fn redact(&self, side: Side, bytes: &mut [u8]) {
        self.driver.redact(side, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DriverInfo, Options, daly, daren, pace};

    const LIMIT: Duration = Duration::from_millis(500);

    /// The requests that a silent line receives, and whether the probe counts as answered when each
    /// one has this reply.
    fn probe(
        info: &DriverInfo,
        unanswered: &mut BTreeSet<Vec<u8>>,
        reply: impl Fn(&[u8]) -> Vec<u8>,
    ) -> (Vec<Vec<u8>>, bool) {
        let mut probe = Probe::new(info.driver(&Options::default()), unanswered, LIMIT);
        let mut sent = Vec::new();
        probe.start(CycleKind::Read);
        for _ in 0..100 {
            match probe.step() {
                Step::Send(request) => {
                    sent.push(request);
                    probe.advance();
                }
                Step::Pause(pause) => {
                    assert_eq!(pause, pause.min(LIMIT));
                    probe.advance();
                }
                Step::Await(time) => {
                    assert!(time <= LIMIT, "{time:?}");
                    let reply = reply(sent.last().unwrap());
                    if !reply.is_empty() {
                        probe.receive(&reply);
                    }
                    if !probe.is_answered() {
                        probe.handle_timeout();
                    }
                }
                Step::Done(_) | Step::Failed(_) => return (sent, probe.is_answered()),
            }
        }
        panic!("the probe of {} does not end", info.name);
    }

    fn silence(_request: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    #[test]
    fn each_request_is_sent_once() {
        let mut unanswered = BTreeSet::new();
        let (sent, answered) = probe(&daly::INFO, &mut unanswered, silence);
        assert_eq!((sent.len(), answered), (3, false), "one in each dialect");
        let (again, _) = probe(&daly::INFO, &mut unanswered, silence);
        assert_eq!(again, Vec::<Vec<u8>>::new());
        let (other, _) = probe(&pace::INFO, &mut unanswered, silence);
        assert_eq!(other.len(), 1);
    }

    #[test]
    fn any_byte_ends_the_probe() {
        let (sent, answered) = probe(&daren::INFO, &mut BTreeSet::new(), |_| vec![0xFF]);
        assert_eq!((sent.len(), answered), (1, true));
    }

    #[test]
    fn echo_is_no_answer() {
        let (_, answered) = probe(&daren::INFO, &mut BTreeSet::new(), <[u8]>::to_vec);
        assert!(!answered);
        let echo_and_more = |request: &[u8]| [request, b"~"].concat();
        let (_, answered) = probe(&daren::INFO, &mut BTreeSet::new(), echo_and_more);
        assert!(answered);
    }
}

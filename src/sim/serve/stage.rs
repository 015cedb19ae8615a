//! A simulated bus in time: who asks, and how fast the answer travels.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::sim::bus::{Bus, RequestBuffer};
use crate::transport::{Link, LinkError};

/// Bytes that leave together when the line's rate is kept, as from the buffer of a UART.
const PACED_CHUNK: usize = 16;

/// A bus whose clock runs. Clones share the batteries.
#[derive(Debug, Clone)]
pub struct SimBus {
    bus: Arc<Mutex<Bus>>,
    start: Instant,
    speed: f64,
    pacing: Option<u32>,
    /// Longest piece of what is said, as a Bluetooth module cuts it.
    piece: Option<usize>,
}

impl SimBus {
    /// The bus's time begins now and runs `speed` times as fast as ours. With `pacing`, answers
    /// leave no faster than a line of this baud rate would carry them.
    pub fn new(bus: Bus, speed: f64, pacing: Option<u32>) -> Self {
        let start = Instant::now();
        SimBus { bus: Arc::new(Mutex::new(bus)), start, speed, pacing, piece: None }
    }

    /// The same by Bluetooth: answers come in notifications, cut as the brand's modules do it.
    pub fn over_ble(self) -> Self {
        let piece = self.with_bus(|bus| bus.brand().notification);
        SimBus { piece, ..self }
    }

    /// Which battery answered last, and at what simulated time: what it said follows from that.
    pub fn last_reply(&self) -> Option<(u8, f64)> {
        self.with_bus(|bus| bus.last_reply())
    }

    /// How many requests readers have sent.
    pub fn request_count(&self) -> u64 {
        self.with_bus(|bus| bus.request_count())
    }

    /// Answers the requests of one reader until it leaves, and says what is said unasked; the
    /// error says how it left.
    pub(super) async fn converse(&self, link: &mut Link) -> LinkError {
        let mut requests = self.with_bus(|bus| bus.connect());
        let mut stream = self.with_bus(|bus| bus.brand().stream).map(every);
        loop {
            let talked = tokio::select! {
                heard = link.receive() => match heard {
                    Ok(bytes) => self.hear(link, &mut requests, &bytes).await,
                    Err(error) => Err(error),
                },
                () = next(&mut stream) => self.speak(link, &self.unsolicited()).await,
            };
            if let Err(error) = talked {
                return error;
            }
        }
    }

    async fn hear(
        &self,
        link: &mut Link,
        requests: &mut RequestBuffer,
        bytes: &[u8],
    ) -> Result<(), LinkError> {
        requests.push(bytes);
        while let Some(request) = requests.next_request() {
            let asked = Instant::now();
            let answer = self.answer(&request);
            let Some(baud) = self.pacing else {
                self.speak(link, &answer).await?;
                continue;
            };
            // A byte is there when all of its bits are, and the request passed before.
            let mut passed = request.len();
            for chunk in answer.chunks(PACED_CHUNK) {
                passed += chunk.len();
                sleep_until(asked + line_time(passed, baud)).await;
                link.send(chunk).await?;
            }
        }
        Ok(())
    }

    async fn speak(&self, link: &mut Link, words: &[u8]) -> Result<(), LinkError> {
        for piece in words.chunks(self.piece.unwrap_or(words.len()).max(1)) {
            link.send(piece).await?;
        }
        Ok(())
    }

    fn unsolicited(&self) -> Vec<u8> {
        let seconds = self.start.elapsed().as_secs_f64() * self.speed;
        self.with_bus(|bus| bus.unsolicited(seconds))
    }

    fn answer(&self, request: &[u8]) -> Vec<u8> {
        let seconds = self.start.elapsed().as_secs_f64() * self.speed;
        self.with_bus(|bus| bus.answer(request, seconds))
    }

    fn with_bus<T>(&self, look: impl FnOnce(&mut Bus) -> T) -> T {
        // A panic in one conversation must not end the others.
        look(&mut self.bus.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn every(seconds: f64) -> Interval {
    let period = Duration::from_secs_f64(seconds.clamp(0.01, 3600.0));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn next(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// How long so many bytes are on a line: ten bits each, with start and stop.
fn line_time(bytes: usize, baud: u32) -> Duration {
    Duration::from_nanos((bytes as u64 * 10_000_000_000).div_ceil(u64::from(baud.max(1))))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::sim::daren::{self, DarenPack};
    use crate::sim::faults::{Fault, Faults, Rule};
    use crate::transport::MemoryLink;

    const QUESTION: &[u8] = b"~22014A42E00201FD28\r";

    /// A reader's link to a bus with one pack that never changes.
    fn reader(pacing: Option<u32>, faults: Faults) -> Link {
        let mut bus = Bus::new(&daren::BRAND, 1, faults);
        bus.add(1, Box::new(DarenPack::fixed(1)));
        let stage = SimBus::new(bus, 1.0, pacing);
        let (near, far) = MemoryLink::pair("simulator");
        tokio::spawn(async move { stage.converse(&mut Link::Memory(far)).await });
        Link::Memory(near)
    }

    #[tokio::test(start_paused = true)]
    async fn pacing_never_exceeds_the_line_and_hardly_lags_behind() {
        for baud in [1200, 9600, 19_200] {
            let mut link = reader(Some(baud), Faults::default());
            let asked = Instant::now();
            link.send(QUESTION).await.unwrap();
            let mut passed = QUESTION.len();
            while passed < QUESTION.len() + 216 {
                passed += link.receive().await.unwrap().len();
                let elapsed = asked.elapsed();
                assert!(elapsed >= line_time(passed, baud), "{passed} bytes after {elapsed:?}");
            }
            // The clock stands still but for the waits themselves, which are whole milliseconds.
            let late = asked.elapsed() - line_time(passed, baud);
            assert!(late <= Duration::from_millis(2), "{late:?} late");
        }
        assert_eq!(line_time(216, 9600), Duration::from_millis(225));
    }

    #[tokio::test(start_paused = true)]
    async fn without_pacing_an_answer_comes_whole_and_at_once() {
        let mut link = reader(None, Faults::default());
        let asked = Instant::now();
        link.send(&QUESTION[..7]).await.unwrap();
        link.send(&QUESTION[7..]).await.unwrap();
        assert_eq!(link.receive().await.unwrap().len(), 216);
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_are_switched_while_the_bus_is_in_use() {
        let faults = Faults::default();
        let mut link = reader(None, faults.clone());
        link.send(QUESTION).await.unwrap();
        assert_eq!(link.receive().await.unwrap().len(), 216);
        faults.add(Rule::always(Fault::Silence));
        link.send(QUESTION).await.unwrap();
        assert!(timeout(Duration::from_secs(60), link.receive()).await.is_err());
        faults.clear();
        link.send(QUESTION).await.unwrap();
        assert_eq!(link.receive().await.unwrap().len(), 216);
    }

    #[tokio::test(start_paused = true)]
    async fn simulated_time_runs_at_its_own_speed() {
        let bus = Bus::with_batteries(&daren::BRAND, &[1], 1, Faults::default());
        let stage = SimBus::new(bus, 60.0, None);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stage.last_reply(), None);
        stage.answer(QUESTION);
        let (address, seconds) = stage.last_reply().unwrap();
        assert_eq!(address, 1);
        assert!((600.0..601.0).contains(&seconds), "{seconds}");
    }
}

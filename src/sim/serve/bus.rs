//! A simulated bus in real time: serves readers at the speed of the line.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::sim::bus::{Bus, RequestBuffer};
use crate::transport::{Link, LinkError};

/// Bytes that leave together at a paced line, as from the buffer of a UART.
const PACED_CHUNK: usize = 16;

/// A bus with a running clock. Clones share the batteries.
#[derive(Debug, Clone)]
pub struct SimBus {
    bus: Arc<Mutex<Bus>>,
    start: Instant,
    /// Simulated time at `start`, in seconds.
    offset: f64,
    speed: f64,
    pacing: Option<u32>,
    /// Size of a Bluetooth notification; `None` on a serial line.
    pub notification: Option<usize>,
}

impl SimBus {
    /// Time begins now and runs `speed` times as fast as real time. With `pacing`, replies leave no
    /// faster than a line of this baud rate carries them.
    pub fn new(bus: Bus, speed: f64, pacing: Option<u32>) -> Self {
        let start = Instant::now();
        let bus = Arc::new(Mutex::new(bus));
        SimBus { bus, start, offset: 0.0, speed, pacing, notification: None }
    }

    /// The simulated time begins at this second.
    pub fn starting_at(self, seconds: f64) -> Self {
        SimBus { offset: seconds, ..self }
    }

    /// Address of the battery that replied last, and the simulated time in seconds.
    pub fn last_reply(&self) -> Option<(u8, f64)> {
        self.with_bus(|bus| bus.last_reply())
    }

    /// Number of requests from readers.
    pub fn request_count(&self) -> u64 {
        self.with_bus(|bus| bus.request_count())
    }

    /// Serves one reader until its link fails, and returns how it failed.
    pub(super) async fn serve(&self, link: &mut Link) -> LinkError {
        let mut requests = self.with_bus(|bus| bus.connect());
        let mut stream = self.with_bus(|bus| bus.brand().stream).map(every);
        loop {
            let served = tokio::select! {
                received = link.receive() => match received {
                    Ok(bytes) => self.handle(link, &mut requests, &bytes).await,
                    Err(error) => Err(error),
                },
                () = next(&mut stream) => {
                    let bytes = self.with_bus(|bus| bus.unsolicited(self.seconds()));
                    self.send(link, &bytes).await
                }
            };
            if let Err(error) = served {
                return error;
            }
        }
    }

    async fn handle(
        &self,
        link: &mut Link,
        requests: &mut RequestBuffer,
        bytes: &[u8],
    ) -> Result<(), LinkError> {
        requests.push(bytes);
        while let Some(request) = requests.next_request() {
            let received = Instant::now();
            let reply = self.reply(&request);
            let Some(baud) = self.pacing else {
                self.send(link, &reply).await?;
                continue;
            };
            // The request took its time on the line, too, and a byte arrives with its last bit.
            let mut bytes = request.len();
            for chunk in reply.chunks(PACED_CHUNK) {
                bytes += chunk.len();
                sleep_until(received + line_time(bytes, baud)).await;
                link.send(chunk).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, link: &mut Link, bytes: &[u8]) -> Result<(), LinkError> {
        for chunk in bytes.chunks(self.notification.unwrap_or(bytes.len()).max(1)) {
            link.send(chunk).await?;
        }
        Ok(())
    }

    fn reply(&self, request: &[u8]) -> Vec<u8> {
        self.with_bus(|bus| bus.reply(request, self.seconds()))
    }

    /// The simulated time.
    fn seconds(&self) -> f64 {
        self.offset + self.start.elapsed().as_secs_f64() * self.speed
    }

    fn with_bus<T>(&self, use_bus: impl FnOnce(&mut Bus) -> T) -> T {
        // A panic while serving one reader must not end the others.
        use_bus(&mut self.bus.lock().unwrap_or_else(PoisonError::into_inner))
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
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// How long this many bytes take on a line: ten bits each, with start and stop bit.
fn line_time(bytes: usize, baud: u32) -> Duration {
    Duration::from_nanos((bytes as u64 * 10_000_000_000).div_ceil(u64::from(baud.max(1))))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::sim::faults::{Fault, Faults, Rule};
    use crate::sim::{SimPack, daren};
    use crate::transport::MemoryLink;

    const REQUEST: &[u8] = b"~22014A42E00201FD28\r";

    /// A reader's link to a bus with one pack that never changes.
    fn reader(pacing: Option<u32>, faults: Faults) -> Link {
        let mut bus = Bus::new(&daren::BRAND, 1, faults);
        bus.add(1, daren::BRAND.pack(SimPack::fixed(1)));
        let bus = SimBus::new(bus, 1.0, pacing);
        let (near, far) = MemoryLink::pair("simulator");
        tokio::spawn(async move { bus.serve(&mut Link::from(far)).await });
        Link::from(near)
    }

    #[tokio::test(start_paused = true)]
    async fn paced_reply_takes_the_time_of_the_line() {
        for baud in [1200, 9600, 19_200] {
            let mut link = reader(Some(baud), Faults::default());
            let sent = Instant::now();
            link.send(REQUEST).await.unwrap();
            let mut bytes = REQUEST.len();
            while bytes < REQUEST.len() + 216 {
                bytes += link.receive().await.unwrap().len();
                let elapsed = sent.elapsed();
                assert!(elapsed >= line_time(bytes, baud), "{bytes} bytes after {elapsed:?}");
            }
            // The paused clock only advances by sleeps, which are whole milliseconds.
            let late = sent.elapsed() - line_time(bytes, baud);
            assert!(late <= Duration::from_millis(2), "{late:?} late");
        }
        assert_eq!(line_time(216, 9600), Duration::from_millis(225));
    }

    #[tokio::test(start_paused = true)]
    async fn unpaced_reply_arrives_whole_and_at_once() {
        let mut link = reader(None, Faults::default());
        let sent = Instant::now();
        link.send(&REQUEST[..7]).await.unwrap();
        link.send(&REQUEST[7..]).await.unwrap();
        assert_eq!(link.receive().await.unwrap().len(), 216);
        assert_eq!(sent.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_change_while_the_bus_is_in_use() {
        let faults = Faults::default();
        let mut link = reader(None, faults.clone());
        link.send(REQUEST).await.unwrap();
        assert_eq!(link.receive().await.unwrap().len(), 216);
        faults.add(Rule::always(Fault::Silence));
        link.send(REQUEST).await.unwrap();
        assert!(timeout(Duration::from_secs(60), link.receive()).await.is_err());
        faults.clear();
        link.send(REQUEST).await.unwrap();
        assert_eq!(link.receive().await.unwrap().len(), 216);
    }

    #[tokio::test(start_paused = true)]
    async fn simulated_time_runs_at_the_given_speed() {
        let bus = Bus::with_batteries(&daren::BRAND, &[1], 1, Faults::default());
        let bus = SimBus::new(bus, 60.0, None);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(bus.last_reply(), None);
        bus.reply(REQUEST);
        let (address, seconds) = bus.last_reply().unwrap();
        assert_eq!(address, 1);
        assert!((600.0..601.0).contains(&seconds), "{seconds}");
    }
}

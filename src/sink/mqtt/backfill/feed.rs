//! What was missed, on one connection: one chunk at a time, and which readings the broker got live.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::{Backfill, Chunk, Mode};
use crate::model::DeviceId;
use crate::sink::mqtt::battery::PublishedBattery;
use crate::sink::mqtt::message::Message;
use crate::sink::mqtt::topics::HISTORY;

/// Where ThingsBoard takes the values of several devices.
const GATEWAY: &str = "v1/gateway/telemetry";
/// Between two chunks.
const PAUSE: Duration = Duration::from_millis(50);
/// Of a chunk, in bytes, unless a single reading is larger.
pub(super) const MAX_CHUNK: usize = 8192;
/// Acknowledgements within this time let chunks grow.
const FAST: Duration = Duration::from_millis(250);
/// Those that take longer let them shrink: live values wait for that long.
const SLOW: Duration = Duration::from_secs(1);

/// What the session does next.
#[derive(Debug)]
pub enum Turn {
    /// Send this if nothing else is queued.
    Send(Outgoing),
    /// Call [`Feed::confirm_later`].
    Confirm,
}

#[derive(Debug)]
pub struct Outgoing {
    /// Of the battery.
    device: String,
    pub(super) payload: String,
    numbers: Vec<u64>,
}

/// The rows on one connection.
#[derive(Debug)]
pub struct Feed {
    pub(super) backfill: Arc<Backfill>,
    /// What the broker got live, for each battery.
    pub(super) live: Vec<Live>,
    /// The chunk on its way, and since when.
    pub(super) sending: Option<(oneshot::Receiver<()>, Vec<u64>, Instant)>,
    /// Live readings on their way: battery and number.
    confirming: Option<(oneshot::Receiver<()>, Vec<Published>)>,
    pub(super) max_chunk: usize,
    not_before: Instant,
}

/// Battery and number of a reading.
type Published = (DeviceId, u64);

#[derive(Debug)]
pub(super) struct Live {
    device: DeviceId,
    /// Number of the last published reading.
    pub(super) published: u64,
    pub(super) unconfirmed: Vec<u64>,
}

impl Feed {
    pub fn new(backfill: Arc<Backfill>, devices: impl Iterator<Item = DeviceId>) -> Self {
        let live = |device| Live { device, published: 0, unconfirmed: Vec::new() };
        Feed {
            backfill,
            live: devices.map(live).collect(),
            sending: None,
            confirming: None,
            max_chunk: MAX_CHUNK / 4,
            not_before: Instant::now(),
        }
    }

    /// Waits until something is to be done. Cancel-safe.
    pub async fn next(&mut self) -> Turn {
        loop {
            let is_free = self.sending.is_none();
            let chunk = is_free.then(|| {
                self.backfill
                    .chunk(self.max_chunk, |device, sequence| self.is_due(device, sequence))
            });
            let chunk = chunk.flatten();
            let is_waiting = chunk.is_some();
            if let Some(chunk) = chunk.filter(|_| Instant::now() >= self.not_before) {
                return Turn::Send(self.outgoing(chunk));
            }
            let sent = self.sending.as_mut().map(|(receiver, ..)| receiver);
            let confirmed = self.confirming.as_mut().map(|(receiver, _)| receiver);
            tokio::select! {
                () = signalled(sent) => self.finish_chunk(Instant::now()),
                () = signalled(confirmed) => {
                    self.finish_live();
                    return Turn::Confirm;
                }
                () = self.backfill.added.notified() => {}
                () = sleep_until(self.not_before), if is_waiting => {}
            }
        }
    }

    /// A reading that is published live, or will be, is not missed.
    pub(super) fn is_due(&self, device: &str, sequence: u64) -> bool {
        if self.backfill.mode != Mode::Missed {
            return true;
        }
        let live = self.live.iter().find(|live| live.device.as_str() == device);
        live.is_some_and(|live| match live.unconfirmed.first() {
            Some(first) => sequence < *first,
            None => sequence <= live.published,
        })
    }

    pub(super) fn outgoing(&self, Chunk { device, rows, numbers }: Chunk) -> Outgoing {
        let payload = match self.backfill.mode {
            Mode::ThingsBoard => format!("{{\"{device}\":[{rows}]}}"),
            Mode::Missed | Mode::All => format!("[{rows}]"),
        };
        Outgoing { device, payload, numbers }
    }

    /// Live values come first.
    pub fn defer(&mut self) {
        self.not_before = Instant::now() + PAUSE;
    }

    pub fn message(
        &self,
        outgoing: &mut Outgoing,
        batteries: &[PublishedBattery],
    ) -> Option<Message> {
        let battery = batteries.iter().find(|it| it.id.as_str() == outgoing.device)?;
        let topic = match self.backfill.mode {
            Mode::ThingsBoard => GATEWAY.to_owned(),
            Mode::Missed | Mode::All => battery.topics.topic(HISTORY),
        };
        Some(Message::event(topic, std::mem::take(&mut outgoing.payload)))
    }

    pub fn sent(&mut self, outgoing: Outgoing, acknowledged: oneshot::Receiver<()>) {
        self.sending = Some((acknowledged, outgoing.numbers, Instant::now()));
    }

    pub(super) fn finish_chunk(&mut self, now: Instant) {
        let Some((_, numbers, since)) = self.sending.take() else { return };
        self.backfill.confirm(&numbers);
        let took = now - since;
        let size = match took {
            _ if took < FAST => self.max_chunk * 2,
            _ if took > SLOW => self.max_chunk / 2,
            _ => self.max_chunk,
        };
        self.max_chunk = size.clamp(1, MAX_CHUNK);
        self.not_before = now + PAUSE;
    }

    pub(super) fn finish_live(&mut self) {
        let Some((_, readings)) = self.confirming.take() else { return };
        for (device, sequence) in readings {
            self.backfill.confirm_live(device.as_str(), sequence);
            for live in self.live.iter_mut().filter(|live| live.device == device) {
                live.unconfirmed.retain(|unconfirmed| *unconfirmed != sequence);
            }
        }
    }

    /// Takes note of what was published. Returns whether a confirmation has to be requested.
    pub fn note(&mut self, batteries: &[PublishedBattery]) -> bool {
        if self.backfill.mode != Mode::Missed {
            return false;
        }
        for (live, battery) in self.live.iter_mut().zip(batteries) {
            let Some((sequence, is_live)) = battery.published else { continue };
            if sequence > live.published {
                live.published = sequence;
                live.unconfirmed.extend(is_live.then_some(sequence));
            }
        }
        self.confirming.is_none() && self.live.iter().any(|live| !live.unconfirmed.is_empty())
    }

    /// `delivered`: once the broker has all that was published so far.
    pub fn confirm_later(&mut self, delivered: oneshot::Receiver<()>) {
        let readings = self.live.iter().flat_map(|live| {
            live.unconfirmed.iter().map(|sequence| (live.device.clone(), *sequence))
        });
        self.confirming = Some((delivered, readings.collect()));
    }

    /// The broker has acknowledged everything.
    pub fn finish(&mut self) {
        self.finish_chunk(Instant::now());
        let (_, nothing) = oneshot::channel();
        self.confirm_later(nothing);
        self.finish_live();
    }
}

/// Never returns if there is nothing to wait for, or if the connection has ended.
async fn signalled(receiver: Option<&mut oneshot::Receiver<()>>) {
    if let Some(receiver) = receiver
        && receiver.await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

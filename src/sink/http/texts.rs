//! The texts of responses. Each is rendered once per change of the board, however many clients request
//! it, and all of them share its memory.

use std::sync::Arc;

use axum::body::Bytes;
use serde_json::Value as Json;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::sleep;

use super::limits::TEXT_LIFETIME;
use super::metrics::Metrics;
use super::{gateway, overview};
use crate::board::Board;
use crate::clock;
use crate::history::History;
use crate::model::{BrokerState, DeviceId, DeviceState};
use crate::raw;
use crate::tasks::Tasks;

/// The start of an event; its data ends with [`EVENT_END`].
const BATTERY_EVENT: &str = "event: battery\ndata: ";
const BROKER_EVENT: &str = "event: broker\ndata: ";
const EVENT_END: &str = "\n\n";

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    board: Board,
    history: History,
    tasks: Tasks,
    /// Its holder renders what is missing. The clients that wait for it find it rendered.
    cache: Arc<Mutex<Cache>>,
}

#[derive(Debug)]
struct Cache {
    batteries: Vec<BatteryTexts>,
    broker: watch::Receiver<Option<BrokerState>>,
    broker_event: Bytes,
    /// Number of the last change of the broker's event.
    broker_changed: u64,
    overview: Document<u64>,
    devices: Document<u64>,
    metrics: Document<MetricsKey>,
    /// Number of the last change of any event.
    last_change: u64,
    used: bool,
}

#[derive(Debug)]
struct BatteryTexts {
    id: DeviceId,
    state: watch::Receiver<DeviceState>,
    /// Number of the last change.
    changed: u64,
    /// One for each [`Form`].
    texts: [Option<Bytes>; 3],
}

/// What a text about one battery is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Event,
    Raw,
    /// For flows of the gateway.
    Latest,
}

/// A text about all batteries, and for which state of the board it was rendered.
type Document<Key> = Option<(Key, Bytes)>;

/// Metrics contain ages and other values that change without the board.
#[derive(Debug, PartialEq, Eq)]
struct MetricsKey {
    version: u64,
    second: u64,
    event_clients: usize,
}

impl Texts {
    pub(super) fn new(board: Board, history: History, tasks: Tasks) -> Self {
        let battery = |id: &DeviceId| {
            let state = board.subscribe(id)?;
            Some(BatteryTexts { id: id.clone(), state, changed: 0, texts: Default::default() })
        };
        let cache = Cache {
            batteries: board.devices().filter_map(battery).collect(),
            broker: board.subscribe_broker(),
            broker_event: Bytes::new(),
            broker_changed: 0,
            overview: None,
            devices: None,
            metrics: None,
            last_change: 0,
            used: false,
        };
        Texts { board, history, tasks, cache: Arc::new(Mutex::new(cache)) }
    }

    async fn lock(&self) -> MutexGuard<'_, Cache> {
        let mut cache = self.cache.lock().await;
        cache.used = true;
        cache
    }

    /// The state of the board. Take it before rendering, so that a change meanwhile leads to a new text.
    fn version(&self) -> u64 {
        *self.board.changes().borrow()
    }

    /// The events after this change, and the number of the last change. All events are after 0.
    pub(super) async fn events_since(&self, change: u64) -> (Vec<Bytes>, u64) {
        let mut cache = self.lock().await;
        cache.find_changes();
        let mut events = Vec::new();
        for battery in &mut cache.batteries {
            if battery.changed > change {
                events.push(battery.text(Form::Event).await);
            }
        }
        if cache.broker_changed > change {
            events.push(cache.broker_event.clone());
        }
        (events, cache.last_change)
    }

    /// `/api/overview`: the data of the dashboard.
    pub(super) async fn overview(&self) -> Bytes {
        let mut cache = self.lock().await;
        let version = self.version();
        if let Some(text) = current(&cache.overview, &version) {
            return text;
        }
        cache.find_changes();
        let mut events = Vec::with_capacity(cache.batteries.len());
        for battery in &mut cache.batteries {
            events.push(battery.text(Form::Event).await);
        }
        let (program, hours) = (env!("CARGO_PKG_VERSION"), self.history.span.as_secs() / 3600);
        let head = format!("{{\"version\":\"{program}\",\"history_hours\":{hours},\"broker\":");
        let broker = event_data(&cache.broker_event, BROKER_EVENT);
        let head = [head.as_bytes(), broker, b",\"batteries\":["].concat();
        let text = list(&head, events.iter().map(|event| event_data(event, BATTERY_EVENT)), b"]}");
        cache.overview = Some((version, text.clone()));
        text
    }

    /// `/api/devices`: all batteries as their `raw` JSON.
    pub(super) async fn devices(&self) -> Bytes {
        let mut cache = self.lock().await;
        let version = self.version();
        if let Some(text) = current(&cache.devices, &version) {
            return text;
        }
        cache.find_changes();
        let mut texts = Vec::with_capacity(cache.batteries.len());
        for battery in &mut cache.batteries {
            texts.push(battery.text(Form::Raw).await);
        }
        let text = list(b"[", texts.iter().map(|text| &text[..]), b"]");
        cache.devices = Some((version, text.clone()));
        text
    }

    /// One battery. `None` if there is no such battery.
    pub(super) async fn battery(&self, id: &DeviceId, form: Form) -> Option<Bytes> {
        let mut cache = self.lock().await;
        cache.find_changes();
        let battery = cache.batteries.iter_mut().find(|battery| battery.id == *id)?;
        Some(battery.text(form).await)
    }

    /// `/metrics`. `None` if they cannot be rendered.
    pub(super) async fn metrics(&self, event_clients: usize) -> Option<Bytes> {
        let mut cache = self.cache.clone().lock_owned().await;
        cache.used = true;
        let second = clock::uptime().0 / 1000;
        let key = MetricsKey { version: self.version(), second, event_clients };
        if let Some(text) = current(&cache.metrics, &key) {
            return Some(text);
        }
        let Texts { board, history, tasks, .. } = self.clone();
        let metrics = Metrics { board, history, tasks, event_clients };
        // The format lists all batteries per quantity, so it cannot be rendered in slices. The thread
        // keeps the lock even if the client disconnects, so there is one of them.
        let render = move || {
            let text = detached(&metrics.render()?);
            cache.metrics = Some((key, text.clone()));
            Some(text)
        };
        spawn_blocking(render).await.ok()?
    }

    /// Drops the texts when no client has requested one for a while. Never ends.
    pub(super) async fn drop_unused(&self) {
        loop {
            sleep(TEXT_LIFETIME).await;
            let mut cache = self.cache.lock().await;
            if !std::mem::take(&mut cache.used) {
                cache.drop_texts();
            }
        }
    }
}

impl Cache {
    fn find_changes(&mut self) {
        for battery in &mut self.batteries {
            if battery.state.has_changed().unwrap_or(false) {
                battery.state.mark_unchanged();
                self.last_change += 1;
                battery.changed = self.last_change;
                battery.texts = Default::default();
            }
        }
        if self.broker.has_changed().unwrap_or(false) || self.broker_changed == 0 {
            let broker = overview::broker(self.broker.borrow_and_update().as_ref());
            let event = event(BROKER_EVENT, &broker);
            // The counters of the broker are no part of it.
            if event != self.broker_event {
                self.last_change += 1;
                (self.broker_event, self.broker_changed) = (event, self.last_change);
            }
        }
    }

    fn drop_texts(&mut self) {
        for battery in &mut self.batteries {
            battery.texts = Default::default();
        }
        (self.overview, self.devices, self.metrics) = (None, None, None);
    }
}

impl BatteryTexts {
    /// Renders a text that is missing. Other tasks run before, so that reads are not late.
    async fn text(&mut self, form: Form) -> Bytes {
        let text = &mut self.texts[form as usize];
        if let Some(text) = text {
            return text.clone();
        }
        yield_now().await;
        let state = self.state.borrow();
        let rendered = match form {
            Form::Event => event(BATTERY_EVENT, &overview::battery(&state)),
            Form::Raw => raw::text(&state).into(),
            Form::Latest => gateway::latest(&state).to_string().into(),
        };
        text.insert(rendered).clone()
    }
}

fn current<Key: PartialEq>(document: &Document<Key>, key: &Key) -> Option<Bytes> {
    document.as_ref().filter(|(of, _)| of == key).map(|(_, text)| text.clone())
}

/// A text that one thread renders and another one drops. An allocation of this size is returned to the
/// system; allocators keep smaller ones for the thread that drops them, and the other thread cannot
/// use them again.
pub(super) fn detached(text: &str) -> Bytes {
    let mut detached = String::with_capacity(text.len().max(64 * 1024));
    detached.push_str(text);
    detached.into()
}

fn event(start: &str, data: &Json) -> Bytes {
    format!("{start}{data}{EVENT_END}").into()
}

/// The JSON in an event.
fn event_data<'a>(event: &'a Bytes, start: &str) -> &'a [u8] {
    &event[start.len()..event.len() - EVENT_END.len()]
}

fn list<'a>(head: &[u8], items: impl Iterator<Item = &'a [u8]>, end: &[u8]) -> Bytes {
    let mut text = head.to_vec();
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(item);
    }
    text.extend_from_slice(end);
    text.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::model::Profile;

    const CLIENTS: usize = 60;

    fn start() -> (Board, Texts) {
        let board = Board::new(["a", "b", "c"].map(Profile::sample));
        let history = History::new(&board, Duration::from_secs(3600));
        (board.clone(), Texts::new(board, history, Tasks::default()))
    }

    fn id(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    /// The text that all clients share. Another rendering would be at another address.
    fn shared(texts: Vec<Bytes>) -> Bytes {
        let first = &texts[0];
        assert!(texts.iter().all(|text| text.as_ptr() == first.as_ptr()), "rendered twice");
        first.clone()
    }

    async fn overview(texts: &Texts) -> Bytes {
        shared(join_all((0..CLIENTS).map(|_| texts.overview())).await)
    }

    async fn devices(texts: &Texts) -> Bytes {
        shared(join_all((0..CLIENTS).map(|_| texts.devices())).await)
    }

    async fn battery(texts: &Texts, name: &str, form: Form) -> Bytes {
        let id = id(name);
        let all = join_all((0..CLIENTS).map(|_| texts.battery(&id, form))).await;
        shared(all.into_iter().map(|text| text.expect("a battery")).collect())
    }

    async fn metrics(texts: &Texts) -> Bytes {
        loop {
            let second = || clock::uptime().0 / 1000;
            let before = second();
            let all = join_all((0..CLIENTS).map(|_| texts.metrics(0))).await;
            // They contain ages, so the next second has a text of its own.
            if second() == before {
                return shared(all.into_iter().map(|text| text.expect("metrics")).collect());
            }
        }
    }

    #[tokio::test]
    async fn clients_share_one_rendering_per_change() {
        let (board, texts) = start();
        for round in 1..=3 {
            let b = battery(&texts, "b", Form::Raw).await;
            let c = battery(&texts, "c", Form::Latest).await;
            let before = [overview(&texts).await, devices(&texts).await, metrics(&texts).await];
            board.update(&id("b"), |state| state.counters.reads += 1);
            let after = [overview(&texts).await, devices(&texts).await, metrics(&texts).await];
            for (before, after) in before.iter().zip(&after) {
                assert_ne!(before.as_ptr(), after.as_ptr(), "{after:?} is old");
            }
            let overview: Json = serde_json::from_slice(&after[0]).unwrap();
            assert_eq!(overview["batteries"][1]["reads"], round);
            assert_ne!(battery(&texts, "b", Form::Raw).await.as_ptr(), b.as_ptr());
            let unchanged = battery(&texts, "c", Form::Latest).await;
            assert_eq!(unchanged.as_ptr(), c.as_ptr());
        }
        assert_eq!(texts.battery(&id("d"), Form::Raw).await, None);
    }

    #[tokio::test]
    async fn lists_contain_all_batteries() {
        let (board, texts) = start();
        board.update_broker(|broker| broker.connected = true);
        let states: Vec<DeviceState> = board.states().collect();
        let overview: Json = serde_json::from_slice(&texts.overview().await).unwrap();
        let batteries: Vec<Json> = states.iter().map(overview::battery).collect();
        let broker = overview::broker(board.broker().as_ref());
        let expected = json!({"version": env!("CARGO_PKG_VERSION"), "history_hours": 1, "broker": broker, "batteries": batteries});
        assert_eq!(overview, expected);
        let devices: Json = serde_json::from_slice(&texts.devices().await).unwrap();
        assert_eq!(devices, states.iter().map(raw::raw).collect::<Json>());
    }

    #[tokio::test]
    async fn event_clients_share_the_events_of_each_change() {
        let (board, texts) = start();
        let all = join_all((0..CLIENTS).map(|_| texts.events_since(0))).await;
        let last = all[0].1;
        for index in 0..4 {
            shared(all.iter().map(|(events, _)| events[index].clone()).collect());
        }
        assert!(all[0].0.len() == 4 && all[0].0[3].starts_with(b"event: broker\ndata: null\n\n"));
        assert_eq!(texts.events_since(last).await, (vec![], last));

        board.update(&id("c"), |state| state.counters.reads += 1);
        board.update(&id("c"), |state| state.counters.reads += 1);
        let (changed, next) = texts.events_since(last).await;
        assert_eq!(changed.len(), 1);
        assert!(changed[0].starts_with(b"event: battery\ndata: {\"id\":\"c\""));
        board.update_broker(|broker| broker.connected = true);
        let (changed, last) = texts.events_since(next).await;
        assert_eq!(changed.len(), 1);
        assert!(changed[0].starts_with(b"event: broker\ndata: {"));
        board.update_broker(|broker| broker.connections += 1);
        assert_eq!(texts.events_since(last).await, (vec![], last), "a counter is no event");
    }

    #[tokio::test(start_paused = true)]
    async fn unused_texts_are_dropped() {
        let (_board, texts) = start();
        let (_, last) = texts.events_since(0).await;
        let (_, _, _) = (texts.overview().await, texts.devices().await, texts.metrics(0).await);
        let _ = tokio::time::timeout(TEXT_LIFETIME * 2, texts.drop_unused()).await;
        let cache = texts.cache.lock().await;
        assert!(cache.batteries.iter().all(|of| of.texts.iter().all(Option::is_none)));
        assert!(cache.overview.is_none() && cache.devices.is_none() && cache.metrics.is_none());
        drop(cache);
        assert_eq!(texts.events_since(last).await, (vec![], last));
        assert_eq!(texts.events_since(0).await.0.len(), 4);
    }
}

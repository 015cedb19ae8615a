//! `/metrics`: OpenMetrics, generated from the catalogue. Nothing is registered
//! permanently, so a battery that does not answer leaves no old value, only `bms_up` 0.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::board::Board;
use crate::clock;
use crate::history::History;
use crate::model::catalog::{CATALOG, Get, Kind, Quantity};
use crate::model::{DeviceState, Entry, LinkState, Value, entries};
use crate::tasks::Tasks;

/// OpenMetrics 1.0, section "Content type".
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the metrics are made of.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) board: Board,
    pub(super) history: History,
    pub(super) tasks: Tasks,
    pub(super) event_clients: usize,
}

impl Metrics {
    pub(super) fn render(self) -> Option<String> {
        let mut registry = Registry::with_prefix("bms");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).ok()?;
        Some(text)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let states: Vec<DeviceState> = self.board.states().collect();
        let mut families = Families(&mut encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        families.single("build", "Version of the program", Sample::Info(version))?;
        families.batteries(&states)?;
        families.values(&states)?;
        let panics = Sample::Counter(self.tasks.panics());
        families.single("panics", "Bugs that ended a task or a read", panics)?;
        let restarts = self.tasks.status().into_iter().map(|task| {
            let labels = vec![("task", task.name)];
            (labels, Sample::Counter(task.restarts))
        });
        families.write("task_restarts", "Restarts of a task after a panic", None, restarts)?;
        let history = states.iter().filter_map(|state| {
            let bytes = self.history.size(&state.profile.id)? as f64;
            Some((device(state), Sample::Gauge(bytes)))
        });
        let help = "Memory used by the history of a battery";
        families.write("history", help, Some("bytes"), history)?;
        let clients = Sample::Gauge(self.event_clients as f64);
        families.single("event_listeners", "Clients connected to /api/events", clients)?;
        if let Some(counts) = self.board.notifications.get() {
            for (name, help, count) in [
                ("notifications_sent", "Notifications that a service has accepted", &counts.sent),
                ("notifications_failed", "Failed attempts to send a notification", &counts.failed),
                ("notifications_left_out", "Events that were never sent", &counts.left_out),
            ] {
                families.single(name, help, Sample::Counter(count.load(Ordering::Relaxed)))?;
            }
        }
        if let Some(counts) = self.board.outputs.influx.get() {
            for (name, help, count) in [
                ("influx_written", "Readings that the InfluxDB server has taken", &counts.written),
                (
                    "influx_dropped",
                    "Readings that it has refused, or that grew too old",
                    &counts.dropped,
                ),
            ] {
                families.single(name, help, Sample::Counter(count.load(Ordering::Relaxed)))?;
            }
            let waiting = Sample::Gauge(counts.waiting.load(Ordering::Relaxed) as f64);
            families.single("influx_queue", "Readings waiting for the InfluxDB server", waiting)?;
        }
        if let Some(counts) = self.board.outputs.backfill.get() {
            let (sent, dropped) = (&counts.written, &counts.dropped);
            for (name, help, count) in [
                ("backfill_sent", "Missed readings that the broker has confirmed", sent),
                ("backfill_dropped", "Missed readings that grew too old", dropped),
            ] {
                families.single(name, help, Sample::Counter(count.load(Ordering::Relaxed)))?;
            }
            let waiting = Sample::Gauge(counts.waiting.load(Ordering::Relaxed) as f64);
            families.single(
                "backfill_queue",
                "Readings that the broker may have missed",
                waiting,
            )?;
        }
        let Some(broker) = self.board.broker() else { return Ok(()) };
        let connected = Sample::Gauge(number(broker.connected));
        let help = "Whether the program is connected to the broker";
        families.single("mqtt_connected", help, connected)?;
        let connections = Sample::Counter(broker.connections);
        families.single("mqtt_connections", "Connections that the broker accepted", connections)?;
        let waiting = Sample::Gauge(self.board.mqtt_queue.load(Ordering::Relaxed) as f64);
        families.single("mqtt_queue", "Messages waiting for the broker", waiting)
    }
}

type Labels = Vec<(&'static str, String)>;

fn device(state: &DeviceState) -> Labels {
    vec![("device", state.profile.id.to_string())]
}

enum Sample {
    Gauge(f64),
    Counter(u64),
    Info(Labels),
}

impl Sample {
    fn metric_type(&self) -> MetricType {
        match self {
            Sample::Gauge(_) => MetricType::Gauge,
            Sample::Counter(_) => MetricType::Counter,
            Sample::Info(_) => MetricType::Info,
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Sample::Gauge(value) => encoder.encode_gauge(value),
            Sample::Counter(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Sample::Info(labels) => encoder.encode_info(labels),
        }
    }
}

/// Writes metric families one after the other, as the format requires.
struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Families<'_, '_> {
    /// A family without samples is left out.
    fn write(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&str>,
        samples: impl IntoIterator<Item = (Labels, Sample)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        let Some((_, first)) = samples.peek() else { return Ok(()) };
        let metric_type = first.metric_type();
        let unit = unit.map(|unit| Unit::Other(unit.to_owned()));
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), metric_type)?;
        samples.try_for_each(|(labels, sample)| match labels.is_empty() {
            true => sample.encode(&mut family),
            false => sample.encode(&mut family.encode_family(&labels)?),
        })
    }

    /// A family of the program, not of a battery.
    fn single(&mut self, name: &str, help: &str, sample: Sample) -> fmt::Result {
        self.write(name, help, None, [(Labels::new(), sample)])
    }

    fn batteries(&mut self, states: &[DeviceState]) -> fmt::Result {
        let info = states.iter().map(|state| (Labels::new(), Sample::Info(description(state))));
        self.write("device", "Names and versions of a battery", None, info)?;
        let each = |sample: fn(&DeviceState) -> Sample| {
            states.iter().map(move |state| (device(state), sample(state)))
        };
        let up = each(|state| Sample::Gauge(number(is_online(state))));
        self.write("up", "Whether a battery answers", None, up)?;
        let now = clock::now();
        let ages = states.iter().filter(|state| is_online(state)).filter_map(|state| {
            let age = Duration::from_millis(now.since(state.snapshot.as_deref()?.taken));
            Some((device(state), Sample::Gauge(age.as_secs_f64())))
        });
        self.write("reading_age", "Time since the last good read", Some("seconds"), ages)?;
        let reads = each(|state| Sample::Counter(state.counters.reads));
        self.write("reads", "Good reads", None, reads)?;
        let faults = states.iter().flat_map(|state| {
            state.counters.faults().map(|(kind, count)| {
                let labels = [device(state), vec![("type", kind.name().to_owned())]].concat();
                (labels, Sample::Counter(count))
            })
        });
        self.write("read_errors", "Failed reads, by error type", None, faults)?;
        let reconnects = each(|state| Sample::Counter(state.counters.reconnects));
        self.write("reconnects", "Reconnects to a battery", None, reconnects)
    }

    /// All quantities of the catalogue that some battery has.
    fn values(&mut self, states: &[DeviceState]) -> fmt::Result {
        let online = states.iter().filter(|state| is_online(state));
        let online: Vec<_> = online.map(|state| (state, entries(state))).collect();
        for quantity in CATALOG.iter().filter(|quantity| is_measured(quantity)) {
            let samples = online.iter().flat_map(|(state, entries)| {
                let own = entries.iter().filter(|entry| std::ptr::eq(entry.quantity(), quantity));
                own.flat_map(|entry| samples(state, entry))
            });
            // `cell_{}_voltage` of the catalogue is the family `cell_voltage`.
            let name = quantity.key.replace("_{}", "");
            let help = quantity.name.replace(" {}", "").replace("{}", "Alarm");
            self.write(&name, &help, base_unit(quantity.kind), samples)?;
        }
        Ok(())
    }
}

fn is_online(state: &DeviceState) -> bool {
    state.link == LinkState::Online
}

fn number(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

/// Read counters have metrics of their own, times are published as ages, and text is not a number.
fn is_measured(quantity: &Quantity) -> bool {
    let is_read_counter = matches!(quantity.get, Get::Link(_)) && quantity.kind == Kind::Count;
    !is_read_counter && !matches!(quantity.kind, Kind::Text | Kind::Timestamp)
}

fn description(state: &DeviceState) -> Labels {
    let profile = &state.profile;
    let mut labels = device(state);
    labels.push(("name", profile.name.clone()));
    labels.push(("type", profile.brand.clone()));
    if let Some(snapshot) = &state.snapshot {
        let identity = &snapshot.reading.identity;
        labels.extend(identity.model.clone().map(|model| ("model", model)));
        labels.extend(identity.software.clone().map(|version| ("version", version)));
    }
    labels
}

/// Label of a member of a family: `cell="3"` for the key `cell_3_voltage`.
fn member(entry: &Entry) -> Option<(&'static str, String)> {
    let (before, after) = entry.quantity().key.split_once("{}")?;
    let key = entry.key.to_string();
    let member = key.strip_prefix(before)?.strip_suffix(after)?;
    let label = match before.trim_end_matches('_') {
        "temp" => "sensor",
        label => label,
    };
    Some((label, member.to_owned()))
}

/// Prometheus expects base units, spelled out, at the end of the name.
fn base_unit(kind: Kind) -> Option<&'static str> {
    Some(match kind.unit()? {
        "%" => "percent",
        "V" => "volts",
        "A" => "amperes",
        "W" => "watts",
        "Wh" => "watt_hours",
        "kWh" => "kilowatt_hours",
        "Ah" => "ampere_hours",
        "°C" => "celsius",
        "mΩ" => "ohms",
        "ms" | "s" => "seconds",
        "dBm" => "dbm",
        _ => return None,
    })
}

/// One sample, or one for each word of an enumeration.
fn samples(state: &DeviceState, entry: &Entry) -> Vec<(Labels, Sample)> {
    let kind = entry.quantity().kind;
    let mut labels = device(state);
    labels.extend(member(entry));
    if let (Kind::Enum(words), Value::Text(current)) = (kind, &entry.value) {
        let sample = |word: &&'static str| {
            let label = vec![(entry.quantity().key, (*word).to_owned())];
            ([labels.clone(), label].concat(), Sample::Gauge(number(current == word)))
        };
        return words.iter().map(sample).collect();
    }
    // Decimal places between the published unit and the base unit.
    let shift = if matches!(kind.unit(), Some("mΩ" | "ms")) { 3 } else { 0 };
    let value = match &entry.value {
        Value::Decimal { mantissa, scale } => Value::decimal(*mantissa, scale + shift),
        Value::Integer(number) => Value::decimal(*number, shift),
        Value::Switch(on) => Value::Integer((*on).into()),
        Value::Text(_) => return Vec::new(),
    };
    value.to_json().as_f64().map(|number| (labels, Sample::Gauge(number))).into_iter().collect()
}

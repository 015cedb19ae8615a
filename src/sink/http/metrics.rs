//! `/metrics`: OpenMetrics, made from the catalogue when somebody asks. Nothing is registered and
//! kept, so a battery that is gone leaves no value behind: only `bms_up` says 0.

use std::fmt;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Shared;
use crate::board::Board;
use crate::clock;
use crate::history::History;
use crate::model::catalog::{CATALOG, Entry, Get, Kind, Quantity, entries};
use crate::model::{DeviceState, LinkState, Value};

/// The registered type of the text (OpenMetrics 1.0, section "Content type").
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let listeners = shared.events.listeners();
    let house = BuildLabels { board: shared.board, history: shared.history, listeners };
    match house.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is measured.
#[derive(Debug)]
struct BuildLabels {
    board: Board,
    history: History,
    listeners: usize,
}

impl BuildLabels {
    fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("bms");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for BuildLabels {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let states: Vec<DeviceState> = self.board.states().collect();
        let mut page = Page(&mut encoder);
        page.build()?;
        page.batteries(&states)?;
        page.conversations(&states)?;
        page.values(&states)?;
        let history = states.iter().filter_map(|state| {
            Some((device(state), self.history.size(&state.profile.id)? as f64))
        });
        page.gauges(
            "history",
            "Memory that the history of a battery takes",
            Some("bytes"),
            history,
        )?;
        let listeners = [(Vec::new(), self.listeners as f64)];
        page.gauges("event_listeners", "Who follows /api/events", None, listeners)?;
        page.broker(&self.board)
    }
}

type Labels = Vec<(&'static str, String)>;

fn device(state: &DeviceState) -> Labels {
    vec![("device", state.profile.id.to_string())]
}

/// The text while it is written: one family after the other, as the format wants it.
struct Page<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Page<'_, '_> {
    /// A family of numbers that go up and down; none at all where nothing is known.
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&str>,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let unit = unit.map(|unit| Unit::Other(unit.to_owned()));
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// A family of counts; none at all where nothing was counted.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in samples {
            match labels.is_empty() {
                true => family.encode_counter::<NoLabelSet, _, u64>(&count, None)?,
                false => family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?,
            }
        }
        Ok(())
    }

    /// Names and versions.
    fn info(&mut self, name: &str, help: &str, sets: &[Labels]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        sets.iter().try_for_each(|labels| family.encode_info(labels))
    }

    fn build(&mut self) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.info("build", "The program", &[vec![("version", version)]])
    }

    fn batteries(&mut self, states: &[DeviceState]) -> fmt::Result {
        let sets: Vec<Labels> = states.iter().map(description).collect();
        if !sets.is_empty() {
            self.info("device", "Names and versions of a battery", &sets)?;
        }
        let up = |state: &DeviceState| f64::from(u8::from(is_online(state)));
        let help = "Whether a battery answers";
        self.gauges("up", help, None, states.iter().map(|state| (device(state), up(state))))?;
        let now = clock::now();
        let age = |state: &DeviceState| {
            let age = now.since(state.snapshot.as_deref()?.taken);
            Some((device(state), Duration::from_millis(age).as_secs_f64()))
        };
        let ages = states.iter().filter(|state| is_online(state)).filter_map(age);
        self.gauges("reading_age", "Time since the last good read", Some("seconds"), ages)
    }

    fn conversations(&mut self, states: &[DeviceState]) -> fmt::Result {
        let counters = |count: fn(&DeviceState) -> u64| {
            states.iter().map(move |state| (device(state), count(state)))
        };
        self.counters("reads", "Good reads", counters(|state| state.counters.reads))?;
        let faults = states.iter().flat_map(|state| {
            state.counters.faults().map(|(kind, count)| {
                let mut labels = device(state);
                labels.push(("type", kind.name().to_owned()));
                (labels, count)
            })
        });
        self.counters("read_errors", "Failed reads, by the type of the error", faults)?;
        let reconnects = counters(|state| state.counters.reconnects);
        self.counters("reconnects", "Times that the link was opened again", reconnects)
    }

    /// Every row of the catalogue that some battery can fill.
    fn values(&mut self, states: &[DeviceState]) -> fmt::Result {
        let online: Vec<(&DeviceState, Vec<Entry>)> = states
            .iter()
            .filter(|state| is_online(state))
            .map(|state| (state, entries(state)))
            .collect();
        for quantity in CATALOG.iter().filter(|quantity| is_measured(quantity)) {
            let (name, unit) = (name(quantity), unit(quantity.kind));
            let samples = online.iter().flat_map(|(state, entries)| {
                let own = entries.iter().filter(|entry| std::ptr::eq(entry.quantity, quantity));
                own.flat_map(|entry| samples(state, entry))
            });
            let help = quantity.name.replace(" {}", "").replace("{}", "Alarm");
            self.gauges(&name, &help, unit, samples)?;
        }
        Ok(())
    }

    fn broker(&mut self, board: &Board) -> fmt::Result {
        let Some(broker) = board.broker() else { return Ok(()) };
        let connected = f64::from(u8::from(broker.connected));
        let help = "Whether the broker has us";
        self.gauges("mqtt_connected", help, None, [(Vec::new(), connected)])?;
        let help = "Times that the broker let us in";
        self.counters("mqtt_connections", help, [(Vec::new(), broker.connections)])?;
        let help = "Messages that wait for the broker";
        self.gauges("mqtt_queue", help, None, [(Vec::new(), board.mqtt_queue().get() as f64)])
    }
}

fn is_online(state: &DeviceState) -> bool {
    state.link == LinkState::Online
}

/// Counts of the conversation are told by type elsewhere, times as ages, and texts are no numbers.
fn is_measured(quantity: &Quantity) -> bool {
    let counted = matches!(quantity.get, Get::Link(_)) && quantity.kind == Kind::Count;
    !counted && !matches!(quantity.kind, Kind::Text | Kind::Timestamp)
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

/// The key without the place of the member: `cell_{}_voltage` is `cell_voltage`.
fn name(quantity: &Quantity) -> String {
    quantity.key.replace("_{}", "")
}

/// The member of a family and what it is called: `cell` of `cell_{}_voltage`.
fn member(entry: &Entry) -> Option<(&'static str, String)> {
    let (before, after) = entry.quantity.key.split_once("{}")?;
    let member = entry.key.strip_prefix(before)?.strip_suffix(after)?;
    let label = match before.trim_end_matches('_') {
        "temp" => "sensor",
        label => label,
    };
    Some((label, member.to_owned()))
}

/// Prometheus wants base units, spelled out, at the end of the name.
fn unit(kind: Kind) -> Option<&'static str> {
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

/// Digits between our unit and that base unit.
fn shift(kind: Kind) -> u32 {
    if matches!(kind.unit(), Some("mΩ" | "ms")) { 3 } else { 0 }
}

/// One number, or one for each word that a state can have.
fn samples(state: &DeviceState, entry: &Entry) -> Vec<(Labels, f64)> {
    let kind = entry.quantity.kind;
    let mut labels = device(state);
    labels.extend(member(entry));
    if let (Kind::Enum(words), Value::Text(now)) = (kind, &entry.value) {
        let sample = |word: &&'static str| {
            let mut labels = labels.clone();
            labels.push((entry.quantity.key, (*word).to_owned()));
            (labels, f64::from(u8::from(now == word)))
        };
        return words.iter().map(sample).collect();
    }
    let number = match &entry.value {
        Value::Decimal { mantissa, scale } => Value::decimal(*mantissa, scale + shift(kind)),
        Value::Integer(number) => Value::decimal(*number, shift(kind)),
        Value::Switch(on) => Value::Integer((*on).into()),
        Value::Text(_) => return Vec::new(),
    };
    number.to_json().as_f64().map(|number| (labels, number)).into_iter().collect()
}

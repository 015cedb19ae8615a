//! Replies from the state of a pack.

use crate::model::Reading;
use crate::model::reading::{Module, Pack, Probe, SensorLocation, Switch};
use crate::model::units::Unit;
use crate::protocol::driver::Medium;
use crate::protocol::table::frame::{Numbers, Shape, put, unsigned};
use crate::protocol::table::key::{Flag, Key, NumberKey};
use crate::protocol::table::layout::{Layout, Variable, Variables};
use crate::protocol::table::medium_name;
use crate::protocol::table::number::{Number, scatter};
use crate::protocol::table::scalar::{Count, Scale};
use crate::protocol::table::schema::{Conditions, Field, Kind, Order, Profile, Reply, Request};
use crate::sim::PackState;

/// Composes replies from the state of a pack.
pub(super) struct Encoder<'a> {
    profile: &'static Profile,
    state: &'a PackState,
    reading: Reading,
    variables: Variables,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(profile: &'static Profile, medium: Medium, state: &'a PackState) -> Self {
        let mut variables = Variables::default();
        variables.set("$medium", Variable::Text(medium_name(medium).to_owned()));
        let mut encoder = Encoder { profile, state, reading: reading(state), variables };
        for field in fields(profile) {
            let Key::Variable(name) = field.key else { continue };
            if field.kind == Kind::Text {
                encoder.variables.set(name, Variable::Text(text_of(field)));
            } else if encoder.variables.meet(&field.condition) {
                let value = field.sim.unwrap_or_else(|| encoder.variable(name, field));
                encoder.variables.set(name, Variable::Number(value));
            }
        }
        encoder
    }

    /// A value for a variable that agrees with its uses.
    fn variable(&self, name: &str, declared: &Field) -> i64 {
        let is_counted = |field: &Field| field.count == Some(Count::Variable(name.to_owned()));
        let packs = self.profile.requests.iter().any(|it| it.packs.as_deref() == Some(name));
        for field in fields(self.profile) {
            match field.key {
                Key::Cells if is_counted(field) => return self.state.cells.len() as i64,
                Key::Temperatures if is_counted(field) => return self.state.sensors.len() as i64,
                _ => {}
            }
            let values = |conditions: &Conditions| conditions.of(name).and_then(|it| it.example());
            if let Some(value) = values(&field.negative) {
                let other =
                    |other: &i64| !field.negative.of(name).is_some_and(|it| it.contain(*other));
                let positive = (0..).find(other).unwrap_or_default();
                return if self.state.current.0 < 0 { value } else { positive };
            }
            if let Some(value) = values(&field.condition) {
                return value;
            }
            // The field is the difference of two numbers, one of which is 0.
            if let Key::Number(key) = field.key
                && field.less.iter().any(|it| it == name)
            {
                let value = self.get(key).unwrap_or_default().min(0);
                return -unscaled(field, value, key.factor);
            }
        }
        let valid = declared.valid.as_ref().and_then(|valid| valid.example());
        valid.unwrap_or(i64::from(packs))
    }

    fn get(&self, key: &NumberKey) -> Option<i64> {
        (key.access)(&mut self.reading.clone(), None)
    }

    /// A reply, or several where each has the cells that it has room for.
    pub(super) fn reply(
        &self,
        request: &Request,
        reply: &'static Reply,
        numbers: Numbers,
    ) -> Vec<Vec<u8>> {
        let shape = Shape::new(self.profile, reply, numbers);
        let numbered = reply.fields.iter().find(|field| field.number.is_some());
        let room = match numbered.and_then(|field| field.count.as_ref()) {
            Some(Count::Fixed(room)) => *room,
            _ => usize::MAX,
        };
        let frames = self.state.cells.len().div_ceil(room).max(1);
        let body = |frame: usize| {
            let first_cell = frame.saturating_mul(room);
            let mut body = Body { encoder: self, first_cell, bytes: Vec::new(), sensors: 0 };
            body.append(request, reply);
            shape.close(&body.bytes)
        };
        (0..frames).map(body).collect()
    }

    /// The fields of a reply. The same bytes may be requested twice, for different fields of it.
    fn fields(&self, request: &Request, reply: &'static Reply) -> impl Iterator<Item = &'a Field> {
        let others = self.profile.requests.iter().filter(|it| it.send == request.send);
        let others = others.filter(|it| it.read.is_none() && it.send.is_some());
        let others = others.flat_map(|it| &it.replies).filter(|it| it.head == reply.head);
        let others = others.filter(|it| !std::ptr::eq(*it, reply));
        let all = reply.fields.iter().chain(others.flat_map(|it| &it.fields));
        all.filter(|field| self.variables.meet(&field.condition))
    }

    fn is_on(&self, flag: Flag) -> bool {
        match flag {
            Flag::Alarm(alarm) => self.state.alarms.contains(&alarm),
            Flag::Switch(Switch::Charging) => self.state.charging,
            Flag::Switch(_) => self.state.discharging,
            Flag::State("charging") => self.state.current.0 > 0,
            Flag::State("discharging") => self.state.current.0 < 0,
            Flag::State("balancing") => self.state.balancing.contains(&true),
            Flag::State(_) | Flag::Ignored => false,
        }
    }

    fn word(&self, field: &Field) -> i64 {
        // A number has one meaning: an alarm, where there is one.
        let set = || field.values.iter().filter(|(_, flag)| self.is_on(*flag));
        let alarm = set().find(|(_, flag)| matches!(flag, Flag::Alarm(_)));
        if let Some((values, _)) = alarm.or(set().next()) {
            return values.example().unwrap_or_default();
        }
        let set = field.bits.iter().filter(|(_, flag)| self.is_on(*flag));
        set.fold(0, |word, (bit, _)| word | 1 << bit)
    }
}

/// The bytes of a reply, without its head, checksum and tail.
struct Body<'a> {
    encoder: &'a Encoder<'a>,
    first_cell: usize,
    bytes: Vec<u8>,
    /// Number of sensors so far.
    sensors: usize,
}

impl Body<'_> {
    fn append(&mut self, request: &Request, reply: &'static Reply) {
        let mut layout = Layout::new(request.registers);
        for field in self.encoder.fields(request, reply) {
            let Some(at) = layout.place(field) else { continue };
            match (&field.count, field.kind) {
                (Some(count), _) => {
                    let state = self.encoder.state;
                    let rest = match field.key {
                        Key::Cells => (state.cells.len() + 1).saturating_sub(field.first),
                        _ => state.sensors.len(),
                    };
                    let count = layout.entries(field, (count, at, rest), &self.encoder.variables);
                    self.array(field, at, count.unwrap_or_default());
                }
                (None, Kind::Text) => {
                    let text = text_of(field).into_bytes().into_iter();
                    self.write(at, text.chain(std::iter::repeat(0)).take(field.size));
                }
                (None, _) => {
                    let value = self.value(field);
                    self.number(field, at, value);
                }
            }
        }
    }

    fn write(&mut self, at: usize, new: impl Iterator<Item = u8>) {
        for (at, byte) in (at..).zip(new) {
            put(&mut self.bytes, at, 1, Order::Big, byte.into());
        }
    }

    fn array(&mut self, field: &Field, at: usize, count: usize) {
        for index in 0..count {
            let cell = self.first_cell + field.first - 1 + index;
            let value = match field.key {
                Key::Cells => self.encoder.state.cells.get(cell).map(|it| (it.to_i64(), 1000)),
                Key::Temperatures => self.next_sensor().map(|sensor| (sensor, 10)),
                _ => Some((0, 1)),
            };
            let place = at + index * field.step();
            self.number(field, place, value);
            let number = field.number.filter(|_| value.is_some());
            if let Some(number) = number.and_then(|it| usize::try_from(place as i64 + it).ok()) {
                self.write(number, [cell as u8 + 1].into_iter());
            }
        }
    }

    /// The value of a field and the number of its smallest units in one; `None` if it has none.
    fn value(&mut self, field: &Field) -> Option<(i64, i64)> {
        if let Some(raw) = field.sim.filter(|_| !matches!(field.key, Key::Variable(_))) {
            return Some((raw, 0));
        }
        Some(match field.key {
            Key::Number(key) if key.name == "temperature" => (self.next_sensor()?, key.factor),
            Key::Number(key) => (self.encoder.get(key)?, key.factor),
            Key::Variable(name) => (self.encoder.variables.number(name)?, 1),
            Key::Flag(flag) => (self.encoder.is_on(flag).into(), 1),
            Key::Word(_) => (self.encoder.word(field), 1),
            Key::BalancingCells => {
                let cells = self.encoder.state.balancing.iter().skip(field.first - 1);
                let bits = cells.take(field.kind.width() * 8).enumerate();
                (bits.fold(0, |bits, (bit, on)| bits | i64::from(*on) << bit), 1)
            }
            _ => (0, 1),
        })
    }

    /// More sensors than the battery has read as its last one.
    fn next_sensor(&mut self) -> Option<i64> {
        let sensors = &self.encoder.state.sensors;
        self.sensors += 1;
        sensors.get(self.sensors - 1).or(sensors.last()).map(|sensor| sensor.to_i64())
    }

    /// Writes a number as the frame has it.
    fn number(&mut self, field: &Field, at: usize, value: Option<(i64, i64)>) {
        let (width, bytes) = (field.kind.width(), &mut self.bytes);
        let order = field.order.unwrap_or(self.encoder.profile.order);
        if field.kind == Kind::F32 {
            let (value, factor) = value.unwrap_or((0, 1));
            let scale = field.scale.denominator as f64 / field.scale.numerator as f64;
            let float = value as f64 / factor.max(1) as f64 * scale;
            return put(bytes, at, width, order, (float as f32).to_bits().into());
        }
        // Of an array, they belong to its count.
        let less = if field.count.is_none() { self.encoder.variables.sum(&field.less) } else { 0 };
        let mut raw = match value {
            Some((raw, 0)) => raw,
            Some((value, factor)) => unscaled(field, value, factor).saturating_add(less),
            None => field.absent.as_ref().and_then(|absent| absent.example()).unwrap_or(0),
        };
        if let Some(valid) = field.valid.as_ref().filter(|valid| !valid.contain(raw)) {
            raw = valid.example().unwrap_or(raw);
        }
        let bits = match (field.kind, field.mask) {
            (_, Some(mask)) => scatter(raw.cast_unsigned(), mask),
            (Kind::Sm16, _) if raw < 0 => 0x8000 | raw.unsigned_abs(),
            (Kind::Sm32, _) if raw < 0 => 0x8000_0000 | raw.unsigned_abs(),
            _ => raw.cast_unsigned(),
        };
        if bytes.len() < at + width {
            bytes.resize(at + width, 0);
        }
        // A variable may repeat a part of another field.
        let is_variable = matches!(field.key, Key::Variable(_)) && field.sim.is_none();
        let known = unsigned(&bytes[at..at + width], order);
        let mask = field.mask.unwrap_or(u64::MAX);
        if is_variable && known & mask != 0 {
            return;
        }
        // Several fields may be parts of one number.
        let is_word = field.mask.is_none() && matches!(field.key, Key::Word(_));
        let others = if is_word { known } else { known & !mask };
        put(bytes, at, width, order, others | (bits ^ field.xor) & mask);
    }
}

fn unscaled(field: &Field, value: i64, factor: i64) -> i64 {
    let value = if field.negative.is_empty() { value } else { value.abs() };
    let Scale { numerator, denominator } = field.scale;
    let inverse =
        Scale { numerator: denominator * numerator.signum(), denominator: numerator.abs() };
    Number { value, parts: factor }.scaled(inverse, 1) - field.add
}

/// A text that begins like all texts of simulated batteries.
fn text_of(field: &Field) -> String {
    let text = format!("SIM{}", field.key.name().trim_start_matches('$').to_uppercase());
    text.chars().take(field.size).collect()
}

pub(super) fn fields(profile: &'static Profile) -> impl Iterator<Item = &'static Field> {
    let replies = profile.requests.iter().flat_map(|request| &request.replies);
    replies.flat_map(|reply| &reply.fields)
}

/// What the battery would report with every key.
fn reading(state: &PackState) -> Reading {
    let lowest = state.cells.iter().min().copied().unwrap_or_default();
    let highest = state.cells.iter().max().copied().unwrap_or_default();
    let probe = |location, value| Probe { location, value: Some(value) };
    Reading {
        pack: Pack {
            voltage: Some(state.voltage),
            current: Some(state.current),
            power: Some(crate::model::units::Milliwatts::product(state.voltage, state.current)),
            soc: Some(state.soc),
            soh: Some(state.soh),
            remaining: Some(state.remaining),
            full: Some(state.full),
            design: Some(state.design),
            cycles: Some(state.cycles),
            error_code: Some(0),
            ..Pack::default()
        },
        probes: vec![
            probe(SensorLocation::Mosfet, state.mosfet),
            probe(SensorLocation::Ambient, state.ambient),
            probe(SensorLocation::Average, state.average),
        ],
        modules: vec![Module { range: Some((lowest, highest)), ..Module::default() }],
        ..Reading::default()
    }
}

//! Replies from the state of a pack.

use crate::model::Reading;
use crate::model::reading::{Module, Pack, Probe, SensorLocation, Switch};
use crate::model::units::Unit;
use crate::protocol::driver::Medium;
use crate::protocol::table::frame::{Numbers, Shape, put, unsigned};
use crate::protocol::table::key::{Flag, Key, NumberKey};
use crate::protocol::table::layout::{Layout, Variable, Variables};
use crate::protocol::table::medium_name;
use crate::protocol::table::number::scatter;
use crate::protocol::table::scalar::Count;
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
        let first = |frame: usize| frame.saturating_mul(room);
        (0..frames).map(|frame| shape.close(&self.body(request, reply, first(frame)))).collect()
    }

    fn body(&self, request: &Request, reply: &'static Reply, first_cell: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some((_, count)) = request.read {
            let data = request
                .registers
                .map_or(usize::from(count).div_ceil(8), |_| 2 * usize::from(count));
            let before = self.profile.modbus.as_ref().map_or(0, |modbus| modbus.prefix.0.len()) + 3;
            bytes.resize(before + data, 0);
        }
        let mut layout = Layout::new(request.registers);
        let mut sensors = 0;
        let others = self.profile.requests.iter().filter(|it| it.send == request.send);
        // The same bytes may be requested twice, for different fields of the reply.
        let others = others.filter(|it| it.read.is_none() && it.send.is_some());
        let others = others.flat_map(|it| &it.replies).filter(|it| it.head == reply.head);
        let others = others.filter(|it| !std::ptr::eq(*it, reply)).flat_map(|it| &it.fields);
        let fields = reply.fields.iter().chain(others);
        for field in fields.filter(|it| self.variables.meet(&it.condition)) {
            let Some(at) = layout.place(field) else { continue };
            if field.optional && request.read.is_some() && at >= bytes.len() {
                continue;
            }
            match (&field.count, field.kind) {
                (Some(count), _) => {
                    let rest = match field.key {
                        Key::Cells => (self.state.cells.len() + 1).saturating_sub(field.first),
                        _ => self.state.sensors.len(),
                    };
                    let count = layout.entries(field, (count, at, rest), &self.variables);
                    let count = count.unwrap_or_default();
                    self.array(field, at, count, first_cell, &mut sensors, &mut bytes);
                }
                (None, Kind::Text) => {
                    let text = text_of(field);
                    let text = text.bytes().chain(std::iter::repeat(0)).take(field.size);
                    put_bytes(&mut bytes, at, text);
                }
                (None, _) => {
                    let value = self.value(field, &mut sensors);
                    self.number(field, at, value, &mut bytes);
                }
            }
        }
        bytes
    }

    fn array(
        &self,
        field: &Field,
        at: usize,
        count: usize,
        first_cell: usize,
        sensors: &mut usize,
        bytes: &mut Vec<u8>,
    ) {
        for index in 0..count {
            let cell = first_cell + field.first - 1 + index;
            let value = match field.key {
                Key::Cells => self.state.cells.get(cell).map(|cell| (cell.to_i64(), 1000)),
                Key::Temperatures => {
                    *sensors += 1;
                    self.sensor(*sensors - 1).map(|sensor| (sensor, 10))
                }
                _ => Some((0, 1)),
            };
            let place = at + index * field.step();
            self.number(field, place, value, bytes);
            let number =
                field.number.and_then(|distance| usize::try_from(place as i64 + distance).ok());
            if let Some(number) = number.filter(|_| value.is_some()) {
                put_bytes(bytes, number, [cell as u8 + 1].into_iter());
            }
        }
    }

    /// The value of a field and the number of its smallest units in one; `None` if it has none.
    fn value(&self, field: &Field, sensors: &mut usize) -> Option<(i64, i64)> {
        if let Some(raw) = field.sim.filter(|_| !matches!(field.key, Key::Variable(_))) {
            return Some((raw, 0));
        }
        let state = self.state;
        Some(match field.key {
            Key::Number(key) if key.name == "temperature" => {
                *sensors += 1;
                (self.sensor(*sensors - 1)?, key.factor)
            }
            Key::Number(key) => (self.get(key)?, key.factor),
            Key::Variable(name) => (self.variables.number(name)?, 1),
            Key::Flag(flag) => (self.is_on(flag).into(), 1),
            Key::Word(_) => (self.word(field), 1),
            Key::BalancingCells => {
                let cells =
                    state.balancing.iter().skip(field.first - 1).take(field.kind.width() * 8);
                let mask =
                    cells.enumerate().fold(0, |mask, (bit, on)| mask | i64::from(*on) << bit);
                (mask, 1)
            }
            _ => (0, 1),
        })
    }

    /// More sensors than the battery has read as its last one.
    fn sensor(&self, index: usize) -> Option<i64> {
        let sensors = &self.state.sensors;
        sensors.get(index).or(sensors.last()).map(|sensor| sensor.to_i64())
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

    /// Writes a number as the frame has it.
    fn number(&self, field: &Field, at: usize, value: Option<(i64, i64)>, bytes: &mut Vec<u8>) {
        let (width, order) = (field.kind.width(), field.order.unwrap_or(self.profile.order));
        if field.kind == Kind::F32 {
            let (value, factor) = value.unwrap_or((0, 1));
            let scale = field.scale.denominator as f64 / field.scale.numerator as f64;
            let float = value as f64 / factor.max(1) as f64 * scale;
            return put(bytes, at, width, order, (float as f32).to_bits().into());
        }
        let absent = || field.absent.as_ref().and_then(|absent| absent.example()).unwrap_or(0);
        // Of an array, they belong to its count.
        let less = if field.count.is_none() { self.variables.sum(&field.less) } else { 0 };
        let raw = match value {
            Some((raw, 0)) => raw,
            Some((value, factor)) => unscaled(field, value, factor).saturating_add(less),
            None => absent(),
        };
        let raw = match &field.valid {
            Some(valid) if !valid.contain(raw) => valid.example().unwrap_or(raw),
            _ => raw,
        };
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
        if is_variable && known & field.mask.unwrap_or(u64::MAX) != 0 {
            return;
        }
        // Several fields may be parts of one number.
        let others = match field.mask {
            Some(mask) => known & !mask,
            None if matches!(field.key, Key::Word(_)) => known,
            None => 0,
        };
        let mask = field.mask.unwrap_or(u64::MAX);
        put(bytes, at, width, order, others | (bits ^ field.xor) & mask);
    }
}

fn unscaled(field: &Field, value: i64, factor: i64) -> i64 {
    let value = if field.negative.is_empty() { value } else { value.abs() };
    let numerator = i128::from(value) * i128::from(field.scale.denominator);
    let denominator = i128::from(field.scale.numerator) * i128::from(factor);
    let half =
        if (numerator < 0) == (denominator < 0) { denominator / 2 } else { -denominator / 2 };
    i64::try_from((numerator + half) / denominator).unwrap_or_default() - field.add
}

/// A text that begins like all texts of simulated batteries.
fn text_of(field: &Field) -> String {
    let text = format!("SIM{}", field.key.name().trim_start_matches('$').to_uppercase());
    text.chars().take(field.size).collect()
}

fn put_bytes(bytes: &mut Vec<u8>, at: usize, new: impl Iterator<Item = u8>) {
    new.enumerate().for_each(|(index, byte)| {
        put(bytes, at + index, 1, Order::Big, byte.into());
    });
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

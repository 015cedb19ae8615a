//! Replies from the state of a pack.

use crate::model::Reading;
use crate::model::reading::{Pack, SensorLocation, Switch};
use crate::model::units::{DeciCelsius, Milliwatts, Unit};
use crate::protocol::driver::Medium;
use crate::protocol::table::frame::{Numbers, Shape};
use crate::protocol::table::key::{Flag, Key};
use crate::protocol::table::layout::{Layout, Variables};
use crate::protocol::table::number::{put, scaled, scatter, unsigned};
use crate::protocol::table::scalar::{Count, Scale, Values};
use crate::protocol::table::schema::{Field, Kind, Order, Profile, Reply};
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
        let (reading, variables) = (reading(state), Variables::new(medium));
        let mut encoder = Encoder { profile, state, reading, variables };
        for field in fields(profile) {
            let Key::Variable(name) = field.key else { continue };
            if field.kind == Kind::Text {
                encoder.variables.set(name, text_of(field));
            } else if encoder.variables.meet(&field.condition) {
                let value = field.sim.unwrap_or_else(|| encoder.variable(name, field));
                encoder.variables.set(name, value);
            }
        }
        encoder
    }

    /// A value for a variable that agrees with its uses.
    fn variable(&self, name: &str, declared: &Field) -> i64 {
        let is_counted = |field: &Field| field.count == Some(Count::Variable(name.to_owned()));
        for field in fields(self.profile) {
            match field.key {
                Key::Cells if is_counted(field) => return self.state.cells.len() as i64,
                Key::Sensor(SensorLocation::Cells) if is_counted(field) => {
                    return self.state.sensors.len() as i64;
                }
                _ => {}
            }
            let Some(values) = field.condition.of(name) else { continue };
            // A field with a negative scale is for a discharge current.
            if field.scale.numerator < 0 && self.state.current.0 >= 0 {
                return (0..=256).find(|other| !values.contain(*other)).unwrap_or_default();
            }
            if let Some(value) = values.example() {
                return value;
            }
        }
        let is_packs = self.profile.requests.iter().any(|it| it.packs.as_deref() == Some(name));
        let valid = declared.valid.as_ref().and_then(|valid| valid.example());
        valid.unwrap_or(is_packs.into())
    }

    pub(super) fn reply(&self, reply: &'static Reply, numbers: Numbers) -> Vec<u8> {
        let (mut bytes, mut layout) = (Vec::new(), Layout::default());
        // More sensors than the battery has read as its last one.
        let sensors = &self.state.sensors;
        let mut sensors = sensors.iter().chain(sensors.last().into_iter().cycle()).copied();
        for field in reply.fields.iter().filter(|field| self.variables.meet(&field.condition)) {
            let Some(at) = layout.place(field) else { continue };
            let rest = match field.key {
                Key::Cells => (self.state.cells.len() + 1).saturating_sub(field.first),
                _ => self.state.sensors.len(),
            };
            let entries = layout.entries(field, (at, rest), &self.variables).unwrap_or_default();
            for index in 0..entries {
                let at = at + index * field.step();
                if field.kind == Kind::Text {
                    let text = format!("{:\0<1$}", text_of(field), field.size);
                    for (at, byte) in (at..).zip(text.bytes()) {
                        put(&mut bytes, at, 1, Order::Big, byte.into());
                    }
                } else {
                    write(&mut bytes, field, at, self.number(field, index, &mut sensors));
                }
            }
        }
        Shape::new(self.profile, reply, numbers).close(&bytes)
    }

    /// The number in the frame for an entry of a field; `None` if the battery has none.
    fn number(
        &self,
        field: &Field,
        index: usize,
        sensors: &mut impl Iterator<Item = DeciCelsius>,
    ) -> Option<i64> {
        let (state, parts, cell) = (self.state, field.kind.parts(), field.first - 1 + index);
        let range = [state.cells.iter().max(), state.cells.iter().min()];
        let (value, factor) = match field.key {
            Key::Variable(name) => (self.variables.number(name)?, 1),
            _ if field.sim.is_some() => return field.sim.map(|it| it.saturating_mul(parts)),
            Key::Cells => (state.cells.get(cell)?.to_i64(), 1000),
            Key::CellRange => ((*range.get(index)?)?.to_i64(), 1000),
            Key::Sensor(SensorLocation::Cells) => (sensors.next()?.to_i64(), 10),
            Key::Sensor(SensorLocation::Mosfet) => (state.mosfet.to_i64(), 10),
            Key::Sensor(SensorLocation::Ambient) => (state.ambient.to_i64(), 10),
            Key::Sensor(SensorLocation::Average) => (state.average.to_i64(), 10),
            Key::Number(key) => ((key.access)(&mut self.reading.clone(), None)?, key.factor),
            Key::Flag(flag) => (self.is_on(flag).into(), 1),
            Key::Word(_) => (self.word(field), 1),
            Key::BalancingCells => {
                let bits = state.balancing.iter().skip(cell).take(field.kind.width() * 8);
                (bits.enumerate().fold(0, |bits, (bit, on)| bits | i64::from(*on) << bit), 1)
            }
            _ => (0, 1),
        };
        let Scale { numerator, denominator } = field.scale;
        let inverse =
            Scale { numerator: denominator * numerator.signum(), denominator: numerator.abs() };
        let add = field.add.saturating_mul(parts);
        Some(scaled(value, factor, inverse, parts).saturating_sub(add))
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

/// Writes a number as the frame has it, or one that stands for "none".
fn write(bytes: &mut Vec<u8>, field: &Field, at: usize, number: Option<i64>) {
    let (width, parts, order) =
        (field.kind.width(), field.kind.parts(), field.order.unwrap_or_default());
    let example = |values: &Option<Values>| Some(values.as_ref()?.example()?.saturating_mul(parts));
    let number = number.or_else(|| example(&field.absent)).unwrap_or_default();
    let is_valid = field.valid.as_ref().is_none_or(|valid| valid.contain(number / parts));
    let number = if is_valid { number } else { example(&field.valid).unwrap_or(number) };
    // What a number without a sign cannot be is the value of another field.
    let bits = match (field.kind, field.mask) {
        (Kind::F32, _) => ((number as f64 / parts as f64) as f32).to_bits().into(),
        (_, Some(mask)) => scatter(number.max(0).cast_unsigned(), mask),
        (kind, None) if kind.is_signed() => number.cast_unsigned(),
        _ => number.max(0).cast_unsigned(),
    };
    bytes.resize(bytes.len().max(at + width), 0);
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

/// A text that begins like all texts of simulated batteries.
fn text_of(field: &Field) -> String {
    let text = format!("SIM{}", field.key.name().trim_start_matches('$').to_uppercase());
    text.chars().take(field.size).collect()
}

pub(super) fn fields(profile: &'static Profile) -> impl Iterator<Item = &'static Field> {
    let replies = profile.requests.iter().flat_map(|request| &request.replies);
    replies.flat_map(|reply| &reply.fields)
}

/// What the battery would report with the keys that are numbers.
fn reading(state: &PackState) -> Reading {
    let pack = Pack {
        voltage: Some(state.voltage),
        current: Some(state.current),
        power: Some(Milliwatts::product(state.voltage, state.current)),
        soc: Some(state.soc),
        soh: Some(state.soh),
        remaining: Some(state.remaining),
        full: Some(state.full),
        design: Some(state.design),
        cycles: Some(state.cycles),
        error_code: Some(0),
        ..Pack::default()
    };
    Reading { pack, ..Reading::default() }
}

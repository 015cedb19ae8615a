//! A driver for every brand that a profile describes.

pub mod built_in;
pub mod decode;
pub mod frame;
pub mod guess;
pub mod key;
pub mod layout;
pub mod load;
mod modbus;
pub mod number;
mod safety;
pub mod scalar;
pub mod schema;
mod yaml;

use std::time::Duration;

use self::decode::Decoder;
use self::frame::{Numbers, Shape};
use self::layout::Variables;
use self::scalar::Token;
use self::schema::{Profile, Request};
use super::driver::{BLE_TIMEOUT, CycleKind, Driver, Medium, Options};
use super::error::DecodeError;
use super::frame::FrameShape;
use super::query::{Framing, Need, Pacing, Progress, RequestReply, Runner, TURN_ROUND};
use crate::model::Reading;

/// Time to keep receiving after a damaged reply.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;

/// A request, and the pack it is for; 0 for the whole battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    pub request: usize,
    pub pack: u8,
}

/// A conversation with one battery.
#[derive(Debug)]
pub struct Table {
    profile: &'static Profile,
    /// The requests of every cycle. Those for packs that the battery lacks are passed over.
    plan: Vec<Query>,
    /// Address on a bus.
    address: Option<u8>,
    /// Index of the unit in use, among those of the profile.
    unit: usize,
    /// A request with the unit in use had a reply.
    proven: bool,
    timeout: Duration,
    variables: Variables,
    /// The replies to the request in progress, and whether they were received.
    replies: Vec<(Shape<'static>, bool)>,
    matched: usize,
    query: Query,
}

impl Table {
    pub fn driver(profile: &'static Profile, options: &Options) -> Box<dyn Driver> {
        let each = profile.requests.iter().enumerate();
        let plan = each
            .flat_map(|(request, it)| it.pack_numbers().map(move |pack| Query { request, pack }));
        let is_serial = options.medium == Medium::Serial;
        let limit = profile.timeout.unwrap_or(BLE_TIMEOUT).min(options.timeout);
        Box::new(Runner::new(Table {
            profile,
            plan: plan.collect(),
            address: is_serial.then_some(options.address),
            unit: 0,
            proven: false,
            timeout: if is_serial { options.timeout } else { limit },
            variables: Variables::new(options.medium),
            replies: Vec::new(),
            matched: 0,
            query: Query { request: 0, pack: 0 },
        }))
    }

    fn request(&self, query: Query) -> &'static Request {
        &self.profile.requests[query.request]
    }

    fn numbers(&self, query: Query) -> Numbers {
        let unit = self.address.or_else(|| self.profile.units.get(self.unit).copied());
        Numbers::of(self.profile, self.request(query), unit, query.pack)
    }

    fn has_unit(&self, query: Query) -> bool {
        let send = &self.request(query).send;
        send.as_ref().is_some_and(|send| send.0.contains(&Token::Unit))
    }

    /// Decodes the content of a reply. Returns the variables as they are afterwards.
    fn read(
        &self,
        shape: &Shape<'static>,
        bytes: &[u8],
        into: &mut Reading,
    ) -> Result<Variables, DecodeError> {
        let mut variables = self.variables.clone();
        let mut decoder = Decoder { bytes, pack: self.query.pack, variables: &mut variables };
        decoder.decode(&shape.reply.fields, into)?;
        Ok(variables)
    }

    /// Where no checksum protects a frame, its values have to make sense.
    fn has_sense(&self, shape: &Shape<'static>, frame: &[u8]) -> bool {
        let Ok(bytes) = shape.open(frame) else { return false };
        shape.is_checked()
            || !matches!(
                self.read(shape, &bytes, &mut Reading::default()),
                Err(DecodeError::OutOfRange { .. } | DecodeError::TooShort(_))
            )
    }
}

impl FrameShape for Table {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        self.replies.iter().any(|(shape, _)| shape.may_begin(bytes))
    }

    /// Of several possible replies the first that is complete and valid decides. Until all are
    /// complete, one of them may still become valid.
    fn length(&self, bytes: &[u8]) -> Option<usize> {
        let possible = self.replies.iter().filter(|(shape, _)| shape.may_begin(bytes));
        let lengths: Vec<_> = possible.map(|(shape, _)| shape.length(bytes)).collect();
        let complete = lengths.iter().flatten().copied();
        let valid =
            complete.filter(|length| bytes.get(..*length).is_some_and(|it| self.is_valid(it)));
        let longest = || lengths.iter().copied().max_by_key(|it| it.unwrap_or(usize::MAX));
        valid.map(Some).next().or_else(longest)?
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        self.replies.iter().any(|(shape, _)| self.has_sense(shape, frame))
    }
}

impl RequestReply for Table {
    type Query = Query;

    fn plan(&self) -> &[Query] {
        &self.plan
    }

    fn is_self_describing(&self, query: Query) -> bool {
        self.has_reply(query)
    }

    fn need(&self, query: Query) -> Need {
        self.request(query).need
    }

    fn describe(&self, query: Query) -> String {
        let request = self.request(query);
        let name = request.name.clone();
        let name = name.unwrap_or_else(|| format!("request {}", query.request + 1));
        if query.pack > 0 { format!("{name} of pack {}", query.pack) } else { name }
    }

    fn encode(&self, query: Query) -> Vec<u8> {
        frame::compose(self.profile, self.request(query), self.numbers(query))
    }

    fn frame(&self, _query: Query, buffer: &[u8]) -> Framing {
        self.find(buffer)
    }

    fn decode(
        &mut self,
        _query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let mut error = DecodeError::Foreign;
        let missing = self.replies.iter().enumerate().filter(|(_, (_, seen))| !seen);
        for (index, (shape, _)) in missing {
            match shape.open(frame) {
                Ok(bytes) => {
                    (self.variables, self.matched) = (self.read(shape, &bytes, into)?, index);
                    return Ok(());
                }
                Err(DecodeError::Foreign) => {}
                Err(damage) => error = damage,
            }
        }
        Err(error)
    }

    fn pacing(&self, query: Query) -> Pacing {
        let timeout = self.request(query).timeout.unwrap_or(self.timeout);
        let default = if self.address.is_some() { TURN_ROUND } else { Duration::ZERO };
        let gap = self.profile.gap.unwrap_or(default);
        Pacing { timeout, gap, settle: SETTLE.min(timeout), retries: RETRIES }
    }

    /// Some replies repeat the request, or begin with it. Bluetooth has no echo.
    fn reply_equals_request(&self, query: Query) -> bool {
        if self.address.is_none() {
            return true;
        }
        let request = self.encode(query);
        self.replies.iter().any(|(shape, _)| shape.open(&request).is_ok())
    }

    /// Only the first request with a unit tries the others: another one would start over for ever.
    fn fallback_plan(&mut self, query: Query, _kind: CycleKind) -> Option<Vec<Query>> {
        let is_first = self.plan.iter().find(|query| self.has_unit(**query)) == Some(&query);
        let has_units = self.address.is_none() && !self.profile.units.is_empty();
        if self.proven || !has_units || !is_first {
            return None;
        }
        self.unit = (self.unit + 1) % self.profile.units.len();
        (self.unit > 0).then(|| self.plan.clone())
    }

    fn begin(&mut self, query: Query) {
        self.query = query;
        let numbers = self.numbers(query);
        let replies = self.request(query).replies.iter();
        let shapes = replies.map(|reply| (Shape::new(self.profile, reply, numbers), false));
        self.replies = shapes.collect();
    }

    fn accept(&mut self, query: Query) {
        self.proven |= self.has_unit(query);
        if let Some((_, seen)) = self.replies.get_mut(self.matched) {
            *seen = true;
        }
    }

    fn progress(&self, query: Query) -> Progress {
        let missing = || self.replies.iter().filter(|(_, seen)| !seen);
        if missing().any(|(shape, _)| !shape.reply.optional) {
            return Progress::Missing;
        }
        let linger = self.request(query).linger.filter(|_| missing().next().is_some());
        linger.map_or(Progress::Complete, Progress::Enough)
    }

    fn is_due(&self, query: Query) -> bool {
        let request = self.request(query);
        let exists = request.packs.as_ref().is_none_or(|count| {
            self.variables.number(count).is_some_and(|count| i64::from(query.pack) <= count)
        });
        exists && self.variables.meet(&request.condition)
    }

    fn has_reply(&self, query: Query) -> bool {
        !self.request(query).replies.is_empty()
    }

    fn reset(&mut self) {
        self.proven = false;
        self.unit = 0;
    }
}

//! A driver for every brand that a profile describes.

pub mod built_in;
pub mod decode;
pub mod frame;
pub mod guess;
pub mod key;
pub mod layout;
pub mod load;
pub mod loaded;
mod modbus;
pub mod number;
mod safety;
pub mod scalar;
pub mod schema;
mod yaml;

use std::time::Duration;

use self::decode::Decoder;
use self::frame::{Numbers, Shape};
use self::layout::{Variable, Variables};
use self::schema::{Profile, Reply, Request};
use super::driver::{CycleKind, Medium, Options};
use super::error::DecodeError;
use super::frame::FrameShape;
use super::query::{Framing, Need, Pacing, Progress, RequestReply};
use crate::model::Reading;

/// Time to keep receiving after a damaged reply.
const SETTLE: Duration = Duration::from_millis(300);
const RETRIES: u8 = 2;
/// Time limit for a reply where neither the profile nor the operator sets one.
const BLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A request, and the pack it is for; 0 for the whole battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    pub request: usize,
    pub pack: u8,
}

/// The requests of every cycle. Those for packs that the battery lacks are passed over.
pub fn plan(profile: &Profile) -> Vec<Query> {
    let each = profile.requests.iter().enumerate();
    let each = each.flat_map(|(request, it)| it.pack_numbers().map(move |pack| (request, pack)));
    each.map(|(request, pack)| Query { request, pack }).collect()
}

/// Value of the variable `$medium`.
pub fn medium_name(medium: Medium) -> &'static str {
    if medium == Medium::Ble { "ble" } else { "serial" }
}

#[derive(Debug)]
struct ExpectedReply {
    reply: &'static Reply,
    shape: Shape<'static>,
    seen: bool,
}

/// A conversation with one battery.
#[derive(Debug)]
pub struct Table {
    profile: &'static Profile,
    plan: &'static [Query],
    /// Address on a bus.
    address: Option<u8>,
    /// Index of the unit in use, among those of the profile.
    unit: usize,
    /// The unit in use had a reply.
    proven: bool,
    timeout: Duration,
    variables: Variables,
    /// The replies to the request in progress.
    replies: Vec<ExpectedReply>,
    matched: Option<usize>,
    query: Query,
}

impl Table {
    pub fn new(profile: &'static Profile, plan: &'static [Query], options: &Options) -> Self {
        let limit = profile.timeout;
        let mut variables = Variables::default();
        variables.set("$medium", Variable::Text(medium_name(options.medium).to_owned()));
        Table {
            profile,
            plan,
            address: (options.medium == Medium::Serial).then_some(options.address),
            unit: 0,
            proven: false,
            timeout: match options.medium {
                Medium::Ble => limit.unwrap_or(BLE_TIMEOUT).min(options.timeout),
                Medium::Serial => options.timeout,
            },
            variables,
            replies: Vec::new(),
            matched: None,
            query: Query { request: 0, pack: 0 },
        }
    }

    fn request(&self, query: Query) -> &'static Request {
        &self.profile.requests[query.request]
    }

    fn decoder<'a>(&self, bytes: &'a [u8], variables: &'a mut Variables) -> Decoder<'a> {
        Decoder {
            bytes,
            order: self.profile.order,
            registers: self.request(self.query).registers,
            pack: self.query.pack,
            variables,
        }
    }

    fn numbers(&self, query: Query) -> Numbers {
        let unit = self.address.or_else(|| self.profile.units.get(self.unit).copied());
        Numbers::of(self.profile, self.request(query), unit, query.pack)
    }
}

/// The replies to a request.
struct Shapes<'a>(&'a Table);

impl Shapes<'_> {
    fn possible<'b>(&'b self, bytes: &'b [u8]) -> impl Iterator<Item = &'b ExpectedReply> + 'b {
        self.0.replies.iter().filter(|it| it.shape.may_begin(bytes))
    }

    /// Where no checksum protects a frame, its values have to make sense.
    fn has_sense(&self, expected: &ExpectedReply, frame: &[u8]) -> bool {
        let Ok(bytes) = expected.shape.open(frame) else { return false };
        if expected.shape.is_checked() {
            return true;
        }
        let (mut variables, mut scratch) = (self.0.variables.clone(), Reading::default());
        let mut decoder = self.0.decoder(&bytes, &mut variables);
        !matches!(
            decoder.decode(&expected.reply.fields, &mut scratch),
            Err(DecodeError::OutOfRange { .. } | DecodeError::TooShort(_))
        )
    }
}

impl FrameShape for Shapes<'_> {
    fn may_begin(&self, bytes: &[u8]) -> bool {
        self.possible(bytes).next().is_some()
    }

    /// Of several possible replies the first that is complete and valid decides.
    fn length(&self, bytes: &[u8]) -> Option<usize> {
        let lengths = || self.possible(bytes).map(|it| (it, it.shape.length(bytes)));
        let valid = lengths().find_map(|(expected, length)| {
            let length = length?;
            self.has_sense(expected, bytes.get(..length)?).then_some(length)
        });
        // Until all are complete, one of them may still become valid.
        valid.or_else(|| {
            lengths().map(|(_, length)| length).max_by_key(|it| it.unwrap_or(usize::MAX))?
        })
    }

    fn is_valid(&self, frame: &[u8]) -> bool {
        self.possible(frame)
            .any(|it| it.shape.length(frame) == Some(frame.len()) && self.has_sense(it, frame))
    }
}

impl RequestReply for Table {
    type Query = Query;

    fn plan(&self) -> &'static [Query] {
        self.plan
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
        Shapes(self).find(buffer)
    }

    fn decode(
        &mut self,
        query: Query,
        frame: &[u8],
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let repeats = self.request(query).linger.is_some();
        let mut error = DecodeError::Foreign;
        for (index, ExpectedReply { reply, shape, seen }) in self.replies.iter().enumerate() {
            if !shape.may_begin(frame) || shape.length(frame) != Some(frame.len()) {
                continue;
            }
            match shape.open(frame) {
                Ok(_) if *seen && !repeats => {}
                Ok(bytes) => {
                    let mut variables = self.variables.clone();
                    self.decoder(&bytes, &mut variables).decode(&reply.fields, into)?;
                    (self.variables, self.matched) = (variables, Some(index));
                    return Ok(());
                }
                Err(damage) => error = damage,
            }
        }
        Err(error)
    }

    fn pacing(&self, query: Query) -> Pacing {
        let timeout = self.request(query).timeout.unwrap_or(self.timeout);
        Pacing { timeout, gap: self.profile.gap, settle: SETTLE.min(timeout), retries: RETRIES }
    }

    /// Some replies repeat the request, or begin with it. Bluetooth has no echo.
    fn reply_equals_request(&self, query: Query) -> bool {
        if self.address.is_none() {
            return true;
        }
        let request = self.encode(query);
        self.replies.iter().any(|ExpectedReply { shape, .. }| {
            shape.length(&request) == Some(request.len()) && shape.open(&request).is_ok()
        })
    }

    /// Only the first request tries the other units: another one would start over for ever.
    fn fallback_plan(&mut self, query: Query, _kind: CycleKind) -> Option<Vec<Query>> {
        let is_first = self.plan.iter().find(|query| self.has_reply(**query)) == Some(&query);
        let has_units = self.address.is_none() && !self.profile.units.is_empty();
        if self.proven || !has_units || !is_first {
            return None;
        }
        self.unit = (self.unit + 1) % self.profile.units.len();
        (self.unit > 0).then(|| self.plan.to_vec())
    }

    fn begin(&mut self, query: Query) {
        self.query = query;
        let numbers = self.numbers(query);
        let expected = |reply: &'static Reply| ExpectedReply {
            reply,
            shape: Shape::new(self.profile, reply, numbers),
            seen: false,
        };
        self.replies = self.request(query).replies.iter().map(expected).collect();
    }

    fn accept(&mut self, _query: Query) {
        self.proven = true;
        if let Some(expected) = self.matched.take().and_then(|index| self.replies.get_mut(index)) {
            expected.seen = true;
        }
    }

    fn progress(&self, query: Query) -> Progress {
        if !self.replies.iter().all(|it| it.seen || it.reply.optional) {
            return Progress::Missing;
        }
        match self.request(query).linger {
            Some(_) if self.replies.is_empty() => Progress::Missing,
            Some(linger) => Progress::Enough(linger),
            None => Progress::Complete,
        }
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

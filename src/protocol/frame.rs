//! Finding binary frames in a stream of bytes.

use super::query::Framing;

/// How the frames of a protocol are recognised.
pub(super) trait FrameShape {
    /// Whether a frame can begin with these bytes, which may be incomplete and are never empty.
    fn may_begin(&self, bytes: &[u8]) -> bool;
    /// Length of the frame that begins here; `None` where that needs more bytes.
    fn length(&self, bytes: &[u8]) -> Option<usize>;
    /// Whether the checksum of a complete frame fits.
    fn is_valid(&self, frame: &[u8]) -> bool;
    /// Whether damage is worth reporting. Anything else may be noise that looks like a frame.
    fn is_expected(&self, _frame: &[u8]) -> bool {
        true
    }

    /// What the buffer begins with.
    ///
    /// Only the length defines where a frame ends, so a wrong length, or noise that looks like a
    /// start, hides what follows. A damaged frame is therefore skipped by one byte, and an
    /// incomplete one is abandoned as soon as a valid one follows.
    fn find(&self, buffer: &[u8]) -> Framing {
        match (0..buffer.len()).find(|&at| self.may_begin(&buffer[at..])) {
            None => return Framing::Junk(buffer.len()),
            Some(0) => {}
            Some(start) => return Framing::Junk(start),
        }
        match self.whole(buffer) {
            Some(frame) if self.is_valid(frame) => Framing::Frame(frame.len()),
            Some(frame) if self.is_expected(frame) => Framing::Damaged(frame.len()),
            Some(_) => Framing::Junk(1),
            None => {
                let is_valid = |&at: &usize| {
                    let rest = &buffer[at..];
                    self.may_begin(rest)
                        && self.whole(rest).is_some_and(|frame| self.is_valid(frame))
                };
                (1..buffer.len()).find(is_valid).map_or(Framing::NeedMore, Framing::Junk)
            }
        }
    }

    /// The frame at the front, once it is complete.
    fn whole<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(..self.length(bytes)?)
    }
}

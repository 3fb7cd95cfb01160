//! Bytes to be sent, in pieces: what is written for them, and payloads by reference.

use super::DEFAULT_CHUNK_SIZE;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// What [`Writer`](super::Writer) appends to.
pub trait Output {
    /// Makes room for `headers` bytes of headers and `payload` bytes of payload in parts of at most `part`.
    fn reserve(&mut self, headers: usize, payload: usize, part: usize);
    /// Appends a header.
    fn header(&mut self, bytes: &[u8]);
    /// Appends a part of a payload.
    fn payload(&mut self, payload: &Bytes, part: Range<usize>);
}

/// All in one, every byte a copy.
impl Output for Vec<u8> {
    fn reserve(&mut self, headers: usize, payload: usize, _part: usize) {
        self.reserve(headers + payload);
    }

    fn header(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn payload(&mut self, payload: &Bytes, part: Range<usize>) {
        self.extend_from_slice(&payload[part]);
    }
}

/// A queue of bytes whose long parts are references to the payloads that they are of: nothing is copied but headers and
/// short parts. Sockets take many pieces in one call.
#[derive(Debug, Default)]
pub struct Pieces {
    whole: VecDeque<Bytes>,
    /// What was written since the last reference.
    written: Vec<u8>,
}

/// Parts of a payload are copied if they are shorter: a reference and the piece before it cost as much.
const LEAST_REFERENCE: usize = 1024;

impl Pieces {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.whole.iter().map(Bytes::len).sum::<usize>() + self.written.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.written.is_empty()
    }

    /// Takes the first piece; never an empty one.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.close_written();
        }
        self.whole.pop_front()
    }

    /// Makes a piece of what was written.
    fn close_written(&mut self) {
        if !self.written.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.written).into());
        }
    }
}

impl Output for Pieces {
    fn reserve(&mut self, headers: usize, payload: usize, part: usize) {
        if part < LEAST_REFERENCE {
            self.written.reserve(headers + payload);
        }
    }

    fn header(&mut self, bytes: &[u8]) {
        // Most are of one byte, for which a copy of any length is a long way.
        match bytes {
            &[byte] => self.written.push(byte),
            bytes => self.written.extend_from_slice(bytes),
        }
    }

    fn payload(&mut self, payload: &Bytes, part: Range<usize>) {
        if part.len() < LEAST_REFERENCE {
            let part = &payload[part];
            // The chunks of whoever has announced no other size: a copy whose length is known is quicker.
            match <&[u8; DEFAULT_CHUNK_SIZE as usize]>::try_from(part) {
                Ok(part) => self.written.extend_from_slice(part),
                Err(_) => self.written.extend_from_slice(part),
            }
        } else {
            self.close_written();
            self.whole.push_back(payload.slice(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(pieces: &mut Pieces) -> Vec<Bytes> {
        std::iter::from_fn(|| pieces.pop()).collect()
    }

    #[test]
    fn long_parts_are_references_and_short_ones_copies() {
        let payload = Bytes::from(vec![7; 2 * LEAST_REFERENCE]);
        let mut pieces = Pieces::default();
        pieces.header(&[1, 2]);
        pieces.payload(&payload, 0..LEAST_REFERENCE);
        pieces.header(&[3]);
        pieces.payload(&payload, LEAST_REFERENCE..LEAST_REFERENCE + 5);
        pieces.header(&[4]);
        assert_eq!(pieces.len(), 2 + LEAST_REFERENCE + 1 + 5 + 1);

        let drained = drained(&mut pieces);
        assert_eq!(drained.len(), 3);
        assert_eq!(drained[0], [1, 2][..]);
        assert_eq!(drained[1].as_ptr(), payload.as_ptr(), "the payload itself");
        assert_eq!(drained[1].len(), LEAST_REFERENCE);
        assert_eq!(drained[2], [3, 7, 7, 7, 7, 7, 4][..]);
        assert!(pieces.is_empty());
    }

    #[test]
    fn nothing_is_no_piece() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.pop(), None);
        pieces.header(&[]);
        pieces.payload(&Bytes::new(), 0..0);
        assert_eq!((pieces.pop(), pieces.len()), (None, 0));
    }

    #[test]
    fn what_is_written_after_a_piece_was_taken_is_another() {
        let mut pieces = Pieces::default();
        pieces.header(b"first");
        assert_eq!(pieces.pop().as_deref(), Some(&b"first"[..]));
        pieces.header(b"second");
        assert_eq!(drained(&mut pieces), [&b"second"[..]]);
    }
}

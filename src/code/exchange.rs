//! The one file that names `spake2`: from two words that both sides know to a key that nobody else can know.
//!
//! ```text
//!   caster                                   viewer
//!     X = x·G + w·M        ───────────▶        Y = y·G + w·N         w: the code, number and words
//!                          ◀───────────
//!     proof                ───────────▶      is it right? only then:
//!                          ◀───────────      the ticket, sealed
//! ```
//!
//! Whoever does not know `w` learns nothing from `X` and `Y`, and can try one guess of it with one exchange: by the proof,
//! which the caster sends first. So the viewer can count, and its own side gives nothing away to be tried at leisure.
//!
//! The key is SPAKE2's hash over the code, both roles with the number and the version of this exchange, `X`, `Y` and the common
//! element. Proof and sealing key are hashes of it, each with a name of its own.

use super::{Code, Element, Proof, Seed};
use crate::link::{open_once, seal_once};
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use subtle::ConstantTimeEq;

/// Before each element, SPAKE2's crate wants to be told whose it is; on the wire the message tells.
const OF_CASTER: u8 = b'A';
/// See [`OF_CASTER`].
const OF_VIEWER: u8 = b'B';

/// A caster's exchange between its two messages.
pub struct Asking(Spake2<Ed25519Group>);

impl Asking {
    /// Begins one, which is good for one guess: this code.
    #[must_use]
    pub fn begin(code: &Code, random: &mut Randomness) -> (Self, Element) {
        let (password, caster, viewer) = inputs(code);
        let (state, message) = Spake2::start_a_with_rng(&password, &caster, &viewer, random);
        (Self(state), element(&message))
    }

    /// Takes the viewer's element: the proof to send, and what will open the ticket. `None` if that is no element.
    #[must_use]
    pub fn finish(self, theirs: &Element) -> Option<(Proof, TicketKey)> {
        let key = self.0.finish(&message(OF_VIEWER, theirs)).ok()?;
        Some((proof(&key), TicketKey::of(&key)))
    }
}

/// A viewer's exchange between its two messages.
pub struct Answering(Vec<u8>);

impl Answering {
    /// Answers a caster's element. `None` if that is no element.
    #[must_use]
    pub fn begin(code: &Code, theirs: &Element, random: &mut Randomness) -> Option<(Self, Element)> {
        let (password, caster, viewer) = inputs(code);
        let (state, ours) = Spake2::<Ed25519Group>::start_b_with_rng(&password, &caster, &viewer, random);
        let key = state.finish(&message(OF_CASTER, theirs)).ok()?;
        Some((Self(key), element(&ours)))
    }

    /// What seals the ticket, if the caster has proven the same code. One proof is one guess, and uses up the exchange.
    #[must_use]
    pub fn check(self, theirs: &Proof) -> Option<TicketKey> {
        let right: bool = proof(&self.0).0.ct_eq(&theirs.0).into();
        right.then(|| TicketKey::of(&self.0))
    }
}

/// Seals one ticket, or opens it.
pub struct TicketKey([u8; 32]);

impl TicketKey {
    fn of(key: &[u8]) -> Self {
        Self(derive(b"punchcast code v1: ticket", key))
    }

    /// The ticket's text, for nobody but the other end. Takes the key along: its nonce is used up.
    #[must_use]
    pub fn seal(self, ticket: &str) -> Option<Vec<u8>> {
        seal_once(&self.0, ticket.as_bytes())
    }

    /// What was sealed; `None` if it is not of the other end.
    #[must_use]
    pub fn open(self, sealed: &[u8]) -> Option<String> {
        String::from_utf8(open_once(&self.0, sealed)?).ok()
    }
}

/// What both sides put in. Names with number and version keep an exchange from being any other's.
fn inputs(code: &Code) -> (Password, Identity, Identity) {
    let name =
        |role: &str| Identity::new(format!("punchcast code v1: {role} of {}", code.number()).as_bytes());
    (Password::new(code.to_string()), name("caster"), name("viewer"))
}

fn message(side: u8, element: &Element) -> [u8; 33] {
    let mut message = [side; 33];
    message[1..].copy_from_slice(&element.0);
    message
}

fn element(message: &[u8]) -> Element {
    let mut element = [0; 32];
    element.copy_from_slice(&message[1..]);
    Element(element)
}

fn proof(key: &[u8]) -> Proof {
    Proof(derive(b"punchcast code v1: proof", key))
}

fn derive(name: &[u8], key: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(name).chain_update(key).finalize().into()
}

/// Randomness that nobody can foretell who does not know the seed: SHA-256 of seed and counter. A core draws none from
/// the system, and the simulator can replay it.
pub struct Randomness {
    seed: Seed,
    drawn: u64,
}

impl Randomness {
    /// All that comes of `seed`, which is used for nothing else.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { seed, drawn: 0 }
    }
}

impl RngCore for Randomness {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            let number = self.drawn.to_be_bytes();
            self.drawn += 1;
            let block = Sha256::new().chain_update(b"punchcast code randomness v1").chain_update(self.seed.0);
            part.copy_from_slice(&block.chain_update(number).finalize()[..part.len()]);
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Randomness {}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u8) -> Randomness {
        Randomness::new(Seed([seed; 32]))
    }

    fn code(text: &str) -> Code {
        text.parse().expect(text)
    }

    /// Carries one exchange through; the ticket as it arrives.
    fn exchange(asked: &str, shown: &str) -> Option<String> {
        let (asking, x) = Asking::begin(&code(asked), &mut random(1));
        let (answering, y) = Answering::begin(&code(shown), &x, &mut random(2)).expect("an element");
        let (proof, key) = asking.finish(&y).expect("an element");
        let sealed = answering.check(&proof)?.seal("the ticket").expect("a key");
        assert!(!sealed.windows(6).any(|part| part == b"ticket"));
        key.open(&sealed)
    }

    #[test]
    fn the_same_code_gives_the_ticket_and_any_other_gives_nothing() {
        assert_eq!(exchange("427-tiger-lamp", "427-tiger-lamp").as_deref(), Some("the ticket"));
        for wrong in ["427-tiger-lion", "427-lion-lamp", "427-lamp-tiger", "428-tiger-lamp"] {
            assert_eq!(exchange(wrong, "427-tiger-lamp"), None, "{wrong}");
        }
    }

    #[test]
    fn a_changed_message_of_either_side_gives_nothing() {
        let code = code("427-tiger-lamp");
        let (asking, x) = Asking::begin(&code, &mut random(1));
        let (answering, y) = Answering::begin(&code, &x, &mut random(2)).expect("an element");
        // Another exchange's element in the middle: both ends get keys, and not the same.
        let (_, other) = Asking::begin(&code, &mut random(3));
        let (proof, key) = asking.finish(&other).expect("an element");
        assert!(answering.check(&proof).is_none());
        let (asking, x) = Asking::begin(&code, &mut random(1));
        let (answering, again) = Answering::begin(&code, &x, &mut random(2)).expect("an element");
        assert_eq!(again, y, "the seed alone decides");
        let (proof, right) = asking.finish(&y).expect("an element");
        let mut sealed = answering.check(&proof).expect("the right proof").seal("it").expect("a key");
        assert_eq!(key.open(&sealed), None);
        sealed[0] ^= 1;
        assert_eq!(right.open(&sealed), None);
    }

    #[test]
    fn the_viewer_s_own_proof_is_not_one_that_comes_back() {
        // A caster that says back what it hears: SPAKE2's roles have other elements, and only one side proves.
        let shown = code("1-tiger-lamp");
        let (_, x) = Asking::begin(&shown, &mut random(1));
        let (answering, y) = Answering::begin(&shown, &x, &mut random(2)).expect("an element");
        assert!(answering.check(&Proof(y.0)).is_none());
    }

    #[test]
    fn bytes_that_are_no_element_are_refused() {
        let code = code("1-tiger-lamp");
        // y = 2 is on no point of the curve.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert!(Answering::begin(&code, &Element(bytes), &mut random(1)).is_none());
        assert!(Asking::begin(&code, &mut random(1)).0.finish(&Element(bytes)).is_none());
    }

    #[test]
    fn randomness_does_not_repeat() {
        let (mut a, mut b) = (random(1), random(2));
        let mut blocks: Vec<u64> = (0..64).flat_map(|_| [a.next_u64(), b.next_u64()]).collect();
        let mut long = [0; 80];
        a.fill_bytes(&mut long);
        blocks.extend(long.as_chunks::<8>().0.iter().map(|part| u64::from_be_bytes(*part)));
        let count = blocks.len();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), count);
    }
}

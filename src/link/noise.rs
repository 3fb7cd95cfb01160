//! The one file that names `snow`: `Noise_NKpsk0_25519_AESGCM_SHA256`, rekeying by count, and AES-GCM for one message.
//!
//! ```text
//!   <- s                  the viewer's key, from the ticket
//!   -> psk, e, es         message 1: e (32) ‖ facts (9) ‖ tag (16)
//!   <- e, ee              message 2: e (32) ‖ facts (9) ‖ tag (16)
//! ```

use super::keys::{CasterSecrets, Secret, ViewerKey, ViewerPrivateKey, ViewerSecrets};
use super::{FACTS_LEN, LinkError, record};
use crate::id::RendezvousId;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver, FallbackResolver, RingResolver};
use snow::types::Cipher;
use snow::{Builder, HandshakeState, TransportState};

/// Bytes of an AES-GCM tag.
pub(super) const TAG_LEN: usize = 16;

/// Bytes of either handshake message: an X25519 key, the [`Facts`](super::Facts), and their tag.
pub(super) const MESSAGE_LEN: usize = 32 + FACTS_LEN + TAG_LEN;

/// Records in one direction between two rekeys of that direction. A record has at most 2^12 AES blocks, so one key
/// encrypts at most 2^28 blocks (4 GiB), and an attacker's advantage stays below (2^28)^2 / 2^129 = 2^-73, far under
/// the usual 2^-57. Far smaller than safety asks, because rekeying runs one way only: who steals the keys out of
/// memory cannot read what was recorded before the last rekey, some minutes of a usual cast. It costs a microsecond.
pub const REKEY_EVERY: u64 = 1 << 16;

const SUITE: &str = "Noise_NKpsk0_25519_AESGCM_SHA256";

/// Protocol name and version; the rendezvous id follows. Both ends must have mixed in the same.
const PROLOGUE: &[u8; 17] = b"punchcast link v4";

/// A caster's handshake between its two messages.
pub(super) struct Pending(HandshakeState);

/// The caster's first move: the state and message 1.
pub(super) fn start(
    secrets: &CasterSecrets,
    facts: [u8; FACTS_LEN],
) -> Result<(Pending, [u8; MESSAGE_LEN]), LinkError> {
    let (psk, prologue) = (psk(secrets.secret), prologue(secrets.rendezvous));
    let mut handshake = builder()?
        .psk(0, &psk)
        .and_then(|builder| builder.prologue(&prologue))
        .and_then(|builder| builder.remote_public_key(&secrets.viewer_key.0))
        .and_then(Builder::build_initiator)
        .map_err(internal)?;
    let mut message = [0; MESSAGE_LEN];
    handshake.write_message(&facts, &mut message).map_err(internal)?;
    Ok((Pending(handshake), message))
}

impl Pending {
    /// Reads message 2: the keys, and the viewer's facts.
    pub(super) fn finish(mut self, message: &[u8]) -> Result<(Transport, [u8; FACTS_LEN]), LinkError> {
        let mut facts = [0; FACTS_LEN];
        self.0.read_message(message, &mut facts).map_err(|_| LinkError::Stranger)?;
        let transport = self.0.into_transport_mode().map_err(internal)?;
        Ok((Transport::new(transport), facts))
    }
}

/// The viewer's only move: reads message 1, gives the keys, message 2, and the caster's facts.
pub(super) fn respond(
    secrets: &ViewerSecrets,
    message: &[u8],
    facts: [u8; FACTS_LEN],
) -> Result<(Transport, [u8; MESSAGE_LEN], [u8; FACTS_LEN]), LinkError> {
    let (psk, prologue) = (psk(secrets.secret), prologue(secrets.rendezvous));
    let mut handshake = builder()?
        .psk(0, &psk)
        .and_then(|builder| builder.prologue(&prologue))
        .and_then(|builder| builder.local_private_key(&secrets.private_key.0))
        .and_then(Builder::build_responder)
        .map_err(internal)?;
    let mut theirs = [0; FACTS_LEN];
    handshake.read_message(message, &mut theirs).map_err(|_| LinkError::Stranger)?;
    let mut answer = [0; MESSAGE_LEN];
    handshake.write_message(&facts, &mut answer).map_err(internal)?;
    let transport = handshake.into_transport_mode().map_err(internal)?;
    Ok((Transport::new(transport), answer, theirs))
}

/// The keys of both directions after the handshake.
pub(super) struct Transport {
    state: TransportState,
    sealed: u64,
    opened: u64,
    plain: Vec<u8>,
}

impl Transport {
    const fn new(state: TransportState) -> Self {
        Self { state, sealed: 0, opened: 0, plain: Vec::new() }
    }

    /// Appends one record of what `fill` appends, its length before it. At most [`record::MAX_PLAIN`] bytes.
    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), LinkError> {
        self.plain.clear();
        fill(&mut self.plain);
        let len = self.plain.len() + TAG_LEN;
        let prefix = u16::try_from(len).map_err(|_| LinkError::Malformed)?;
        let start = out.len();
        out.extend_from_slice(&prefix.to_be_bytes());
        out.resize(start + record::LENGTH_LEN + len, 0);
        self.state.write_message(&self.plain, &mut out[start + record::LENGTH_LEN..]).map_err(internal)?;
        self.sealed += 1;
        if self.sealed.is_multiple_of(REKEY_EVERY) {
            self.state.rekey_outgoing();
        }
        Ok(())
    }

    /// Opens one record into `out`, which is to be as long as `sealed` (snow allocates when it is shorter). The
    /// plain bytes' number.
    pub(super) fn open(&mut self, sealed: &[u8], out: &mut [u8]) -> Result<usize, LinkError> {
        let len = self.state.read_message(sealed, out).map_err(|_| LinkError::Forged)?;
        self.opened += 1;
        if self.opened.is_multiple_of(REKEY_EVERY) {
            self.state.rekey_incoming();
        }
        Ok(len)
    }
}

/// The public half of `key`.
pub(super) fn public_key(key: &ViewerPrivateKey) -> ViewerKey {
    let mut public = [0; 32];
    // The fall-back resolver has X25519 in every build of it that has this one's features.
    if let Some(mut dh) = resolver().resolve_dh(&DHChoice::Curve25519) {
        dh.set(&key.0);
        public.copy_from_slice(dh.pubkey());
    }
    ViewerKey(public)
}

/// Seals the one message that `key` is for: the nonce is always 0. `None` where there is no AES-GCM.
pub(crate) fn seal_once(key: &[u8; 32], plain: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = vec![0; plain.len() + TAG_LEN];
    let len = cipher(key)?.encrypt(0, &[], plain, &mut sealed);
    sealed.truncate(len);
    Some(sealed)
}

/// Opens what [`seal_once`] sealed; `None` if it was made or changed by somebody without the key.
pub(crate) fn open_once(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut plain = vec![0; sealed.len()];
    // Shorter than a tag it cannot be, and is not asked to be opened.
    sealed.len().checked_sub(TAG_LEN)?;
    let len = cipher(key)?.decrypt(0, &[], sealed, &mut plain).ok()?;
    plain.truncate(len);
    Some(plain)
}

fn cipher(key: &[u8; 32]) -> Option<Box<dyn Cipher>> {
    let mut cipher = resolver().resolve_cipher(&CipherChoice::AESGCM)?;
    cipher.set(key);
    Some(cipher)
}

/// Ring for AES-GCM and SHA-256 (three times the speed), the default for X25519, which ring does not lend. Named here,
/// so that a build without ring fails instead of slowing down.
fn resolver() -> Box<FallbackResolver> {
    Box::new(FallbackResolver::new(Box::new(RingResolver), Box::new(DefaultResolver)))
}

fn builder<'a>() -> Result<Builder<'a>, LinkError> {
    let params = SUITE.parse().map_err(internal)?;
    Ok(Builder::with_resolver(params, resolver()))
}

/// Noise wants 32 bytes of key; the domain keeps the secret's uses apart, should it get another.
fn psk(secret: Secret) -> [u8; 32] {
    Sha256::new().chain_update(b"punchcast link secret v1").chain_update(secret.0).finalize().into()
}

fn prologue(rendezvous: RendezvousId) -> [u8; 33] {
    let mut prologue = [0; 33];
    prologue[..PROLOGUE.len()].copy_from_slice(PROLOGUE);
    prologue[PROLOGUE.len()..].copy_from_slice(&rendezvous.0);
    prologue
}

/// What only a broken system or a bug can cause; no peer can.
fn internal(_: snow::Error) -> LinkError {
    LinkError::Crypto
}

//! The simple handshake (RTMP 1.0 §5.2), both sides.
//!
//! ```text
//!   client                       server
//!   C0 (version 3) C1  ────────▶
//!                      ◀──────── S0 S1 S2 (C1 echoed)
//!   C2 (S1 echoed)     ────────▶ then chunks, both ways
//! ```
//!
//! C1 is `time (4) · version (4) · random (1528)`. A version other than zero announces the digest handshake that
//! Flash players used; S1's version of zero tells such a client that this server does not know it, upon which ffmpeg,
//! OBS and librtmp go on with the simple one. C2 and S2 are read and not compared: a digest client's C2 is no echo,
//! and an echo proves nothing anyway.

use super::Error;

/// The length of C1, C2, S1 and S2.
pub const BLOCK: usize = 1536;

/// One side of a handshake.
#[derive(Debug)]
pub struct Handshake {
    expect: Expect,
    /// What has arrived of the expected part: at most `1 + BLOCK` bytes.
    have: Vec<u8>,
    /// Whether the peer's block announced the digest handshake.
    digest: bool,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    C0C1,
    C2,
    S0S1,
    S2,
    Nothing,
}

impl Handshake {
    /// The server's side. `seed` varies the filler bytes, which need not be secret.
    #[must_use]
    pub const fn server(seed: u64) -> Self {
        Self { expect: Expect::C0C1, have: Vec::new(), digest: false, seed }
    }

    /// The client's side; appends C0 and C1 to `out`.
    #[must_use]
    pub fn client(seed: u64, out: &mut Vec<u8>) -> Self {
        let handshake = Self { expect: Expect::S0S1, have: Vec::new(), digest: false, seed };
        out.push(VERSION);
        handshake.append_own_block(out);
        handshake
    }

    /// Consumes from `input` what belongs to the handshake, and appends answers to `out`. Once it returns true the
    /// handshake is done, and what is left of `input` are chunks.
    ///
    /// # Errors
    /// If the peer's version is not 3. (Versions above 31 would be text: some other protocol.)
    pub fn read(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            let wanted = match self.expect {
                Expect::Nothing => return Ok(true),
                Expect::C0C1 | Expect::S0S1 => 1 + BLOCK,
                Expect::C2 | Expect::S2 => BLOCK,
            };
            let take = input.len().min(wanted - self.have.len());
            self.have.extend_from_slice(&input[..take]);
            *input = &input[take..];
            // The version is looked at as soon as it is there, so that a stranger's request ends at its first byte.
            if wanted == 1 + BLOCK
                && let Some(&version) = self.have.first()
                && version != VERSION
            {
                return Err(Error::Version(version));
            }
            if self.have.len() < wanted {
                return Ok(false);
            }
            self.advance(out);
        }
    }

    /// Whether the peer announced the digest handshake.
    #[must_use]
    pub const fn peer_offers_digest(&self) -> bool {
        self.digest
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.have.len()
    }

    fn advance(&mut self, out: &mut Vec<u8>) {
        self.expect = match self.expect {
            Expect::C0C1 => {
                self.digest = self.have[5..9] != [0; 4];
                out.push(VERSION);
                self.append_own_block(out);
                out.extend_from_slice(&self.have[1..]);
                Expect::C2
            }
            Expect::S0S1 => {
                self.digest = self.have[5..9] != [0; 4];
                out.extend_from_slice(&self.have[1..]);
                Expect::S2
            }
            Expect::C2 | Expect::S2 | Expect::Nothing => Expect::Nothing,
        };
        self.have.clear();
        if self.expect == Expect::Nothing {
            self.have = Vec::new();
        }
    }

    /// C1 or S1: time zero (every session's clock begins at zero), version zero, filler.
    fn append_own_block(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + BLOCK, 0);
        fastrand::Rng::with_seed(self.seed).fill(&mut out[start + 8..]);
    }
}

const VERSION: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a handshake with `step` bytes at a time and returns what is left over on the server's side.
    fn run(step: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut client = Handshake::client(1, &mut to_server);
        let mut server = Handshake::server(2);
        let (mut server_rest, mut client_rest) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            for piece in std::mem::take(&mut to_server).chunks(step) {
                let mut piece = piece;
                if server.read(&mut piece, &mut to_client).unwrap() {
                    server_rest.extend_from_slice(piece);
                }
            }
            for piece in std::mem::take(&mut to_client).chunks(step) {
                let mut piece = piece;
                if client.read(&mut piece, &mut to_server).unwrap() {
                    client_rest.extend_from_slice(piece);
                    to_server.extend_from_slice(b"chunks");
                }
            }
        }
        (server_rest, client_rest)
    }

    #[test]
    fn both_sides_finish_in_any_split_and_hand_on_what_follows() {
        for step in [1, 2, 7, 1535, 1536, 1537, 1 << 20] {
            let (server_rest, client_rest) = run(step);
            assert_eq!(&server_rest[..6], b"chunks", "step {step}");
            assert!(client_rest.is_empty());
        }
    }

    #[test]
    fn the_blocks_echo_each_other() {
        let mut c0c1 = Vec::new();
        let _client = Handshake::client(7, &mut c0c1);
        let mut answer = Vec::new();
        let mut server = Handshake::server(8);
        assert!(!server.read(&mut &c0c1[..], &mut answer).unwrap());
        assert_eq!(answer.len(), 1 + 2 * BLOCK);
        assert_eq!(answer[0], 3);
        assert_eq!(answer[1..9], [0; 8]);
        assert_eq!(&answer[1 + BLOCK..], &c0c1[1..]);
        assert!(!server.peer_offers_digest());
    }

    #[test]
    fn a_digest_client_is_recognised_and_answered_simply() {
        let mut c0c1 = vec![3];
        c0c1.extend_from_slice(&[0, 0, 0, 0, 9, 0, 124, 2]);
        c0c1.resize(1 + BLOCK, 0x55);
        let mut answer = Vec::new();
        let mut server = Handshake::server(8);
        assert!(!server.read(&mut &c0c1[..], &mut answer).unwrap());
        assert!(server.peer_offers_digest());
        assert_eq!(answer[5..9], [0; 4]);
    }

    #[test]
    fn any_other_version_ends_it_at_the_first_byte() {
        let mut out = Vec::new();
        assert_eq!(Handshake::server(1).read(&mut &b"GET /"[..], &mut out), Err(Error::Version(b'G')));
        assert_eq!(Handshake::server(1).read(&mut &[6][..], &mut out), Err(Error::Version(6)));
        assert!(out.is_empty());
    }
}

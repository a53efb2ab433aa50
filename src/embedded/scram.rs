//! The server's side of SCRAM (RFC 5802, RFC 7677), as far as Kafka's brokers have it.

use std::hash::{BuildHasher, Hasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Rounds of hashing, Kafka's default.
const ITERATIONS: u32 = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
            let mut mac =
                <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(bytes);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Hash::Sha256 => of::<Hmac<Sha256>>(key, bytes),
            Hash::Sha512 => of::<Hmac<Sha512>>(key, bytes),
        }
    }

    /// `Hi` of RFC 5802: as many rounds of HMAC, each over the last, all combined.
    fn salted(self, password: &[u8], salt: &[u8]) -> Vec<u8> {
        let mut round = self.hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
        let mut all = round.clone();
        for _ in 1..ITERATIONS {
            round = self.hmac(password, &round);
            all.iter_mut().zip(&round).for_each(|(all, byte)| *all ^= byte);
        }
        all
    }
}

/// What a broker keeps of a user's password.
#[derive(Clone)]
pub(super) struct Stored {
    hash: Hash,
    salt: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Stored {
    pub(super) fn new(hash: Hash, password: &str) -> Stored {
        let salt = random().into_bytes();
        let salted = hash.salted(password.as_bytes(), &salt);
        let client_key = hash.hmac(&salted, b"Client Key");
        let server_key = hash.hmac(&salted, b"Server Key");
        Stored { hash, salt, stored_key: hash.digest(&client_key), server_key }
    }
}

/// A login between the client's two messages.
pub(super) struct ScramServer {
    stored: Stored,
    user: String,
    nonce: String,
    /// The messages that both sides sign, but the last.
    signed: String,
}

impl ScramServer {
    /// The user that a client's first message names.
    pub(super) fn user_of(first: &[u8]) -> Option<String> {
        let bare = bare(first)?;
        let name = bare.split(',').next()?.strip_prefix("n=")?;
        Some(name.replace("=2C", ",").replace("=3D", "="))
    }

    /// Answers a client's first message.
    pub(super) fn begin(
        stored: Stored,
        user: &str,
        first: &[u8],
    ) -> Option<(ScramServer, Vec<u8>)> {
        let bare = bare(first)?;
        let client_nonce = bare.split(',').find_map(|part| part.strip_prefix("r="))?;
        let nonce = format!("{client_nonce}{}", random());
        let salt = STANDARD.encode(&stored.salt);
        let answer = format!("r={nonce},s={salt},i={ITERATIONS}");
        let signed = format!("{bare},{answer},");
        let server = ScramServer { stored, user: user.to_owned(), nonce, signed };
        Some((server, answer.into_bytes()))
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// Answers a client's last message; `None` if the password was another.
    pub(super) fn finish(&self, last: &[u8]) -> Option<Vec<u8>> {
        let last = std::str::from_utf8(last).ok()?;
        let (without_proof, proof) = last.rsplit_once(",p=")?;
        let nonce = without_proof.split(',').find_map(|part| part.strip_prefix("r="))?;
        let signed = format!("{}{without_proof}", self.signed);
        let Stored { hash, stored_key, server_key, .. } = &self.stored;
        let signature = hash.hmac(stored_key, signed.as_bytes());
        let proof = STANDARD.decode(proof).ok()?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let is_right = nonce == self.nonce && hash.digest(&client_key) == *stored_key;
        let verifier = STANDARD.encode(hash.hmac(server_key, signed.as_bytes()));
        is_right.then(|| format!("v={verifier}").into_bytes())
    }
}

/// The first message without its channel binding header, of which only "none" is known.
fn bare(first: &[u8]) -> Option<&str> {
    let first = std::str::from_utf8(first).ok()?;
    let rest = first.strip_prefix("n,")?;
    let (_authzid, bare) = rest.split_once(',')?;
    Some(bare)
}

/// Letters that another login does not have. (They need not be secret here.)
fn random() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", number(), number())
}

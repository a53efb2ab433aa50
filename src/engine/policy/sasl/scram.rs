//! SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677, KIP-84).

mod hash;
mod messages;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use self::hash::Hash;
use self::messages::ServerFirst;
use super::credentials::{Credentials, CredentialsProvider, Source};
use super::error::{SaslError, SaslErrorKind};
use super::mechanism::{SaslExchange, SaslMechanism, SaslPeer};
use super::secret::Secret;
use crate::locking::lock;

/// Random bytes in a nonce, 192 bits: as base64 they are 32 characters without padding.
const NONCE_BYTES: usize = 24;

/// How many salted passwords a mechanism keeps. A cluster has one salt for each user and hash;
/// more are for a password that is being replaced.
const SALTED_PASSWORDS_MAX: usize = 4;

/// The header without channel binding and without an identity to act as, and what stands for it
/// in the last message: its base64.
const GS2_HEADER: &str = "n,,";
const GS2_HEADER_BASE64: &str = "biws";

/// The mechanisms SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677, KIP-84): a user name and a
/// password, which both sides prove to know without sending it.
///
/// Brokers choose a salt and a number of iterations, from 4,096 to 1,000,000: fewer are refused as
/// weak, more as a way to keep this client busy. The first login computes for a time that grows
/// with them (4,096 take 1 to 5 ms). The result is kept in memory, as secret as the password, so
/// that the next login with the same salt costs nothing. The password's UTF-8 is used as it is,
/// without SASLprep, as Kafka does. Whoever listens can try passwords against what was said, so
/// that an encrypted connection is advisable nevertheless.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).user("shop", "secret").start()?;
/// use tidegate::Scram;
///
/// let login = Scram::sha_512("shop", "secret");
/// let producer = Producer::builder(&cluster.bootstrap_servers()).sasl(login).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Scram {
    source: Source,
    token: bool,
    shared: Arc<Shared>,
}

/// What the logins of one mechanism have in common.
struct Shared {
    hash: Hash,
    salted: Mutex<VecDeque<Salted>>,
}

/// A salted password, and what it was made of.
#[derive(Clone)]
struct Salted {
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
    salted: Secret,
}

impl Scram {
    /// SCRAM-SHA-256 with one user name and password for ever. Both are checked when a login
    /// begins: neither may be empty or hold a NUL.
    pub fn sha_256(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Scram::sha_256_from_provider(Credentials::new(user, password))
    }

    /// SCRAM-SHA-512, as [`Scram::sha_256`].
    pub fn sha_512(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Scram::sha_512_from_provider(Credentials::new(user, password))
    }

    /// SCRAM-SHA-256 that asks for the user name and the password at every login.
    pub fn sha_256_from_provider(provider: impl CredentialsProvider + 'static) -> Self {
        Scram::new(Hash::Sha256, provider)
    }

    /// SCRAM-SHA-512 that asks for the user name and the password at every login.
    pub fn sha_512_from_provider(provider: impl CredentialsProvider + 'static) -> Self {
        Scram::new(Hash::Sha512, provider)
    }

    /// The user name and the password are the id and the HMAC of a delegation token (KIP-48), as
    /// `tokenauth=true` of Kafka's `ScramLoginModule`.
    pub fn delegation_token(mut self) -> Self {
        self.token = true;
        self
    }

    fn new(hash: Hash, provider: impl CredentialsProvider + 'static) -> Self {
        let salted = Mutex::new(VecDeque::with_capacity(SALTED_PASSWORDS_MAX));
        let shared = Arc::new(Shared { hash, salted });
        Scram { source: Source::new(provider), token: false, shared }
    }

    fn begin_with(&self, nonce: String) -> Result<Exchange, SaslError> {
        let (user, password) = self.source.ask()?.into_parts();
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let extension = if self.token { ",tokenauth=true" } else { "" };
        let first_bare = format!("n={user},r={nonce}{extension}");
        let shared = self.shared.clone();
        Ok(Exchange { shared, password, nonce, first_bare, step: Step::Begin })
    }
}

impl SaslMechanism for Scram {
    fn name(&self) -> &str {
        self.shared.hash.mechanism()
    }

    fn begin(&self, _peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
        let mut random = [0; NONCE_BYTES];
        getrandom::fill(&mut random).map_err(|error| {
            let words = format!("the operating system gave no random numbers: {error}");
            SaslError::new(SaslErrorKind::System, words)
        })?;
        Ok(Box::new(self.begin_with(BASE64.encode(random))?))
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Scram");
        shown.field("mechanism", &self.shared.hash.mechanism());
        shown.field("delegation_token", &self.token).field("source", &self.source).finish()
    }
}

impl Shared {
    /// The salted password, from an earlier login or computed now. No lock is held meanwhile: a
    /// broker that asks for many iterations holds up this login only.
    fn salt(&self, password: &Secret, server: &ServerFirst<'_>) -> Salted {
        let is_same = |kept: &&Salted| {
            kept.salt == server.salt
                && kept.iterations == server.iterations
                && kept.password == *password
        };
        let kept = lock(&self.salted);
        if let Some(found) = kept.iter().find(is_same) {
            return found.clone();
        }
        drop(kept);
        let salted = self.hash.salted_password(password, &server.salt, server.iterations);
        let (password, salt) = (password.clone(), server.salt.clone());
        Salted { password, salt, iterations: server.iterations, salted }
    }

    /// Keeps what a verified broker chose, in place of the oldest.
    fn keep(&self, salted: Salted) {
        let mut kept = lock(&self.salted);
        let is_same =
            |other: &Salted| (&other.salt, other.iterations) == (&salted.salt, salted.iterations);
        // A replaced password is of no more use.
        kept.retain(|other| !is_same(other));
        if kept.len() == SALTED_PASSWORDS_MAX {
            kept.pop_front();
        }
        kept.push_back(salted);
    }
}

/// One login.
struct Exchange {
    shared: Arc<Shared>,
    password: Secret,
    nonce: String,
    /// The client's first message without its header.
    first_bare: String,
    step: Step,
}

/// What comes next.
enum Step {
    Begin,
    /// The broker names its nonce, the salt and the iterations.
    ServerFirst,
    /// The broker proves that it knows the password, over all that was said.
    ServerFinal {
        salted: Salted,
        said: String,
    },
    /// Completed or failed.
    Over,
}

impl SaslExchange for Exchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        // After an error nothing continues: a broker has one try.
        match (std::mem::replace(&mut self.step, Step::Over), challenge) {
            (Step::Begin, None | Some([])) => {
                self.step = Step::ServerFirst;
                Ok(Some(format!("{GS2_HEADER}{}", self.first_bare).into_bytes()))
            }
            (Step::ServerFirst, Some(challenge)) => self.prove(challenge).map(Some),
            (Step::ServerFinal { salted, said }, Some(challenge)) => {
                self.verify(challenge, salted, &said)?;
                Ok(None)
            }
            _ => {
                let words = "the broker sent a message out of turn: SCRAM has two of a broker's, \
                             each after one of the client's (RFC 5802 section 5)";
                Err(SaslError::new(SaslErrorKind::Protocol, words))
            }
        }
    }
}

impl Exchange {
    /// Answers the broker's first message with the proof of knowing the password.
    fn prove(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let server = ServerFirst::parse(challenge, &self.nonce)?;
        let salted = self.shared.salt(&self.password, &server);
        let without_proof = format!("c={GS2_HEADER_BASE64},r={}", server.nonce);
        let said = format!("{},{},{without_proof}", self.first_bare, server.text);
        let hash = self.shared.hash;
        let client_key = hash.mac(salted.salted.expose(), b"Client Key");
        let stored_key = hash.digest(client_key.expose());
        let signature = hash.mac(stored_key.expose(), said.as_bytes());
        let pairs = client_key.expose().iter().zip(signature.expose());
        let proof: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        self.step = Step::ServerFinal { salted, said };
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }

    /// Accepts the broker's last message if its signature shows that it knows the password.
    fn verify(&self, challenge: &[u8], salted: Salted, said: &str) -> Result<(), SaslError> {
        let signature = messages::server_signature(challenge)?;
        let hash = self.shared.hash;
        let server_key = hash.mac(salted.salted.expose(), b"Server Key");
        if !hash.is_mac(server_key.expose(), said.as_bytes(), &signature) {
            let words = "the broker's signature is wrong: it accepted the login without knowing \
                         the password, and may be an impostor. Check its address, and that every \
                         broker has the same credentials for this user";
            return Err(SaslError::new(SaslErrorKind::ServerNotVerified, words));
        }
        self.shared.keep(salted);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

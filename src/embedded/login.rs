//! Logins (SASL): who may use a listener, and where a connection stands with that.
//!
//! It follows Kafka: SaslHandshake names the mechanism, SaslAuthenticate carries tokens (after
//! version 0 of the handshake they come bare), any other request but ApiVersions ends a connection
//! that has not logged in, and one whose session is over unless a new login comes first (KIP-368).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::handlers::{Broken, Envelope, decode, encode, text};
use super::log::error;
use super::msk_iam;
use super::scram::{Hash, ScramServer, Stored};

/// What Kafka's brokers say of any wrong user name, password or proof.
const REFUSED: &str = "Authentication failed during authentication due to invalid credentials \
                       with SASL mechanism ";
/// The first bytes of a token login, up to the token (RFC 7628).
const BEARER: &str = "auth=Bearer ";

/// Judges a token: for how long it is good, or `None` if it is not.
pub(super) type CheckToken = dyn Fn(&str) -> Option<Duration> + Send + Sync;

/// Who may log in. Without anyone, access keys or a check of tokens, no login is asked for.
#[derive(Clone, Default)]
pub(super) struct Logins {
    users: Arc<RwLock<BTreeMap<String, User>>>,
    check_token: Option<Arc<CheckToken>>,
    /// Access keys of AWS: secrets by their ids.
    access_keys: BTreeMap<String, String>,
    /// The longest session; `None` for no end.
    pub session_max: Option<Duration>,
    /// Listeners want a login.
    pub wanted: bool,
    /// Only these mechanisms, if any are named.
    pub only: Vec<String>,
}

#[derive(Clone)]
struct User {
    password: String,
    scram_256: Stored,
    scram_512: Stored,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Logins {
    /// Adds a user, or gives one another password.
    pub(super) fn set_user(&self, name: &str, password: &str) {
        let user = User {
            password: password.to_owned(),
            scram_256: Stored::new(Hash::Sha256, password),
            scram_512: Stored::new(Hash::Sha512, password),
        };
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        users.insert(name.to_owned(), user);
    }

    /// False if there was no such user.
    pub(super) fn remove_user(&self, name: &str) -> bool {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        users.remove(name).is_some()
    }

    pub(super) fn check_tokens_with(&mut self, check: Arc<CheckToken>) {
        (self.check_token, self.wanted) = (Some(check), true);
    }

    /// Adds an access key of AWS.
    pub(super) fn add_access_key(&mut self, id: &str, secret: &str) {
        self.access_keys.insert(id.to_owned(), secret.to_owned());
        self.wanted = true;
    }

    fn user(&self, name: &str) -> Option<User> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn mechanisms(&self) -> Vec<&'static str> {
        let mut all = vec!["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        all.extend(self.check_token.as_ref().map(|_| "OAUTHBEARER"));
        all.extend((!self.access_keys.is_empty()).then_some("AWS_MSK_IAM"));
        let is_on = |name: &&str| self.only.is_empty() || self.only.iter().any(|it| it == name);
        all.into_iter().filter(is_on).collect()
    }
}

/// A login that is under way.
enum Exchange {
    Plain,
    Scram(Hash, Option<ScramServer>),
    Bearer,
    MskIam,
}

impl Exchange {
    fn of(mechanism: &str) -> Option<Exchange> {
        Some(match mechanism {
            "PLAIN" => Exchange::Plain,
            "SCRAM-SHA-256" => Exchange::Scram(Hash::Sha256, None),
            "SCRAM-SHA-512" => Exchange::Scram(Hash::Sha512, None),
            "OAUTHBEARER" => Exchange::Bearer,
            "AWS_MSK_IAM" => Exchange::MskIam,
            _ => return None,
        })
    }
}

/// What comes of a token.
enum Verdict {
    /// The next one is waited for.
    Answer(Vec<u8>),
    /// It was the last: who this is, and for how long the broker believes it.
    Welcome(Vec<u8>, String, Option<Duration>),
    Refused(String),
}

/// Where one connection stands.
pub(super) struct Login<'a> {
    logins: &'a Logins,
    mechanism: String,
    exchange: Option<Exchange>,
    /// Tokens come without headers.
    bare: bool,
    /// Who has logged in, and until when that holds.
    session: Option<(String, Option<Instant>)>,
}

impl<'a> Login<'a> {
    pub(super) fn new(logins: &'a Logins) -> Login<'a> {
        Login { logins, mechanism: String::new(), exchange: None, bare: false, session: None }
    }

    /// Whether the next frame is a token without header.
    pub(super) fn expects_bare_token(&self) -> bool {
        self.bare && self.exchange.is_some()
    }

    /// Whether any request may come that is not part of a login.
    pub(super) fn allows_requests(&self) -> bool {
        match &self.session {
            _ if !self.logins.wanted => true,
            None => false,
            Some((_, None)) => self.exchange.is_none(),
            Some((_, Some(until))) => self.exchange.is_none() && Instant::now() < *until,
        }
    }

    /// Answers SaslHandshake.
    pub(super) fn handshake(&mut self, envelope: &Envelope, frame: Bytes) -> io::Result<Vec<u8>> {
        let request: SaslHandshakeRequest = decode(envelope, frame)?;
        let (mechanism, response) = (request.mechanism.as_str(), SaslHandshakeResponse::default());
        let version = envelope.version;
        if !self.logins.wanted {
            let response = response.with_error_code(error::ILLEGAL_SASL_STATE);
            return Ok(encode(envelope, version, &response)?);
        }
        let offered = self.logins.mechanisms();
        let names = offered.iter().map(|name| text(name)).collect();
        let response = response.with_mechanisms(names);
        if !offered.contains(&mechanism) {
            let response = response.with_error_code(error::UNSUPPORTED_SASL_MECHANISM);
            return Ok(encode(envelope, version, &response)?);
        }
        if self.session.is_some() && self.mechanism != mechanism {
            return Err(Broken("another mechanism than at first").into());
        }
        mechanism.clone_into(&mut self.mechanism);
        (self.exchange, self.bare) = (Exchange::of(mechanism), version == 0);
        Ok(encode(envelope, version, &response)?)
    }

    /// Answers SaslAuthenticate. The second value is whether the connection ends with the answer.
    pub(super) fn authenticate(
        &mut self,
        envelope: &Envelope,
        frame: Bytes,
    ) -> io::Result<(Vec<u8>, bool)> {
        let request: SaslAuthenticateRequest = decode(envelope, frame)?;
        let response = SaslAuthenticateResponse::default();
        let (response, ends) = match self.judge(&request.auth_bytes) {
            None => (response.with_error_code(error::ILLEGAL_SASL_STATE), true),
            Some(Verdict::Answer(token)) => (response.with_auth_bytes(token.into()), false),
            Some(Verdict::Welcome(token, _, lifetime)) => {
                let lifetime = lifetime.filter(|_| envelope.version >= 1);
                let ms = lifetime.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX));
                (response.with_auth_bytes(token.into()).with_session_lifetime_ms(ms), false)
            }
            Some(Verdict::Refused(words)) => {
                let words = StrBytes::from_string(words);
                let code = error::SASL_AUTHENTICATION_FAILED;
                (response.with_error_code(code).with_error_message(Some(words)), true)
            }
        };
        Ok((encode(envelope, envelope.version, &response)?, ends))
    }

    /// Answers a token without header: another one, or the end of the connection.
    pub(super) fn bare_token(&mut self, token: &[u8]) -> io::Result<Vec<u8>> {
        let answer = match self.judge(token) {
            Some(Verdict::Answer(token) | Verdict::Welcome(token, ..)) => token,
            _ => return Err(Broken("a login that is refused").into()),
        };
        let size = i32::try_from(answer.len()).map_err(|_| Broken("a token over 2 GiB"))?;
        Ok([&size.to_be_bytes()[..], &answer].concat())
    }

    fn judge(&mut self, token: &[u8]) -> Option<Verdict> {
        let exchange = self.exchange.as_mut()?;
        let verdict = match exchange {
            Exchange::Plain => plain(self.logins, token),
            Exchange::Scram(hash, server) => scram(self.logins, *hash, server, token),
            Exchange::Bearer => bearer(self.logins, token),
            Exchange::MskIam => Ok(msk_iam(self.logins, token)),
        };
        let verdict = match verdict {
            Ok(Verdict::Welcome(token, who, lifetime)) => {
                let changed = self.session.as_ref().is_some_and(|(known, _)| *known != who);
                if changed {
                    Verdict::Refused("Cannot change principals during re-authentication".into())
                } else {
                    let lifetime = [lifetime, self.logins.session_max];
                    let lifetime = lifetime.into_iter().flatten().min();
                    Verdict::Welcome(token, who, lifetime)
                }
            }
            Ok(verdict) => verdict,
            Err(()) => Verdict::Refused(format!("{REFUSED}{}", self.mechanism)),
        };
        match &verdict {
            Verdict::Answer(_) => {}
            Verdict::Refused(_) => self.exchange = None,
            Verdict::Welcome(_, who, lifetime) => {
                let until = lifetime.map(|lifetime| Instant::now() + lifetime);
                (self.exchange, self.session) = (None, Some((who.clone(), until)));
            }
        }
        Some(verdict)
    }
}

fn plain(logins: &Logins, token: &[u8]) -> Result<Verdict, ()> {
    let text = std::str::from_utf8(token).map_err(|_| ())?;
    let parts: Vec<&str> = text.split('\0').collect();
    let [authzid, name, password] = parts[..] else { return Err(()) };
    let user = logins.user(name).filter(|user| user.password == password).ok_or(())?;
    drop(user);
    match authzid {
        "" => Ok(Verdict::Welcome(Vec::new(), name.to_owned(), None)),
        same if same == name => Ok(Verdict::Welcome(Vec::new(), name.to_owned(), None)),
        _ => Err(()),
    }
}

fn scram(
    logins: &Logins,
    hash: Hash,
    server: &mut Option<ScramServer>,
    token: &[u8],
) -> Result<Verdict, ()> {
    if let Some(server) = server {
        let answer = server.finish(token).ok_or(())?;
        return Ok(Verdict::Welcome(answer, server.user().to_owned(), None));
    }
    let name = ScramServer::user_of(token).ok_or(())?;
    let user = logins.user(&name).ok_or(())?;
    let stored = match hash {
        Hash::Sha256 => user.scram_256,
        Hash::Sha512 => user.scram_512,
    };
    let (begun, answer) = ScramServer::begin(stored, &name, token).ok_or(())?;
    *server = Some(begun);
    Ok(Verdict::Answer(answer))
}

fn bearer(logins: &Logins, token: &[u8]) -> Result<Verdict, ()> {
    if token == [1] {
        // The client's answer to the error that it was told before.
        return Err(());
    }
    let text = std::str::from_utf8(token).map_err(|_| ())?;
    let fields = text.split('\x01').find_map(|field| field.strip_prefix(BEARER));
    let bearer = fields.ok_or(())?;
    let check = logins.check_token.as_ref().ok_or(())?;
    Ok(match check(bearer) {
        Some(lifetime) => Verdict::Welcome(Vec::new(), "bearer".to_owned(), Some(lifetime)),
        None => Verdict::Answer(br#"{"status":"invalid_token"}"#.to_vec()),
    })
}

fn msk_iam(logins: &Logins, token: &[u8]) -> Verdict {
    match msk_iam::judge(&logins.access_keys, token, SystemTime::now()) {
        // Keys are replaced while the role that they are for stays the same.
        Some(answer) => Verdict::Welcome(answer, "role".to_owned(), None),
        None => Verdict::Refused(msk_iam::REFUSED.to_owned()),
    }
}

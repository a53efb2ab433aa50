//! OAUTHBEARER (RFC 7628, KIP-255): a token that the application fetches.

mod fetch;
mod status;
mod token;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::token::OAuthToken;
use super::error::{SaslError, SaslErrorKind, foreign_words};
use super::kept::Kept;
use super::mechanism::{SaslExchange, SaslMechanism, SaslPeer};

/// Bytes of a broker's answer that are read. Kafka's have about 100.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What answers a broker's error, so that the broker ends the login (RFC 7628 section 3.2.3).
const ERROR_SEEN: &[u8] = b"\x01";

/// Where tokens come from: a library of an identity provider, a file, another service. Closures
/// `Fn() -> Result<OAuthToken, Box<dyn Error + Send + Sync>>` are providers.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use std::time::Duration;
/// # use tidegate::embedded::EmbeddedCluster;
/// use std::error::Error;
/// use tidegate::{OAuthBearer, OAuthToken, Producer, TokenProvider};
///
/// /// Stands for the library of an identity provider.
/// struct Library;
///
/// impl TokenProvider for Library {
///     fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
///         Ok(OAuthToken::new("token-of-shop").lifetime(Duration::from_secs(60)))
///     }
/// }
///
/// # let check = |token: &str| (token == "token-of-shop").then_some(Duration::from_secs(60));
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).check_tokens(check).start()?;
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).sasl(OAuthBearer::new(Library)).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TokenProvider: Send + Sync {
    /// Fetches a token.
    ///
    /// Called on a thread that may wait, by one login at a time; a panic fails that login only. The
    /// logins of other connections wait meanwhile if they have no valid token, so a limit of time
    /// of its own is advisable.
    ///
    /// # Errors
    ///
    /// The login fails with [`SaslErrorKind::Credentials`] and repeats the error's words, which are
    /// logged and so must hold no secret. While the last token is valid, it is presented instead.
    fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>>;
}

impl<F> TokenProvider for F
where
    F: Fn() -> Result<OAuthToken, Box<dyn Error + Send + Sync>> + Send + Sync,
{
    fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
        self()
    }
}

/// The mechanism OAUTHBEARER (RFC 7628, KIP-255): a bearer token.
///
/// A token that says when it expires serves all logins until 80 % of its lifetime have passed; then
/// another one is fetched, and the old one still serves if that fails. A token that does not say so
/// is fetched for every login. When a broker refuses a token, the next login fetches another. The
/// token crosses the network as it is, so that only an encrypted connection (`SASL_SSL`) keeps it
/// from others.
///
/// ```
/// use std::time::Duration;
///
/// use tidegate::{OAuthBearer, OAuthToken};
///
/// let mechanism = OAuthBearer::new(|| {
///     let token = std::fs::read_to_string("/run/secrets/token")?;
///     Ok(OAuthToken::new(token.trim_end().to_owned()).lifetime(Duration::from_secs(300)))
/// });
/// # let _ = mechanism;
/// ```
#[derive(Clone)]
pub struct OAuthBearer {
    provider: Arc<dyn TokenProvider>,
    kept: Arc<Kept<Arc<OAuthToken>>>,
}

impl OAuthBearer {
    /// Presents what `provider` fetches.
    pub fn new(provider: impl TokenProvider + 'static) -> Self {
        OAuthBearer { provider: Arc::new(provider), kept: Arc::new(Kept::new("token")) }
    }
}

impl SaslMechanism for OAuthBearer {
    fn name(&self) -> &str {
        "OAUTHBEARER"
    }

    fn begin(&self, peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
        let fetch = |now| fetch::fetch(&*self.provider, now);
        let token = self.kept.get(&|| peer.now, fetch)?;
        Ok(Box::new(Exchange { kept: self.kept.clone(), token, step: Step::Begin }))
    }
}

impl fmt::Debug for OAuthBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OAuthBearer(TokenProvider)")
    }
}

/// One login.
struct Exchange {
    kept: Arc<Kept<Arc<OAuthToken>>>,
    token: Arc<OAuthToken>,
    step: Step,
}

/// What comes next.
enum Step {
    Begin,
    /// The broker accepts, with nothing, or tells an error.
    Answer,
    /// The broker's error was answered; the broker ends the login.
    Failed(SaslError),
    /// Completed or failed.
    Over,
}

impl SaslExchange for Exchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        match (std::mem::replace(&mut self.step, Step::Over), challenge) {
            (Step::Begin, None | Some([])) => {
                self.step = Step::Answer;
                Ok(Some(self.first_message()))
            }
            (Step::Answer, Some([])) => Ok(None),
            (Step::Answer, Some(answer)) => {
                // The broker may have been told of a new key, or that the token is withdrawn.
                self.kept.forget(|kept| Arc::ptr_eq(kept, &self.token));
                self.step = Step::Failed(self.refusal(answer));
                Ok(Some(ERROR_SEEN.to_vec()))
            }
            (Step::Failed(error), _) => Err(error),
            _ => {
                let words = "the broker sent a message out of turn: OAUTHBEARER has one of a \
                             broker's, after the token (RFC 7628 section 3)";
                Err(SaslError::new(SaslErrorKind::Protocol, words))
            }
        }
    }

    fn refusal(&self) -> Option<SaslError> {
        match &self.step {
            Step::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }
}

impl Exchange {
    /// `n,,^Aauth=Bearer TOKEN^Akey=value^A^A` (RFC 7628 section 3.1).
    fn first_message(&self) -> Vec<u8> {
        let token = &*self.token;
        let (before, bearer) = (b"n,,\x01auth=Bearer ", token.bearer());
        let extensions = token.extensions().iter();
        let extensions_bytes: usize = extensions.map(|(k, v)| k.len() + v.len() + 2).sum();
        // The exact size, so that growing leaves no copy of the token behind.
        let bytes = before.len() + bearer.len() + extensions_bytes + 2;
        let mut message = Zeroizing::new(Vec::with_capacity(bytes));
        message.extend_from_slice(before);
        message.extend_from_slice(bearer);
        for (key, value) in token.extensions() {
            for part in ["\x01", key.as_str(), "=", value.as_str()] {
                message.extend_from_slice(part.as_bytes());
            }
        }
        message.extend_from_slice(b"\x01\x01");
        debug_assert_eq!(message.len(), bytes);
        std::mem::take(&mut *message)
    }

    /// The broker's answer as an error: its `status`, if it has one that can be shown.
    fn refusal(&self, answer: &[u8]) -> SaslError {
        let advice = "check that the token is for this cluster (issuer, audience, scope), and the \
                      clocks of both sides";
        let readable = answer.len() <= ANSWER_BYTES_MAX;
        let read = || status::status_of(&String::from_utf8_lossy(answer));
        let status = readable.then(read).flatten();
        let words = match status {
            // A broker should not repeat a token; one that does must not put it into logs.
            Some(status) if self.token.is_in(&status) => {
                format!("the broker refused the token, which its status repeats: {advice}")
            }
            Some(status) => {
                let status = foreign_words(&status);
                format!("the broker refused the token with status \"{status}\": {advice}")
            }
            None => format!("the broker refused the token without a readable status: {advice}"),
        };
        SaslError::new(SaslErrorKind::Refused, words)
    }
}

#[cfg(test)]
mod tests;

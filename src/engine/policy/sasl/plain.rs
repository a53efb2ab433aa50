//! PLAIN (RFC 4616): the password itself, in one message.

use zeroize::Zeroizing;

use super::credentials::{Credentials, CredentialsProvider, Source};
use super::error::{SaslError, SaslErrorKind};
use super::mechanism::{SaslExchange, SaslMechanism, SaslPeer};
use super::secret::Secret;

/// The mechanism PLAIN (RFC 4616): a user name and a password.
///
/// The password crosses the network as it is, so that only an encrypted connection (`SASL_SSL`)
/// keeps it from others. The identity to act as is left empty, as Kafka's own clients do.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).user("shop", "secret").start()?;
/// use tidegate::Plain;
///
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).sasl(Plain::new("shop", "secret")).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plain {
    source: Source,
}

impl Plain {
    /// Presents one user name and password for ever. Both are checked when a login begins: neither
    /// may be empty or hold a NUL.
    pub fn new(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Plain::from_provider(Credentials::new(user, password))
    }

    /// Asks for the user name and the password at every login.
    pub fn from_provider(provider: impl CredentialsProvider + 'static) -> Self {
        Plain { source: Source::new(provider) }
    }
}

impl SaslMechanism for Plain {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn begin(&self, _peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
        let credentials = self.source.ask()?;
        let (user, password) = (credentials.user().as_bytes(), credentials.password().expose());
        // The exact size, so that growing leaves no copy of the password behind.
        let mut message = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 2));
        for part in [&[0], user, &[0], password] {
            message.extend_from_slice(part);
        }
        Ok(Box::new(Exchange { step: Step::Begin(message) }))
    }
}

/// One login.
struct Exchange {
    step: Step,
}

/// What comes next.
enum Step {
    Begin(Zeroizing<Vec<u8>>),
    /// The broker accepts, with nothing; a refusal is an error of the protocol around.
    Answer,
    /// Completed or failed.
    Over,
}

impl SaslExchange for Exchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        match (std::mem::replace(&mut self.step, Step::Over), challenge) {
            (Step::Begin(mut message), None | Some([])) => {
                self.step = Step::Answer;
                Ok(Some(std::mem::take(&mut *message)))
            }
            (Step::Answer, Some([])) => Ok(None),
            _ => {
                let words = "the broker sent a challenge, but PLAIN has none (RFC 4616): it does \
                             not speak PLAIN as Kafka does";
                Err(SaslError::new(SaslErrorKind::Protocol, words))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn begin(mechanism: &Plain) -> Result<Box<dyn SaslExchange>, SaslError> {
        mechanism.begin(&SaslPeer::new("kafka", 9093, SystemTime::UNIX_EPOCH))
    }

    #[test]
    fn the_message_is_that_of_rfc_4616_and_an_empty_answer_ends() {
        let mechanism = Plain::new("tim", "tanstaaftanstaaf");
        assert_eq!(mechanism.name(), "PLAIN");
        let mut exchange = begin(&mechanism).expect("the credentials are good");
        let first = exchange.next(None).expect("the exchange begins");
        assert_eq!(first.as_deref(), Some(&b"\0tim\0tanstaaftanstaaf"[..]));
        assert_eq!(exchange.next(Some(b"")).expect("the broker accepts"), None);
        assert!(exchange.next(Some(b"")).is_err(), "a login completes once");
    }

    #[test]
    fn a_challenge_is_refused() {
        for challenges in [&[Some(&b"who?"[..])][..], &[None, Some(b"who?")], &[None, None]] {
            let mut exchange = begin(&Plain::new("tim", "hunter2")).expect("they are good");
            let (last, before) = challenges.split_last().expect("there is one");
            for challenge in before {
                exchange.next(*challenge).expect("it begins").expect("it sends something");
            }
            let error = exchange.next(*last).expect_err("PLAIN has no challenge");
            assert_eq!(error.kind(), SaslErrorKind::Protocol);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
            assert!(exchange.next(None).is_err(), "nothing continues after an error");
        }
    }

    #[test]
    fn a_user_name_with_nul_is_refused_and_nothing_is_shown() {
        let mechanism = Plain::new("tim\0admin", "hunter2");
        assert!(!format!("{mechanism:?}").contains("hunter2"));
        let error = begin(&mechanism).err().expect("a NUL would end the user name early");
        assert_eq!(error.kind(), SaslErrorKind::Credentials);
    }
}

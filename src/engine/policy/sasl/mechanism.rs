//! What a mechanism is, and what it is told.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use super::error::SaslError;

/// A way to log in at a broker (RFC 4422). One value serves every connection of a producer.
///
/// [`Plain`](super::Plain), [`Scram`](super::Scram) and [`OAuthBearer`](super::OAuthBearer) are
/// provided. This one leaves it to the certificates of the TLS connection who the client is:
///
/// ```
/// use tidegate::{SaslError, SaslErrorKind, SaslExchange, SaslMechanism, SaslPeer};
///
/// #[derive(Debug)]
/// struct External;
///
/// impl SaslMechanism for External {
///     fn name(&self) -> &str {
///         "EXTERNAL"
///     }
///
///     fn begin(&self, _peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
///         Ok(Box::new(External))
///     }
/// }
///
/// impl SaslExchange for External {
///     fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
///         match challenge {
///             None => Ok(Some(Vec::new())),
///             Some([]) => Ok(None),
///             Some(_) => Err(SaslError::new(SaslErrorKind::Protocol, "an unknown challenge")),
///         }
///     }
/// }
/// ```
pub trait SaslMechanism: Send + Sync + Debug {
    /// The name that brokers know it by, as in `sasl.mechanism`: `PLAIN`, `SCRAM-SHA-512`.
    fn name(&self) -> &str;

    /// Begins a login: for each connection, and again before a session ends (KIP-368).
    ///
    /// Called on a thread of tidegate's own that may wait, never on an event loop; other logins
    /// may wait behind this one. A panic fails this login only.
    ///
    /// # Errors
    ///
    /// Whatever keeps this side from beginning, mostly
    /// [`Credentials`](super::SaslErrorKind::Credentials). The login fails, and a later attempt
    /// begins anew.
    fn begin(&self, peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError>;
}

/// One value for several producers.
impl<M: SaslMechanism + ?Sized> SaslMechanism for Arc<M> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn begin(&self, peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
        (**self).begin(peer)
    }
}

/// One login: the client's side of a mechanism, message by message.
///
/// [`next`](SaslExchange::next) is called with `None` at first, and then with every challenge of
/// the broker's until it returns `None` or an error. Only a returned `None` completes a login: a
/// broker that reports success before that has skipped its part, and the connection is closed. An
/// exchange is dropped after it has completed or failed, or when the broker itself reports an
/// error. It runs on the thread of [`SaslMechanism::begin`], and may compute for long.
///
/// ```
/// use std::time::SystemTime;
/// use tidegate::{Plain, SaslMechanism, SaslPeer};
///
/// // A test of a mechanism, with the test in the broker's place.
/// let peer = SaslPeer::new("broker-1", 9093, SystemTime::now());
/// let mut exchange = Plain::new("shop", "secret").begin(&peer)?;
/// assert_eq!(exchange.next(None)?.as_deref(), Some(&b"\0shop\0secret"[..]));
/// assert_eq!(exchange.next(Some(b""))?, None); // accepted
/// # Ok::<(), tidegate::SaslError>(())
/// ```
pub trait SaslExchange: Send {
    /// What to send first (`challenge` is `None`), or in answer to `challenge`.
    ///
    /// `None` once nothing more is to be sent: the login is complete. For a mechanism that ends
    /// with a message of the broker's, that message was accepted.
    ///
    /// # Errors
    ///
    /// The login has failed, by either side; the exchange is of no further use.
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError>;

    /// What the broker has said in the mechanism's own messages, once it has refused: for the error
    /// that is told when it then ends the login.
    fn refusal(&self) -> Option<SaslError> {
        None
    }
}

/// The broker at which a login begins, and when.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{Plain, Producer, SaslError, SaslExchange, SaslMechanism, SaslPeer};
///
/// /// PLAIN, with a user of its own for each host.
/// #[derive(Debug)]
/// struct UserOfHost;
///
/// impl SaslMechanism for UserOfHost {
///     fn name(&self) -> &str {
///         "PLAIN"
///     }
///
///     fn begin(&self, peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
///         Plain::new(format!("shop@{}", peer.host), "secret").begin(peer)
///     }
/// }
///
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1);
/// # let cluster = cluster.user("shop@127.0.0.1", "secret").start()?;
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).sasl(UserOfHost).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaslPeer<'a> {
    /// The broker's host, as it was configured or advertised: a name, or an address as text.
    pub host: &'a str,
    /// The broker's port.
    pub port: u16,
    /// The time of the system's clock when the login began. Mechanisms read no clock, so that
    /// tests and simulations decide what time it is.
    pub now: SystemTime,
}

impl<'a> SaslPeer<'a> {
    /// A broker's host and port, and the time at which the login begins.
    pub fn new(host: &'a str, port: u16, now: SystemTime) -> Self {
        SaslPeer { host, port, now }
    }
}

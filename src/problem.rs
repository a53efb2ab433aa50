//! What goes wrong between a producer and its brokers.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::engine::protocol::ErrorCode;

/// What stands between a producer and a broker, or between a record and the log: a kind for
/// programs, and words for people. Cheap to clone.
///
/// The words are complete: they name the broker, the address and the time limit where they are
/// known, and hold those of the [`io::Error`] that [`source`](Error::source) gives where there was
/// one. Of a name with several addresses the words tell what is wrong with each, and the kind is
/// the one that says most: that of a peer which answered goes before that of one which refused,
/// and both before an address to which no way leads.
///
/// ```
/// # use tidegate::{DeliveryError, ProblemKind};
/// fn is_wrong_port(error: &DeliveryError) -> bool {
///     let kind = error.problem().map(|problem| problem.kind());
///     matches!(kind, Some(ProblemKind::Refused | ProblemKind::NotKafka))
/// }
/// ```
#[derive(Clone)]
pub struct Problem(Arc<Parts>);

struct Parts {
    kind: ProblemKind,
    text: Box<str>,
    source: Option<Arc<io::Error>>,
}

/// The kinds of problems, each with what may lie behind it.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::probe::Probe;
/// use tidegate::{ProblemKind, ProducerConfig};
///
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # cluster.stop_broker(1);
/// # let config = ProducerConfig::new(&cluster.bootstrap_servers());
/// if let Err(error) = Probe::new(config)?.run(|_| {}) {
///     let advice = match error.failures[0].problem.kind() {
///         ProblemKind::Refused => "is the broker up, and is this its port?",
///         ProblemKind::Authentication => "is this the right password?",
///         _ => "",
///     };
///     assert_eq!(advice, "is the broker up, and is this its port?");
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A name has no address, or its name server did not answer in time.
    Dns,
    /// Nothing listens at the address: the broker is down, or the port is wrong.
    Refused,
    /// No way leads to the address: the network, a route or a firewall; or this machine has no
    /// address or no port left to connect from.
    Unreachable,
    /// The peer, or something between, broke the connection off.
    Reset,
    /// The connection was closed in an orderly way, by the peer or by this client.
    Closed,
    /// No connection, or no answer, within the configured time.
    TimedOut,
    /// Whatever listens there does not speak Kafka's protocol: a port of TLS, HTTP or another
    /// service.
    NotKafka,
    /// No encrypted connection came about: one side does not trust the other's certificate, they
    /// have no version or cipher suite in common, or the peer answers with something else than TLS.
    /// (A broker's listener without TLS closes without an answer: [`Closed`](Self::Closed).)
    Tls,
    /// The broker refused the login, or this client has no usable credentials.
    Authentication,
    /// A SOCKS5 proxy made no connection to the broker: its rules do not allow it, or it is no such
    /// proxy.
    Proxy,
    /// The peer speaks Kafka's protocol, and broke its rules.
    Protocol,
    /// The broker is older than what the configuration asks for.
    BrokerTooOld,
    /// The address belongs to a broker of another cluster.
    OtherCluster,
    /// The broker answered with an error.
    Broker(ErrorCode),
    /// The partition has no leader now.
    NoLeader,
    /// The broker asked for a pause: a quota of the cluster's (KIP-124, KIP-219).
    Throttled,
    /// A limit of this client's configuration is reached.
    Limit,
    /// The operating system refused something: memory, a thread, a descriptor, a permission (also
    /// a firewall of this machine).
    System,
}

impl Problem {
    /// A problem in words.
    pub fn new(kind: ProblemKind, words: impl fmt::Display) -> Problem {
        Problem::with_source(kind, words, None)
    }

    /// A problem that the system told, of another kind than its error shows, or in other words.
    pub(crate) fn told_by(kind: ProblemKind, words: impl fmt::Display, error: io::Error) -> Self {
        Problem::with_source(kind, words, Some(Arc::new(error)))
    }

    fn with_source(
        kind: ProblemKind,
        words: impl fmt::Display,
        source: Option<Arc<io::Error>>,
    ) -> Problem {
        Problem(Arc::new(Parts { kind, text: words.to_string().into(), source }))
    }

    /// What kind of problem it is.
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// What happened, in words: the same as its `Display`.
    pub fn message(&self) -> &str {
        &self.0.text
    }

    /// The words, for a sentence that has named the broker already.
    pub(crate) fn words_at(&self, broker: i32, address: &str) -> &str {
        let place = format!("broker {broker} at {address}: ");
        self.message().strip_prefix(place.as_str()).unwrap_or(self.message())
    }

    /// The same problem, of another kind.
    pub(crate) fn of_kind(&self, kind: ProblemKind) -> Problem {
        Problem::with_source(kind, self, self.0.source.clone())
    }

    /// Of problems with several addresses: how much this one tells about what is wrong.
    pub(crate) fn weight(&self) -> u8 {
        match self.0.kind {
            ProblemKind::NotKafka | ProblemKind::Protocol | ProblemKind::Broker(_) => 6,
            ProblemKind::BrokerTooOld | ProblemKind::OtherCluster => 6,
            ProblemKind::Tls | ProblemKind::Authentication | ProblemKind::Proxy => 6,
            ProblemKind::Refused => 5,
            ProblemKind::Reset | ProblemKind::Closed => 4,
            ProblemKind::TimedOut => 3,
            ProblemKind::Unreachable => 2,
            ProblemKind::System | ProblemKind::Limit => 1,
            ProblemKind::Dns | ProblemKind::NoLeader | ProblemKind::Throttled => 0,
        }
    }

    /// The same problem in these words, which should contain its own.
    pub(crate) fn in_words(&self, words: impl fmt::Display) -> Problem {
        Problem::with_source(self.0.kind, words, self.0.source.clone())
    }

    /// The same problem, with the place where it was met.
    pub(crate) fn at(&self, place: impl fmt::Display) -> Problem {
        self.in_words(format_args!("{place}: {self}"))
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::*;
        let kind = match error.kind() {
            ConnectionRefused => ProblemKind::Refused,
            ConnectionReset | ConnectionAborted | BrokenPipe => ProblemKind::Reset,
            UnexpectedEof => ProblemKind::Closed,
            TimedOut => ProblemKind::TimedOut,
            HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable => {
                ProblemKind::Unreachable
            }
            _ => ProblemKind::System,
        };
        let text = error.to_string();
        Problem::told_by(kind, text, error)
    }
}

impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        Problem::new(ProblemKind::Broker(code), code)
    }
}

/// For tests that do not ask for the kind: a connection that broke.
#[cfg(feature = "internals")]
impl From<&str> for Problem {
    fn from(words: &str) -> Self {
        Problem::new(ProblemKind::Reset, words)
    }
}

impl PartialEq for Problem {
    fn eq(&self, other: &Problem) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.kind, &self.0.text) == (other.0.kind, &other.0.text)
    }
}

impl Eq for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.text)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_kind_and_the_systems_error_whatever_is_said_around_it() {
        let system = io::Error::from(io::ErrorKind::ConnectionRefused);
        let words = system.to_string();
        let problem = Problem::from(system).at("broker 1 at kafka:9092");
        assert_eq!(problem.kind(), ProblemKind::Refused);
        assert_eq!(problem.to_string(), format!("broker 1 at kafka:9092: {words}"));
        let source = problem.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn the_systems_errors_have_kinds_that_programs_can_tell_apart() {
        use io::ErrorKind;
        let kinds = [
            (ErrorKind::ConnectionRefused, ProblemKind::Refused),
            (ErrorKind::BrokenPipe, ProblemKind::Reset),
            (ErrorKind::ConnectionReset, ProblemKind::Reset),
            (ErrorKind::UnexpectedEof, ProblemKind::Closed),
            (ErrorKind::TimedOut, ProblemKind::TimedOut),
            (ErrorKind::NetworkUnreachable, ProblemKind::Unreachable),
            (ErrorKind::AddrNotAvailable, ProblemKind::Unreachable),
            (ErrorKind::PermissionDenied, ProblemKind::System),
        ];
        for (system, kind) in kinds {
            assert_eq!(Problem::from(io::Error::from(system)).kind(), kind, "{system:?}");
        }
    }
}

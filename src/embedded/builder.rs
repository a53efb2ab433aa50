//! How an embedded cluster is set up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::age::{Age, KafkaVersion};
use super::cluster::EmbeddedCluster;
use super::login::Logins;
use super::state::{Config, topic_name_is_valid};

/// Settings of an [`EmbeddedCluster`], made by [`EmbeddedCluster::builder`].
///
/// ```
/// use tidegate::embedded::EmbeddedCluster;
///
/// let cluster = EmbeddedCluster::builder()
///     .brokers(3)
///     .topic("orders", 6)
///     .user("shop", "secret") // every client has to log in now
///     .start()?;
/// assert_eq!(cluster.leader("orders", 1), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddedClusterBuilder {
    pub(super) brokers: i32,
    /// 0 for any.
    pub(super) first_port: u16,
    pub(super) topics: Vec<NewTopic>,
    pub(super) config: Config,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::EmbeddedTls>,
}

#[derive(Clone, Debug)]
pub(super) struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub log_append_time: bool,
}

impl EmbeddedClusterBuilder {
    pub(super) fn new() -> EmbeddedClusterBuilder {
        EmbeddedClusterBuilder {
            brokers: 1,
            first_port: 0,
            topics: Vec::new(),
            config: Config {
                auto_create_topics: false,
                default_partitions: 1,
                discard_payloads: false,
                age: Age::default(),
                message_bytes_max: 1_048_588,
                cluster_id: "tidegate-embedded".to_owned(),
                logins: Logins::default(),
                #[cfg(feature = "tls")]
                tls: None,
            },
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// How many brokers, with the ids 1 to `n`. Default: 1.
    ///
    /// # Panics
    ///
    /// If it is less than 1.
    pub fn brokers(mut self, n: usize) -> Self {
        self.brokers = i32::try_from(n).unwrap_or(i32::MAX);
        assert!(self.brokers > 0, "a cluster has a broker at least");
        self
    }

    /// The port of broker 1; the others have the next ones. Default: 0, for any that are free,
    /// which is best where tests run side by side.
    pub fn first_port(mut self, port: u16) -> Self {
        self.first_port = port;
        self
    }

    /// A topic that exists from the start, its partitions led by the brokers in turn: partition 0
    /// by broker 1, partition 1 by broker 2, and so on.
    ///
    /// # Panics
    ///
    /// If Kafka would not take the name, or the topic has no partition.
    pub fn topic(self, name: &str, partitions: i32) -> Self {
        self.new_topic(name, partitions, false)
    }

    /// A topic with `message.timestamp.type=LogAppendTime`: its records carry the broker's time.
    ///
    /// # Panics
    ///
    /// As [`topic`](Self::topic).
    pub fn topic_with_log_append_time(self, name: &str, partitions: i32) -> Self {
        self.new_topic(name, partitions, true)
    }

    fn new_topic(mut self, name: &str, partitions: i32, log_append_time: bool) -> Self {
        assert!(topic_name_is_valid(name), "{name:?} is no name of a topic");
        assert!(partitions > 0, "a topic has a partition at least");
        self.topics.push(NewTopic { name: name.to_owned(), partitions, log_append_time });
        self
    }

    /// Whether a metadata request creates the topics it misses, if it allows that. The first answer
    /// still says UNKNOWN_TOPIC_OR_PARTITION. Default: no.
    pub fn auto_create_topics(mut self, on: bool) -> Self {
        self.config.auto_create_topics = on;
        self
    }

    /// How many partitions such a topic gets. Default: 1.
    ///
    /// # Panics
    ///
    /// If it is less than 1.
    pub fn default_partitions(mut self, n: i32) -> Self {
        assert!(n > 0, "a topic has a partition at least");
        self.config.default_partitions = n;
        self
    }

    /// The version of Kafka that all brokers are of, as far as their protocol goes: see
    /// [`KafkaVersion`]. Default: none in particular, with all that is implemented of today's
    /// protocol, which is Produce from version 3 on.
    /// [`set_kafka_version`](EmbeddedCluster::set_kafka_version) makes single brokers younger or
    /// older, for mixed clusters.
    ///
    /// Brokers before 0.10 know no login: with users or a check of tokens nobody gets in.
    pub fn kafka_version(mut self, version: KafkaVersion) -> Self {
        self.config.age = Age(Some(version));
        self
    }

    /// For benchmarks: batches are read as far as their headers, offsets and sequences are kept and
    /// checked, the records are dropped unseen and without CRC check. Message sets (Produce before
    /// version 3) are checked whole all the same, and dropped then. Default: no.
    pub fn discard_payloads(mut self, on: bool) -> Self {
        self.config.discard_payloads = on;
        self
    }

    /// `message.max.bytes`: the size of a batch above which it is MESSAGE_TOO_LARGE (10); of a
    /// message set, the size of each of its messages. Default: 1,048,588, as Kafka's.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.config.message_bytes_max = bytes;
        self
    }

    /// The cluster's id, as Metadata tells it from version 2 on. Default: `tidegate-embedded`.
    pub fn cluster_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.config.cluster_id);
        self
    }

    /// Every connection is encrypted. Default: none is.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: super::EmbeddedTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A user who may log in with this password by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. With one
    /// user, an [access key](Self::aws_credentials) or a [check of tokens](Self::check_tokens),
    /// every connection has to log in.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.config.logins.wanted = true;
        self.config.logins.set_user(name, password);
        self
    }

    /// What judges the tokens of OAUTHBEARER: for how long one is good, or `None` if it is not.
    pub fn check_tokens(
        mut self,
        check: impl Fn(&str) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.config.logins.check_tokens_with(Arc::new(check));
        self
    }

    /// An access key of AWS that may sign logins of AWS_MSK_IAM, with or without a session token,
    /// for any host and region; more can be added. What the broker judges is the signature, its
    /// time (15 minutes, by the system's clock) and the form of the message. All keys are taken for
    /// those of one role.
    pub fn aws_credentials(mut self, access_key_id: &str, secret_access_key: &str) -> Self {
        self.config.logins.add_access_key(access_key_id, secret_access_key);
        self
    }

    /// The login mechanisms to take (`sasl.enabled.mechanisms`). Default: those that there are
    /// users, access keys or a check of tokens for.
    pub fn login_mechanisms(mut self, names: &[&str]) -> Self {
        self.config.logins.only = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// How long a login holds (`connections.max.reauth.ms`, KIP-368). Default: as long as its
    /// token, or the connection.
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.logins.session_max = Some(lifetime);
        self
    }

    /// Starts the brokers on 127.0.0.1, each on a free port, or from
    /// [`first_port`](Self::first_port) on.
    ///
    /// # Errors
    ///
    /// If a port, a thread or a file descriptor is not to be had, or a certificate cannot be made.
    pub fn start(self) -> io::Result<EmbeddedCluster> {
        #[cfg(feature = "tls")]
        let this = {
            let mut this = self;
            this.config.tls = match this.tls.take() {
                Some(tls) => Some(Arc::new(super::tls::ServerTls::new(tls)?)),
                None => None,
            };
            this
        };
        #[cfg(not(feature = "tls"))]
        let this = self;
        EmbeddedCluster::start(this)
    }
}

//! What a probe tells: its steps, what it found, and what was wrong.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::engine::protocol::{ErrorCode, MetadataResponse};
use crate::problem::Problem;

/// A step on the way to a cluster's description.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 6).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// # use tidegate::probe::ProbeStage;
/// let mut stages = Vec::new();
/// probe.run(|step| stages.push(step.stage))?;
/// // There was no name to be looked up, no TLS and no login.
/// assert_eq!(stages, [ProbeStage::Connect, ProbeStage::Versions, ProbeStage::Metadata]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeStage {
    /// Looking the host's name up. An address needs none.
    Resolve,
    /// Connecting over TCP, through the proxy where one is configured.
    Connect,
    /// Agreeing on encryption.
    Tls,
    /// Asking which versions of the protocol the broker speaks.
    Versions,
    /// Logging in.
    Login,
    /// Asking for the cluster's brokers and topics.
    Metadata,
    /// Having topics created.
    CreateTopics,
}

impl fmt::Display for ProbeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeStage::Resolve => "resolve the name",
            ProbeStage::Connect => "connect",
            ProbeStage::Tls => "TLS handshake",
            ProbeStage::Versions => "ask for versions",
            ProbeStage::Login => "log in",
            ProbeStage::Metadata => "ask for metadata",
            ProbeStage::CreateTopics => "create topics",
        })
    }
}

/// A step that is over.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 6).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// let mut steps = Vec::new();
/// probe.run(|step| steps.push(step.clone()))?;
/// assert!(steps.iter().all(|step| step.outcome.is_ok()));
/// let slowest = steps.iter().max_by_key(|step| step.took).ok_or("no step")?;
/// println!("the slowest: {slowest}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbeStep {
    /// Whom it was about, as `host:port`.
    pub server: String,
    /// Which step it was.
    pub stage: ProbeStage,
    /// How long it took.
    pub took: Duration,
    /// What it found, or what was wrong.
    pub outcome: Result<ProbeFinding, Problem>,
}

impl fmt::Display for ProbeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProbeStep { server, stage, took, outcome } = self;
        let took = took.as_secs_f64() * 1_000.0;
        match outcome {
            Ok(finding) => write!(f, "{server}: {stage}: {finding} ({took:.1} ms)"),
            Err(problem) => write!(f, "{server}: {stage} failed after {took:.1} ms: {problem}"),
        }
    }
}

/// What a step found.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 6).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// use tidegate::probe::ProbeFinding;
///
/// let mut findings = Vec::new();
/// probe.run(|step| findings.extend(step.outcome.clone()))?;
/// assert!(findings.contains(&ProbeFinding::Connected(cluster.address(1))));
/// let described = findings.iter().find_map(|finding| match finding {
///     ProbeFinding::Described { brokers, topics } => Some((*brokers, *topics)),
///     _ => None,
/// });
/// assert_eq!(described, Some((1, 1)));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeFinding {
    /// The addresses of the name.
    Addresses(Vec<IpAddr>),
    /// The address that took the connection: the proxy's, where one is configured.
    Connected(SocketAddr),
    /// The connection is encrypted.
    Encrypted(TlsDescription),
    /// The broker says what it speaks, or is taken for an old one that cannot say.
    Speaks(SpokenVersions),
    /// The login with this mechanism is complete.
    LoggedIn(String),
    /// The cluster is described.
    Described {
        /// How many brokers it has.
        brokers: usize,
        /// How many topics this user may see.
        topics: usize,
    },
}

impl fmt::Display for ProbeFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFinding::Addresses(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                f.write_str(&addresses.join(", "))
            }
            ProbeFinding::Connected(address) => write!(f, "connected to {address}"),
            ProbeFinding::Encrypted(tls) => tls.fmt(f),
            ProbeFinding::Speaks(versions) => versions.fmt(f),
            ProbeFinding::LoggedIn(mechanism) => write!(f, "logged in with {mechanism}"),
            ProbeFinding::Described { brokers, topics } => {
                write!(f, "brokers: {brokers}, topics: {topics}")
            }
        }
    }
}

/// How a connection is encrypted, and the broker's certificate.
///
/// ```
/// # #[cfg(all(feature = "embedded", feature = "tls"))] {
/// # use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
/// # use tidegate::probe::{Probe, ProbeFinding};
/// # use tidegate::{ProducerConfig, TlsConfig};
/// # let cluster = EmbeddedCluster::builder().tls(EmbeddedTls::new()).start()?;
/// # let mut config = ProducerConfig::new(&cluster.bootstrap_servers());
/// # config.tls = Some(TlsConfig::new().truststore_pem(cluster.authority_pem()));
/// let mut encrypted = None;
/// Probe::new(config)?.run(|step| {
///     if let Ok(ProbeFinding::Encrypted(tls)) = &step.outcome {
///         encrypted = Some(tls.clone());
///     }
/// })?;
/// let tls = encrypted.ok_or("not encrypted")?;
/// assert!(tls.names.contains(&"localhost".to_owned()));
/// assert!(tls.expires_unix > Some(4_000_000_000)); // after the year 2096
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsDescription {
    /// `TLSv1_3`, say.
    pub version: String,
    /// The cipher suite, by its name in the standard.
    pub cipher: String,
    /// Whom the certificate was issued to, as `CN=broker-1, O=Example`. Empty if it cannot be read.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// The host names and addresses that it is for, twenty at the most.
    pub names: Vec<String>,
    /// When it ends, in seconds since the Unix epoch.
    pub expires_unix: Option<u64>,
}

impl fmt::Display for TlsDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.version, self.cipher)?;
        if !self.subject.is_empty() {
            write!(f, ", certificate of {}", self.subject)?;
        }
        if !self.names.is_empty() {
            write!(f, " for {}", self.names.join(", "))?;
        }
        if !self.issuer.is_empty() {
            write!(f, ", issued by {}", self.issuer)?;
        }
        Ok(())
    }
}

/// What a broker and this client both speak.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::{EmbeddedCluster, KafkaVersion};
/// # use tidegate::{ProducerConfig, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().kafka_version(KafkaVersion::V2_7).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// // Of brokers of Kafka 2.7.
/// let versions = probe.run(|_| {})?.versions;
/// assert!(versions.newest.contains(&("Produce".to_owned(), 8)));
/// assert!(!versions.assumed);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpokenVersions {
    /// Requests by their Kafka name, with the newest version that both know. Those that they have
    /// no version of in common are left out.
    pub newest: Vec<(String, i16)>,
    /// The broker did not say so itself: it is taken for one of
    /// [`broker_version_fallback`](crate::ProducerConfig::broker_version_fallback).
    pub assumed: bool,
}

impl fmt::Display for SpokenVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<_> =
            self.newest.iter().map(|(name, version)| format!("{name} {version}")).collect();
        match self.assumed {
            true => write!(f, "taken for an old broker (broker.version.fallback): ")?,
            false => write!(f, "newest in common: ")?,
        }
        f.write_str(&each.join(", "))
    }
}

/// The cluster as one broker sees it.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().cluster_id("test-1").topic("orders", 6).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// let found = probe.run(|_| {})?;
/// assert_eq!(found.cluster_id.as_deref(), Some("test-1")); // is it the cluster that is meant?
/// assert!(found.topics.iter().any(|topic| topic.name == "orders"));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id; `None` where the broker is older than Kafka 0.10.1.
    pub cluster_id: Option<String>,
    /// The active controller, by node id. With KRaft, brokers name one of themselves at random.
    pub controller: Option<i32>,
    /// The brokers that are alive, by id.
    pub brokers: Vec<BrokerDescription>,
    /// The topics that the user may see, by name.
    pub topics: Vec<TopicDescription>,
    /// What the broker that described the cluster speaks.
    pub versions: SpokenVersions,
}

/// A broker.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().brokers(3).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// let found = probe.run(|_| {})?;
/// for broker in &found.brokers {
///     println!("broker {} advertises {}:{}", broker.id, broker.host, broker.port);
///     assert_eq!(broker.port, cluster.address(broker.id).port());
///     probe.reach(&found, broker, |_| {})?; // it can be reached from here
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its node id.
    pub id: i32,
    /// Where it says that it listens (`advertised.listeners`): a name or an address.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Its rack, if it says.
    pub rack: Option<String>,
}

/// A topic.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 6).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// let found = probe.run(|_| {})?;
/// let orders = found.topics.iter().find(|topic| topic.name == "orders").ok_or("no such topic")?;
/// assert_eq!((orders.error, orders.partitions.len()), (None, 6));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Why it is not described, if it is not.
    pub error: Option<ErrorCode>,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 6).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// # cluster.set_leaderless("orders", 4);
/// let found = probe.run(|_| {})?;
/// let all = found.topics.iter().flat_map(|topic| &topic.partitions);
/// let leaderless: Vec<i32> =
///     all.filter(|it| it.leader.is_none()).map(|it| it.partition).collect();
/// assert_eq!(leaderless, [4]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number, from 0.
    pub partition: i32,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<i32>,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
    /// What is wrong with it, if anything is.
    pub error: Option<ErrorCode>,
}

impl ClusterDescription {
    pub(super) fn new(response: MetadataResponse, versions: SpokenVersions) -> Self {
        let some = |code: ErrorCode| (code != ErrorCode::NONE).then_some(code);
        let mut brokers: Vec<_> = response
            .brokers
            .into_iter()
            .map(|broker| BrokerDescription {
                id: broker.id.0,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        let mut topics = Vec::new();
        for topic in response.topics {
            let mut partitions: Vec<_> = topic
                .partitions
                .into_iter()
                .map(|partition| PartitionDescription {
                    partition: partition.partition.0,
                    leader: partition.leader.map(|id| id.0),
                    replicas: partition.replicas.iter().map(|id| id.0).collect(),
                    in_sync: partition.isr.iter().map(|id| id.0).collect(),
                    error: some(partition.error),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.partition);
            let (is_internal, error) = (topic.is_internal, some(topic.error));
            let name = topic.name.unwrap_or_default();
            topics.push(TopicDescription { name, is_internal, error, partitions });
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        let controller = response.controller.map(|id| id.0);
        ClusterDescription {
            cluster_id: response.cluster_id,
            controller,
            brokers,
            topics,
            versions,
        }
    }
}

/// What is wrong with a server.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::probe::{Probe, ProbeStage};
/// use tidegate::{Plain, ProducerConfig};
///
/// # let cluster = EmbeddedCluster::builder().user("shop", "secret").start()?;
/// # let mut config = ProducerConfig::new(&cluster.bootstrap_servers());
/// config.sasl = Some(Plain::new("shop", "sceret").into());
/// if let Err(error) = Probe::new(config)?.run(|_| {}) {
///     let failure = &error.failures[0];
///     println!("{failure}");
///     assert_eq!(failure.stage, ProbeStage::Login);
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbeFailure {
    /// Whom it is about, as `host:port`.
    pub server: String,
    /// The step that failed.
    pub stage: ProbeStage,
    /// Why.
    pub problem: Problem,
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} failed: {}", self.server, self.stage, self.problem)
    }
}

/// No server was of use.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{ProducerConfig, embedded::EmbeddedCluster, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().brokers(2).start()?;
/// # let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// # cluster.stop_broker(1);
/// # cluster.stop_broker(2);
/// // Nobody listens at either of the two bootstrap servers.
/// if let Err(error) = probe.run(|_| {}) {
///     println!("{error}");
///     assert_eq!(error.failures.len(), 2);
/// }
/// # assert!(probe.run(|_| {}).is_err());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbeError {
    /// What is wrong with each that was tried, in order.
    pub failures: Vec<ProbeFailure>,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.failures.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            failure.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ProbeError {}

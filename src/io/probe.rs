//! Looks at a cluster step by step, and tells each step: for people who want to know what is there,
//! or what is wrong on the way.

use std::sync::Arc;

use super::client_parts::ClientParts;
use super::clock::Clock;
use super::dialer::Dialer;
use super::probe_link::{ProbeLink, System};
use super::probe_types::{
    BrokerDescription, ClusterDescription, ProbeError, ProbeFailure, ProbeStage, ProbeStep,
};
use crate::engine::cluster::BrokerAddress;

/// Looks at a cluster with the settings of a producer: resolves names, connects, encrypts, asks for
/// versions, logs in and asks for metadata, each step timed and told.
///
/// It blocks the calling thread, and takes at most `connection_setup_timeout` and `request_timeout`
/// for each connection. It sends no record and changes nothing.
///
/// ```no_run
/// use tidegate::ProducerConfig;
/// use tidegate::probe::Probe;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ProducerConfig::from_properties_file("producer.properties")?;
/// let probe = Probe::new(config)?;
/// let cluster = probe.run(|step| println!("{step}"))?;
/// for broker in &cluster.brokers {
///     // Where brokers say that they are is often not where clients reach them.
///     probe.reach(&cluster, broker, |step| println!("{step}"))?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::EmbeddedCluster;
/// # use tidegate::{ProducerConfig, probe::Probe};
/// # let cluster = EmbeddedCluster::builder().brokers(3).topic("orders", 6).start()?;
/// let probe = Probe::new(ProducerConfig::new(&cluster.bootstrap_servers()))?;
/// let found = probe.run(|step| println!("{step}"))?;
/// assert_eq!((found.brokers.len(), found.topics[0].name.as_str()), (3, "orders"));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Probe {
    parts: ClientParts,
}

impl Probe {
    /// With the parts that a producer would have.
    pub(crate) fn from_parts(parts: ClientParts) -> Probe {
        Probe { parts }
    }

    /// Goes through the bootstrap servers until one describes the cluster. `each` is called after
    /// every step, in order.
    ///
    /// # Errors
    /// What is wrong with each of the servers.
    pub fn run(&self, mut each: impl FnMut(&ProbeStep)) -> Result<ClusterDescription, ProbeError> {
        let mut failures = Vec::new();
        for server in &self.parts.bootstrap {
            let mut tell = |step: ProbeStep| each(&step);
            match self.describe(server, &mut tell) {
                Ok(cluster) => return Ok(cluster),
                Err(failure) => failures.push(failure),
            }
        }
        Err(ProbeError { failures })
    }

    /// Connects to a broker at the address that it advertises, as a producer does that has records
    /// for it, and logs in. A broker of another cluster will not do.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn reach(
        &self,
        cluster: &ClusterDescription,
        broker: &BrokerDescription,
        mut each: impl FnMut(&ProbeStep),
    ) -> Result<(), ProbeError> {
        let address = BrokerAddress { host: broker.host.as_str().into(), port: broker.port };
        let cluster_id = cluster.cluster_id.as_deref().map(Arc::from);
        let mut tell = |step: ProbeStep| each(&step);
        let reached = self.open(Some(broker.id), &address, &mut tell).and_then(|mut link| {
            let ready = link.make_ready(cluster_id);
            link.close();
            ready
        });
        reached.map_err(|failure| ProbeError { failures: vec![failure] })
    }

    fn describe(
        &self,
        server: &BrokerAddress,
        tell: &mut dyn FnMut(ProbeStep),
    ) -> Result<ClusterDescription, ProbeFailure> {
        let mut link = self.open(None, server, tell)?;
        let described = link.make_ready(None).and_then(|()| link.ask());
        link.close();
        described
    }

    pub(super) fn open<'a>(
        &self,
        broker: Option<i32>,
        address: &BrokerAddress,
        tell: &'a mut dyn FnMut(ProbeStep),
    ) -> Result<ProbeLink<'a>, ProbeFailure> {
        let parts = &self.parts;
        // What one attempt finds out about addresses must not keep the next one from trying them.
        let dialer = Dialer::new(parts.sockets.clone(), parts.security.clone(), parts.random);
        let dialer = dialer.with_map(parts.address_map.clone()).through(parts.socks5.clone());
        let system = System::new().map_err(|problem| ProbeFailure {
            server: address.to_string(),
            stage: ProbeStage::Connect,
            problem,
        })?;
        let connection = parts.connection.clone();
        let now = Clock.now();
        Ok(ProbeLink::open(system, connection, Arc::new(dialer), (broker, address), now, tell))
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("bootstrap", &self.parts.bootstrap).finish_non_exhaustive()
    }
}

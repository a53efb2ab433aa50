//! The cluster as a test holds it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::age::KafkaVersion;
use super::broker::{ReservedPort, Running};
use super::builder::EmbeddedClusterBuilder;
use super::fault::Fault;
use super::log::Partition;
use super::records::EmbeddedRecord;
use super::state::{Node, Shared, Topic, topic_name_is_valid};
use super::stats::ClusterStats;

/// A running cluster. Dropping it closes every port and connection and ends every thread.
///
/// Every method takes `&self` and may be called from any thread. Methods that name a broker panic
/// if the cluster has none of that id; the others say what they do about a topic that does not
/// exist.
///
/// ```
/// # use tidegate::Producer;
/// use tidegate::embedded::EmbeddedCluster;
///
/// let cluster = EmbeddedCluster::builder().brokers(2).topic("orders", 1).start()?;
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let orders = producer.topic("orders")?;
/// orders.send("customer-42", "first")?.wait()?;
/// cluster.kill_broker(1); // The other one leads now.
/// orders.send("customer-42", "second")?.wait()?;
/// assert_eq!(cluster.leader("orders", 0), Some(2));
/// assert_eq!(cluster.high_watermark("orders", 0), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EmbeddedCluster {
    shared: Arc<Shared>,
    /// One a node, in the same order.
    lives: Vec<Mutex<Life>>,
}

#[derive(Debug)]
enum Life {
    Running(Running),
    /// Nobody listens; the port is kept if it could be.
    Stopped(Option<ReservedPort>),
}

impl Life {
    /// Stops a broker that runs, and says whether it did.
    fn stop(&mut self, address: SocketAddr) -> bool {
        match std::mem::replace(self, Life::Stopped(None)) {
            Life::Running(running) => {
                running.stop();
                running.join();
                *self = Life::Stopped(ReservedPort::bind(address).ok());
                true
            }
            stopped => {
                *self = stopped;
                false
            }
        }
    }

    /// Starts a broker that is stopped, and says whether it was.
    fn start(&mut self, shared: &Arc<Shared>, node: &Node) -> io::Result<bool> {
        let Life::Stopped(port) = self else { return Ok(false) };
        let port = match port.take() {
            Some(port) => port,
            None => ReservedPort::bind(node.address)?,
        };
        *self = Life::Running(Running::start(shared.clone(), node.id, port)?);
        Ok(true)
    }
}

impl EmbeddedCluster {
    /// Settings to start from: one broker, no topic.
    pub fn builder() -> EmbeddedClusterBuilder {
        EmbeddedClusterBuilder::new()
    }

    pub(super) fn start(builder: EmbeddedClusterBuilder) -> io::Result<EmbeddedCluster> {
        let mut ports = Vec::new();
        let mut addresses = Vec::new();
        for id in 1..=builder.brokers {
            let port = port_of(builder.first_port, id)?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let port = ReservedPort::bind(address).map_err(|error| at(address, error))?;
            addresses.push((id, port.address()?));
            ports.push(port);
        }
        let shared = Arc::new(Shared::new(builder.config, &addresses));
        for topic in &builder.topics {
            shared.create_topic(&topic.name, topic.partitions, topic.log_append_time);
        }
        // Dropped on an error, it stops the brokers that run already.
        let mut cluster = EmbeddedCluster { shared, lives: Vec::new() };
        for ((id, _), port) in addresses.into_iter().zip(ports) {
            let address = port.address()?;
            // A port that another process listens on may only be refused here.
            let running = Running::start(cluster.shared.clone(), id, port);
            let running = running.map_err(|error| at(address, error))?;
            cluster.lives.push(Mutex::new(Life::Running(running)));
        }
        Ok(cluster)
    }

    /// The addresses of all brokers, as `host:port,host:port`.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<_> = self.shared.nodes.iter().map(|n| n.address.to_string()).collect();
        addresses.join(",")
    }

    /// The ids of all brokers, ascending from 1, stopped ones included.
    pub fn broker_ids(&self) -> Vec<i32> {
        self.shared.nodes.iter().map(|node| node.id).collect()
    }

    /// The address of one broker. It stays the same over a restart.
    pub fn address(&self, id: i32) -> SocketAddr {
        self.node(id).address
    }

    /// What clients are told to be a broker's address (`advertised.listeners`), in place of
    /// [`address`](Self::address), from the next response on: that of a proxy in front of it, one
    /// that is wrong.
    pub fn advertise(&self, id: i32, address: SocketAddr) {
        self.node(id).advertise(address);
    }

    /// The certificate that clients have to trust, in PEM.
    ///
    /// # Panics
    ///
    /// If the cluster was built without TLS.
    #[cfg(feature = "tls")]
    pub fn authority_pem(&self) -> String {
        self.tls().authority_pem()
    }

    /// A client's private key and its certificate, by the cluster's authority, both in PEM.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be made.
    ///
    /// # Panics
    ///
    /// If the cluster was built without TLS.
    #[cfg(feature = "tls")]
    pub fn client_identity_pem(&self, name: &str) -> io::Result<(String, String)> {
        self.tls().client_identity_pem(name)
    }

    /// Gives the brokers another authority and certificates by it, for connections from now on.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be made.
    ///
    /// # Panics
    ///
    /// If the cluster was built without TLS.
    #[cfg(feature = "tls")]
    pub fn renew_certificates(&self) -> io::Result<()> {
        self.tls().renew()
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> &super::tls::ServerTls {
        self.shared.config.tls.as_ref().expect("the cluster was built with TLS")
    }

    /// Adds a user who may log in, or gives one another password. Sessions that are open stay so.
    pub fn set_user(&self, name: &str, password: &str) {
        self.shared.config.logins.set_user(name, password);
    }

    /// Takes a user's right to log in. Sessions that are open stay so. False if there was none.
    pub fn remove_user(&self, name: &str) -> bool {
        self.shared.config.logins.remove_user(name)
    }

    /// Creates a topic with a new topic id, led by the brokers in turn. False if there is one of
    /// that name.
    ///
    /// # Panics
    ///
    /// If Kafka would not take the name, or the topic has no partition.
    pub fn create_topic(&self, name: &str, partitions: i32) -> bool {
        assert!(topic_name_is_valid(name), "{name:?} is no name of a topic");
        assert!(partitions > 0, "a topic has a partition at least");
        self.shared.create_topic(name, partitions, false)
    }

    /// Deletes a topic and its records. False if there is none.
    pub fn delete_topic(&self, name: &str) -> bool {
        self.shared.delete_topic(name)
    }

    /// Raises a topic's count of partitions to `total`; a lower total changes nothing. False if
    /// there is no such topic.
    pub fn add_partitions(&self, name: &str, total: i32) -> bool {
        self.shared.add_partitions(name, total)
    }

    /// A topic's id (KIP-516), which a topic of the same name created later does not share.
    pub fn topic_id(&self, name: &str) -> Option<[u8; 16]> {
        self.shared.topics(|topics| topics.by_name(name).map(|topic| topic.id))
    }

    /// The broker that leads a partition; `None` if there is no such partition, or no leader.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.look(topic, partition, |p| p.leader).filter(|&id| id >= 0)
    }

    /// A partition's leader epoch, 0 at first; `None` if there is no such partition.
    pub fn leader_epoch(&self, topic: &str, partition: i32) -> Option<i32> {
        self.look(topic, partition, |p| p.leader_epoch)
    }

    /// Makes a broker the leader of a partition, in the next leader epoch. The log and the state of
    /// its producers move along. False if there is no such partition.
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) -> bool {
        let to = self.node(to).id;
        self.look(topic, partition, |p| p.lead(to)).is_some()
    }

    /// Leaves a partition without leader, in the next leader epoch: LEADER_NOT_AVAILABLE in
    /// metadata, NOT_LEADER_OR_FOLLOWER everywhere. False if there is no such partition.
    pub fn set_leaderless(&self, topic: &str, partition: i32) -> bool {
        self.look(topic, partition, |p| p.lead(-1)).is_some()
    }

    /// An unclean election: a replica leads, in the next leader epoch, that lacks everything from
    /// the batch on that holds `offset`, acknowledged or not. Needs payloads to be kept. False if
    /// there is no such partition.
    pub fn cut_off(&self, topic: &str, partition: i32, offset: i64) -> bool {
        self.look(topic, partition, |p| p.cut_off(offset)).is_some()
    }

    /// The leader remembers only the last batch of each producer, as after a clean restart: its
    /// snapshot holds no more. (Brokers that are stopped and started again here forget nothing.)
    /// False if there is no such partition.
    pub fn forget_all_but_last_batches(&self, topic: &str, partition: i32) -> bool {
        self.look(topic, partition, |p| p.producers().keep_last()).is_some()
    }

    /// The leader forgets every producer, as one that was idle for `producer.id.expiration.ms`.
    /// False if there is no such partition.
    pub fn forget_producers(&self, topic: &str, partition: i32) -> bool {
        self.look(topic, partition, |p| p.producers().forget()).is_some()
    }

    /// Stops a broker: its listener and connections are closed, and connecting to it is refused. It
    /// stays in metadata and keeps its partitions, as if nobody had noticed, until
    /// [`fail_over`](Self::fail_over). Nothing happens if it is stopped already.
    pub fn stop_broker(&self, id: i32) {
        let address = self.node(id).address;
        self.life(id).stop(address);
    }

    /// What the controller does about a broker that is gone: metadata lists it no more, and the
    /// others lead its partitions, in turn, each in its next leader epoch. Without others they have
    /// no leader. [`restart_broker`](Self::restart_broker) lists it again.
    pub fn fail_over(&self, id: i32) {
        self.shared.fail_over(self.node(id).id);
    }

    /// [`stop_broker`](Self::stop_broker), then [`fail_over`](Self::fail_over).
    pub fn kill_broker(&self, id: i32) {
        self.stop_broker(id);
        self.fail_over(id);
    }

    /// Starts a stopped broker again, on the same port. It gets no partition back by itself: see
    /// [`move_leader`](Self::move_leader). Nothing happens if it runs.
    ///
    /// # Errors
    ///
    /// If its port, a thread or a file descriptor is not to be had.
    pub fn restart_broker(&self, id: i32) -> io::Result<()> {
        let node = self.node(id);
        if self.life(id).start(&self.shared, node)? {
            node.registered.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes a broker one of another version of Kafka, as an upgrade (or the way back) does: its
    /// connections are closed, and it listens again on the same port. Its partitions, their logs
    /// and their producers stay. A broker that is stopped stays so, and is of that version when it
    /// starts; one that was paused goes on.
    ///
    /// ```
    /// use tidegate::embedded::{EmbeddedCluster, KafkaVersion};
    ///
    /// let old = KafkaVersion::V0_10_2;
    /// let cluster = EmbeddedCluster::builder().brokers(3).kafka_version(old).start()?;
    /// // A rolling upgrade, in the middle of which the cluster is a mixed one.
    /// for broker in cluster.broker_ids() {
    ///     cluster.set_kafka_version(broker, KafkaVersion::V2_7)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If its port, a thread or a file descriptor is not to be had: it is stopped then, and of the
    /// new version.
    pub fn set_kafka_version(&self, id: i32, version: KafkaVersion) -> io::Result<()> {
        let node = self.node(id);
        // Held throughout, so that nobody starts the broker in between.
        let mut life = self.life(id);
        let was_running = life.stop(node.address);
        node.set_version(version);
        if was_running {
            life.start(&self.shared, node)?;
        }
        Ok(())
    }

    /// Cuts a broker off from the others, not from its clients: from now on its metadata tells the
    /// leaders of this moment. What it is asked to append it judges as before.
    pub fn isolate_broker(&self, id: i32) {
        let picture = self.shared.picture();
        let mut known = self.node(id).picture.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(picture);
    }

    /// Lets a broker that was isolated hear of the others again.
    pub fn rejoin_broker(&self, id: i32) {
        *self.node(id).picture.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets a broker stand still, like a process under SIGSTOP: the system still accepts
    /// connections and bytes for it, it reads and answers nothing. (A read that is under way may
    /// still take what comes first.) Nothing happens if it is stopped.
    pub fn pause_broker(&self, id: i32) {
        if let Life::Running(running) = &*self.life(id) {
            running.gate.pause();
        }
    }

    /// Lets a paused broker go on where it stood.
    pub fn resume_broker(&self, id: i32) {
        if let Life::Running(running) = &*self.life(id) {
            running.gate.resume();
        }
    }

    /// A partition's records in order, decoded and decompressed: none if payloads are discarded, or
    /// there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Vec<EmbeddedRecord> {
        self.look(topic, partition, |p| p.records()).unwrap_or_default()
    }

    /// The offset that a partition's next record gets; 0 if there is no such partition.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> i64 {
        self.look(topic, partition, |p| p.high_watermark()).unwrap_or(0)
    }

    /// The offset of a partition that was committed for a group, if one was.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.shared.kept_offset(group, topic, partition).map(|kept| kept.offset)
    }

    /// What the brokers have seen so far.
    pub fn stats(&self) -> ClusterStats {
        let brokers = self.shared.nodes.iter();
        ClusterStats { brokers: brokers.map(|node| node.counters.snapshot(node.id)).collect() }
    }

    /// Waits until `holds` is true of the statistics, and says whether it came to that before the
    /// timeout. It is asked again whenever a request was received, handled or answered, and when a
    /// connection comes or goes. An append is counted before its response is written, the response
    /// after.
    pub fn wait_until(
        &self,
        timeout: Duration,
        mut holds: impl FnMut(&ClusterStats) -> bool,
    ) -> bool {
        self.shared.observers.wait_until(timeout, || holds(&self.stats()))
    }

    /// Adds faults to the script: one [`Fault`], or several in their order.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.add(faults);
    }

    /// How many times scripted faults have still to happen.
    pub fn faults_left(&self) -> usize {
        self.shared.faults.left()
    }

    /// Forgets the faults that have not happened.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Changes what ApiVersions advertises for an API key, for all brokers and from the next
    /// request on: any other version is answered by closing the connection. What is advertised
    /// beyond the implemented versions is closed on as well. An empty range (`min > max`) takes the
    /// API away. This holds over a change of a broker's version; brokers before Kafka 0.10, which
    /// advertise nothing, take no notice.
    pub fn limit_api(&self, api_key: i16, min: i16, max: i16) {
        let mut limits = self.shared.limits.write().unwrap_or_else(PoisonError::into_inner);
        limits.insert(api_key, (min, max));
    }

    fn node(&self, id: i32) -> &Node {
        self.shared.node(id).unwrap_or_else(|| panic!("the cluster has no broker {id}"))
    }

    fn life(&self, id: i32) -> MutexGuard<'_, Life> {
        let at = self.shared.nodes.iter().position(|node| node.id == id);
        let at = at.unwrap_or_else(|| panic!("the cluster has no broker {id}"));
        self.lives[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<R>(
        &self,
        topic: &str,
        partition: i32,
        look: impl FnOnce(&mut Partition) -> R,
    ) -> Option<R> {
        let topic: Arc<Topic> = self.shared.topics(|topics| topics.by_name(topic).cloned())?;
        let mut partition = topic.partition(partition)?;
        Some(look(&mut partition))
    }
}

/// The port of a broker, where the first one's is given; 0 for any.
fn port_of(first: u16, id: i32) -> io::Result<u16> {
    if first == 0 {
        return Ok(0);
    }
    let port = i64::from(first) + i64::from(id) - 1;
    let past = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("there is no port {port}"));
    u16::try_from(port).map_err(past)
}

fn at(address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        let mut running = Vec::new();
        for life in &mut self.lives {
            let life = life.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Life::Running(broker) = std::mem::replace(life, Life::Stopped(None)) {
                broker.stop();
                running.push(broker);
            }
        }
        running.into_iter().for_each(Running::join);
    }
}

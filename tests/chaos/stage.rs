//! The cluster that all scenarios share, those that hurt brokers one after the other, and how long
//! each may take.

use std::ops::Deref;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use tidegate::{Producer, ProducerBuilder};

use crate::kafka::{Cluster, ClusterConfig, Kafka, Session, unique_topic};
use crate::proxy::Proxy;
use crate::streams::{Pace, Streams, patient};

/// What waits have as a limit: far over what anything took, since brokers on a slow, shared disk
/// were seen to stand still for ten seconds at a time.
pub const LIMIT: Duration = Duration::from_secs(240);
/// Ten times and more what it may take until records flow again once the brokers can serve them.
pub const RECOVERY_MAX: Duration = Duration::from_secs(30);
pub const PARTITIONS: i32 = 6;
/// Over all partitions 24,000 records a second are offered.
pub const PACE: Pace = Pace { records: 40, every: Duration::from_millis(10) };

/// The cluster, if it runs and no scenario has failed on it.
static SHARED: Mutex<Option<Arc<Set>>> = Mutex::new(None);
/// Held by whoever uses the cluster: to write by those that stop or kill its brokers.
static USE: RwLock<()> = RwLock::new(());
/// Held by whoever tells the proxies what to do.
static PROXIES: Mutex<()> = Mutex::new(());
/// How long each scenario goes on, if not shortly.
static SHARE: OnceLock<Duration> = OnceLock::new();

/// Three brokers, and a proxy in front of each for clients that want one.
pub struct Set {
    pub cluster: Cluster,
    pub proxies: Vec<Proxy>,
}

/// The right to use the cluster, whole and with every broker up.
pub struct Stage {
    set: Option<Arc<Set>>,
    _use: Use,
}

/// How it is used; held, not looked at.
enum Use {
    Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
    Shared(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
}

/// Each scenario goes on for so long.
pub fn set_share(share: Duration) {
    SHARE.set(share).expect("it is set once");
}

/// Ends the cluster. For the end of the process.
pub fn clear() {
    *shared() = None;
}

fn shared() -> MutexGuard<'static, Option<Arc<Set>>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to tell the proxies what to do.
pub fn take_proxies() -> MutexGuard<'static, ()> {
    PROXIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers of a scenario's rounds: a few of them, or as many as its time allows.
pub fn rounds(few: usize) -> impl Iterator<Item = usize> {
    let end = SHARE.get().map(|share| Instant::now() + *share);
    (0..).take_while(move |&round| match end {
        None => round < few,
        Some(end) => round == 0 || Instant::now() < end,
    })
}

/// Whether rounds take their full time.
pub fn is_long() -> bool {
    SHARE.get().is_some()
}

impl Stage {
    /// Waits until nobody else uses the cluster; starts it if there is none.
    #[track_caller]
    pub fn alone(kafka: &Kafka) -> Stage {
        let alone = USE.write().unwrap_or_else(PoisonError::into_inner);
        let before = shared().clone();
        let set = before.unwrap_or_else(|| {
            let set = Arc::new(Set::start(kafka));
            *shared() = Some(set.clone());
            set
        });
        Stage { set: Some(set), _use: Use::Alone(alone) }
    }

    /// The same for a scenario that leaves the brokers alone, beside others that do.
    #[track_caller]
    pub fn beside_others(kafka: &Kafka) -> Stage {
        loop {
            let beside = USE.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(set) = shared().clone() {
                return Stage { set: Some(set), _use: Use::Shared(beside) };
            }
            drop(beside);
            drop(Stage::alone(kafka));
        }
    }
}

impl Deref for Stage {
    type Target = Set;

    fn deref(&self) -> &Set {
        self.set.as_ref().expect("it is taken only on drop")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a failure the next scenario starts a cluster of its own; the logs of this one are
        // shown by whoever drops it last.
        if std::thread::panicking() {
            *shared() = None;
        }
        self.set = None;
    }
}

impl Set {
    fn start(kafka: &Kafka) -> Set {
        let proxies: Vec<Proxy> = (0..3).map(|_| Proxy::start()).collect();
        let ports: Vec<u16> = proxies.iter().map(|proxy| proxy.address().port()).collect();
        let config = ClusterConfig::three().session(Session::Fast).behind(&ports);
        // A follower that asks a new leader a moment too early asks again this much later, and
        // until then nothing is acknowledged: by default it takes a second.
        let config = config.property("replica.fetch.backoff.ms", "50");
        let cluster = kafka.start(&config);
        for (id, proxy) in (1..).zip(&proxies) {
            proxy.forward_to(cluster.proxied_address(id));
        }
        Set { cluster, proxies }
    }

    /// A topic of the scenario's own.
    #[track_caller]
    pub fn topic(&self, prefix: &str, partitions: i32) -> String {
        let topic = unique_topic(prefix);
        self.cluster.create_topic(&topic, partitions, 3, &[]);
        topic
    }

    /// A producer that gives up nothing, with what else `change` says.
    pub fn producer(&self, change: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Producer {
        let builder = patient(Producer::builder(&self.cluster.bootstrap_servers()));
        change(builder).build().expect("the settings work")
    }

    /// The same for a producer that knows only the proxies.
    pub fn proxied_producer(
        &self,
        change: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> Producer {
        let addresses = self.proxies.iter().map(|proxy| proxy.address().to_string());
        let addresses: Vec<String> = addresses.collect();
        let builder = patient(Producer::builder(&addresses.join(",")));
        change(builder).build().expect("the settings work")
    }

    /// Streams to every partition of a new topic, which have sent some records already.
    #[track_caller]
    pub fn streams(&self, producer: &Producer, prefix: &str) -> (String, Streams) {
        let topic = self.topic(prefix, PARTITIONS);
        let streams = Streams::start(producer, &topic, PARTITIONS, PACE);
        streams.all_go_on(500, LIMIT, "at the start");
        (topic, streams)
    }
}

/// Ends a producer whose records are all resolved: nothing of its memory is left in use.
#[track_caller]
pub fn close(producer: &Producer) {
    producer.close(LIMIT).wait().expect("everything is resolved");
    let memory = producer.memory();
    assert_eq!(memory.free, memory.capacity, "every segment is back");
}

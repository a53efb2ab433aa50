//! Counters of the embedded brokers, and waiting until they show something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// API keys below this are counted by version.
const APIS: usize = 48;
const VERSIONS: usize = 20;

/// What one broker has seen since its cluster started; a restart of the broker does not reset it.
///
/// ```
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let stats = cluster.stats();
/// let broker = stats.broker(1);
/// assert_eq!((broker.records, broker.batches, broker.duplicates), (1, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// The broker's id.
    pub broker: i32,
    /// Requests received whole, of every API, those that were then swallowed or refused included.
    pub requests: u64,
    /// Responses written.
    pub responses: u64,
    /// Produce requests among the requests.
    pub produce_requests: u64,
    /// Batches appended; duplicates are not.
    pub batches: u64,
    /// Records in those batches.
    pub records: u64,
    /// Bytes of those batches, headers included, as they came.
    pub bytes: u64,
    /// Batches that were recognised as duplicates and answered as success.
    pub duplicates: u64,
    /// Partitions in produce requests that were answered with an error, scripted ones included.
    pub errors: u64,
    /// Connections accepted, those that a fault closed at once included.
    pub connections_accepted: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Requests by API key and version: the versions that clients chose.
    pub api_versions: BTreeMap<(i16, i16), u64>,
}

/// The counters of all brokers at one moment.
///
/// ```
/// # use std::time::Duration;
/// # use tidegate::{Acks, Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("load", 1).start()?;
/// # let producer =
/// #     Producer::builder(&cluster.bootstrap_servers()).acks(Acks::None).build()?;
/// # let load = producer.topic("load")?;
/// for value in ["0.97", "0.98", "0.99"] {
///     load.send("host-7", value)?.wait()?; // without acknowledgement
/// }
/// let came = cluster.wait_until(Duration::from_secs(10), |stats| stats.records() == 3);
/// assert!(came);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStats {
    /// One entry a broker, by ascending id.
    pub brokers: Vec<BrokerStats>,
}

impl ClusterStats {
    /// The counters of one broker.
    ///
    /// # Panics
    ///
    /// If the cluster has no such broker.
    pub fn broker(&self, id: i32) -> &BrokerStats {
        self.brokers.iter().find(|broker| broker.broker == id).expect("a broker of this cluster")
    }

    /// Requests of all brokers.
    pub fn requests(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.requests).sum()
    }

    /// Responses of all brokers.
    pub fn responses(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.responses).sum()
    }

    /// Requests of all brokers for one API key, in any version.
    pub fn requests_of(&self, api_key: i16) -> u64 {
        let of_key = |broker: &BrokerStats| -> u64 {
            let counts = broker.api_versions.iter();
            counts.filter(|((key, _), _)| *key == api_key).map(|(_, count)| count).sum()
        };
        self.brokers.iter().map(of_key).sum()
    }

    /// Batches appended by all brokers.
    pub fn batches(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.batches).sum()
    }

    /// Records appended by all brokers.
    pub fn records(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.records).sum()
    }

    /// Bytes appended by all brokers.
    pub fn bytes(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.bytes).sum()
    }

    /// Duplicates recognised by all brokers.
    pub fn duplicates(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.duplicates).sum()
    }

    /// Connections open to all brokers.
    pub fn connections_open(&self) -> u64 {
        self.brokers.iter().map(|broker| broker.connections_open).sum()
    }
}

/// The live counters of one broker.
#[derive(Debug)]
pub(super) struct Counters {
    pub responses: AtomicU64,
    pub batches: AtomicU64,
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub duplicates: AtomicU64,
    pub errors: AtomicU64,
    pub connections_accepted: AtomicU64,
    pub connections_open: AtomicU64,
    requests: AtomicU64,
    by_version: Box<[[AtomicU64; VERSIONS]; APIS]>,
}

impl Counters {
    pub(super) fn new() -> Counters {
        Counters {
            responses: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_open: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            by_version: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| 0.into()))),
        }
    }

    pub(super) fn request(&self, api_key: i16, version: i16) {
        add(&self.requests, 1);
        let (key, version) = (usize::try_from(api_key), usize::try_from(version));
        if let (Ok(key), Ok(version)) = (key, version)
            && key < APIS
            && version < VERSIONS
        {
            add(&self.by_version[key][version], 1);
        }
    }

    pub(super) fn snapshot(&self, broker: i32) -> BrokerStats {
        let mut api_versions = BTreeMap::new();
        for (key, versions) in (0i16..).zip(self.by_version.iter()) {
            for (version, count) in (0i16..).zip(versions) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    api_versions.insert((key, version), count);
                }
            }
        }
        BrokerStats {
            broker,
            requests: self.requests.load(Ordering::Relaxed),
            responses: self.responses.load(Ordering::Relaxed),
            produce_requests: (0..VERSIONS as i16).filter_map(|v| api_versions.get(&(0, v))).sum(),
            batches: self.batches.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            connections_accepted: self.connections_accepted.load(Ordering::Relaxed),
            connections_open: self.connections_open.load(Ordering::Relaxed),
            api_versions,
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Where threads wait for a change of counters, at the price of one load while none does.
#[derive(Debug, Default)]
pub(super) struct Observers {
    waiting: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Observers {
    /// Called after counters were changed.
    pub(super) fn notify(&self) {
        // Pairs with the fence of a waiter: either it sees the counters or it is seen here.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            // A waiter holds the lock from its look at the counters until it sleeps.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Waits until `holds` or the timeout, and says which.
    pub(super) fn wait_until(&self, timeout: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            fence(Ordering::SeqCst);
            if holds() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            guard = match self.changed.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Counts a waiter out again, also when its predicate panics.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

//! Real Apache Kafka for tests: brokers as child processes, from jars that Maven fetches.
//!
//! A test binary has `#[path = "support/kafka/mod.rs"] mod kafka;`, `harness = false`, and a main
//! function that gives its tests to [`run`]. Each gets a [`Kafka`], from which it takes a
//! [`Cluster`]: a shared one, where it uses topics of its own ([`unique_topic`]), or a private
//! one, whose brokers it may kill. What was produced is judged by Java's own consumer
//! ([`Cluster::read_back`]), that of the brokers' release.
//!
//! * `jars` fetches and compiles once and caches in the target folder; `workdir` holds the data
//!   of one run; `ports` and `pool` keep test processes on one machine out of each other's way;
//! * `release` is the versions of Kafka there are, old ones among them; `layout` what processes a
//!   cluster of them has, with which settings;
//! * `process` runs children that die with the test process; `node` is one process of a cluster,
//!   `cluster` a set of them;
//! * `wire`, `admin` and `settings` administer over the wire; `reader` runs Java's clients;
//!   `runner` is the main function.

// A module of the test binary, whose items are public within it; no binary uses every one.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod admin;
mod cluster;
mod jars;
mod layout;
mod node;
mod offsets;
mod pool;
mod ports;
mod process;
mod reader;
mod release;
mod runner;
mod settings;
mod wire;
mod workdir;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use admin::PartitionView;
pub use cluster::{Cluster, ClusterConfig, Session};
pub use pool::SLOT_HELD;
pub use process::{state_of, wait_until};
pub use reader::{ReadRecord, RecordView, TimestampType};
pub use release::{
    Release, V0_8, V0_9, V0_10, V0_10_0, V0_11, V1_1, V2_0, V2_3, V2_7, V2_8, V3_9, V4_3,
};
pub use runner::{Test, run, run_selected};
pub use settings::AccessRule;
pub use wire::Wire;

use jars::Install;
use pool::Permits;
use ports::PortLock;
use workdir::WorkDir;

/// Kafka on this machine. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Kafka {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    install: Arc<Install>,
    /// Releases that a test asked for, or why they are not there, by version.
    others: Mutex<BTreeMap<&'static str, Result<Arc<Install>, String>>>,
    permits: Arc<Permits>,
    single: Mutex<Shared>,
    three: Mutex<Shared>,
    /// Dropped last, after the clusters that live in it.
    run: Mutex<Option<Run>>,
}

/// What a process holds from its first cluster to its end.
#[derive(Debug)]
struct Run {
    work: WorkDir,
    _slot: Option<PortLock>,
}

/// A shared cluster, started by the first test that asks. A start that failed fails every test
/// that asks, without another try.
#[derive(Debug, Default)]
enum Shared {
    #[default]
    NotStarted,
    Started(Arc<Cluster>),
    Failed(String),
}

/// Kafka, if this machine has what it takes; else what is missing. The first call on a machine
/// downloads 45 MB.
pub fn availability() -> Result<Kafka, String> {
    let inner = Inner {
        install: Arc::new(Install::prepare(&V4_3)?),
        others: Mutex::default(),
        permits: Arc::default(),
        single: Mutex::default(),
        three: Mutex::default(),
        run: Mutex::default(),
    };
    Ok(Kafka { inner: Arc::new(inner) })
}

/// A topic name that no other test of this process uses.
pub fn unique_topic(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Kafka {
    /// The single node that all tests of the process share. They do not kill or stop it.
    #[track_caller]
    pub fn shared_single(&self) -> Arc<Cluster> {
        self.shared(&self.inner.single, &ClusterConfig::single())
    }

    /// The three brokers that all tests of the process share. They do not kill or stop them.
    #[track_caller]
    pub fn shared_three(&self) -> Arc<Cluster> {
        self.shared(&self.inner.three, &ClusterConfig::three())
    }

    /// A single node of the caller's own; see [`Kafka::start`].
    #[track_caller]
    pub fn private_single(&self) -> Cluster {
        self.start(&ClusterConfig::single())
    }

    /// Three brokers of the caller's own; see [`Kafka::start`].
    #[track_caller]
    pub fn private_three(&self) -> Cluster {
        self.start(&ClusterConfig::three())
    }

    /// Starts a cluster of the caller's own, which ends when it is dropped. Waits until the
    /// private cluster of another test is gone: a test that holds one must not ask for a second.
    #[track_caller]
    pub fn start(&self, config: &ClusterConfig) -> Cluster {
        let permit = self.inner.permits.take();
        self.try_start(config, Some(permit)).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Stops the shared clusters and removes the process's data. For the end of the process.
    pub fn stop_shared(&self) {
        *lock(&self.inner.single) = Shared::NotStarted;
        *lock(&self.inner.three) = Shared::NotStarted;
        *lock(&self.inner.run) = None;
    }

    /// The ends of the logs of the shared clusters that run.
    pub fn shared_report(&self) -> String {
        let mut text = String::new();
        for shared in [&self.inner.single, &self.inner.three] {
            // A test that is starting the cluster holds the lock: no need to wait for it.
            if let Ok(shared) = shared.try_lock()
                && let Shared::Started(cluster) = &*shared
            {
                text.push_str(&cluster.report());
            }
        }
        text
    }

    #[track_caller]
    fn shared(&self, place: &Mutex<Shared>, config: &ClusterConfig) -> Arc<Cluster> {
        let mut shared = lock(place);
        if let Shared::NotStarted = &*shared {
            *shared = match self.try_start(config, None) {
                Ok(cluster) => Shared::Started(Arc::new(cluster)),
                Err(reason) => Shared::Failed(reason),
            };
        }
        match &*shared {
            Shared::Started(cluster) => Arc::clone(cluster),
            Shared::Failed(reason) => panic!("{reason}"),
            Shared::NotStarted => unreachable!("it was set just above"),
        }
    }

    fn try_start(
        &self,
        config: &ClusterConfig,
        permit: Option<pool::Permit>,
    ) -> Result<Cluster, String> {
        let folder = self.work_folder()?;
        let current = &self.inner.install;
        current.use_archive(|file| {
            let option = format!("-XX:ArchiveClassesAtExit={}", file.display());
            let config = ClusterConfig::single().java_option(option);
            let cluster = Cluster::start(current, &folder, &config, None)?;
            // The archive is written at an orderly end.
            cluster.terminate(1);
            Ok(())
        });
        Cluster::start(&self.install(config.release), &folder, config, permit)
    }

    /// A release, fetched if it is not there. Where that cannot be done the test ends as ignored.
    fn install(&self, release: &'static Release) -> Arc<Install> {
        if release.version == V4_3.version {
            return Arc::clone(&self.inner.install);
        }
        let installed = lock(&self.inner.others)
            .entry(release.version)
            .or_insert_with(|| Install::prepare(release).map(Arc::new))
            .clone();
        installed
            .unwrap_or_else(|reason| std::panic::resume_unwind(Box::new(runner::Missing(reason))))
    }

    fn work_folder(&self) -> Result<PathBuf, String> {
        let mut run = lock(&self.inner.run);
        if run.is_none() {
            let slot = pool::take_slot()?;
            let work = WorkDir::create().map_err(|error| format!("no folder for data: {error}"))?;
            *run = Some(Run { work, _slot: slot });
        }
        let run = run.as_ref().expect("it was set just above");
        Ok(run.work.path().to_owned())
    }
}

/// A test that failed while it held the lock left a value that is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

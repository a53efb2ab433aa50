//! Layer 5: the thin drivers. The only place that opens sockets, reads clocks and spawns threads.
//!
//! The manual's page `architecture` shows the threads and the queues between them.
//!
//! * `event_loop`: the thread that drives one shard per producer: poll, read, write.
//! * `seat`, `loop_mailbox`: a shard on a loop; how other threads reach a loop.
//! * [`EventLoops`], `pinning`: which of these threads there are, and which cores they run on.
//! * `metadata_loop`, `metadata_link`: the metadata machine's thread and its connections, two at
//!   most; `metadata_parts`: what it is made of; `metadata_mailbox`: how other threads reach it;
//!   `warnings`: which of its warnings are news.
//! * `fetch_loop`: a consumer's thread; `fetch_mailbox`: how others reach it; `fetch_calls`: what
//!   the application has it ask; `fetch_question`, `fetch_group`: how leaders and a group's
//!   coordinator are asked; `links`: its connections.
//! * `shard_host`: starts shards on event loops, for the metadata loop.
//! * `stash_thread`: the thread that empties stashes once their topic is known.
//! * `spill`: records on disk, for which there was no room in memory.
//! * `partition_workers`: threads that empty those whose partitioner is the application's own.
//! * `resolver`, `names`: the threads that look names up, and who waits for which name.
//! * `dial`: one attempt to connect; `dialer`, `address_book`: what all attempts share, and what is
//!   known of addresses; `socket`, `socket_options`: an attempt's sockets, and what is set on them.
//! * `transport`, `encrypted`, `tls`: what carries a connection's bytes: TCP as it is, or TLS; its
//!   settings, key material, and what its errors mean. `tunnel`: the way through a SOCKS5 proxy.
//! * `security`, `logins`, `helper_threads`: how a producer encrypts and logs in, and the threads
//!   for those steps of it that may take long.
//! * `login`: what a login presents that has to be fetched first.
//! * `client_parts`: what connections are made of, from the settings.
//! * `probe`, `probe_link`, `probe_types`: looks at a cluster step by step, for people.
//! * `topic_creator`: has topics created, on threads of its own; `metadata_topics`: those that the
//!   metadata loop wants.
//! * `threads`: starting the producer's threads, and waiting for their end.
//! * `clock`, `sys`: time, and the few system calls that no crate wraps.
//! * `sys_fork`: what a fork's child needs; `sys_exit`: what the end of the process loses.

mod address_book;
mod client_parts;
mod clock;
mod dial;
mod dialer;
#[cfg(feature = "tls")]
mod encrypted;
mod event_loop;
mod event_thread;
mod fetch_calls;
mod fetch_group;
mod fetch_loop;
mod fetch_mailbox;
mod fetch_question;
mod helper_threads;
mod job_thread;
mod links;
mod login;
mod logins;
mod loop_mailbox;
mod loops;
mod metadata_link;
mod metadata_loop;
mod metadata_mailbox;
mod metadata_parts;
mod metadata_topics;
mod names;
mod notices;
mod partition_workers;
mod pinning;
mod probe;
mod probe_link;
mod probe_types;
mod resolver;
mod seat;
mod security;
mod shard_host;
mod socket;
mod socket_options;
mod spill;
mod stash_thread;
mod sys;
mod sys_exit;
mod sys_fork;
mod threads;
#[cfg(feature = "tls")]
mod tls;
mod topic_creator;
mod transport;
mod tunnel;
mod warnings;

pub use client_parts::{ClientParts, metadata_config, nanos, reconnect_backoff};
pub use clock::{Clock, ThreadDeadline};
pub use event_thread::EventThread;
pub use fetch_calls::{FetchCall, Tell};
pub use fetch_loop::FetchParts;
pub use fetch_mailbox::FetchHandle;
pub use job_thread::{Job, JobThread};
pub use login::mechanism;
pub use loops::EventLoops;
pub use metadata_loop::MetadataHandle;
pub use metadata_mailbox::MetadataMailbox;
pub use metadata_parts::MetadataParts;
pub use probe::Probe;
pub use probe_types::{
    BrokerDescription, ClusterDescription, PartitionDescription, ProbeError, ProbeFailure,
    ProbeFinding, ProbeStage, ProbeStep, SpokenVersions, TlsDescription, TopicDescription,
};
#[cfg(feature = "internals")]
pub use resolver::{NameAnswer, answer_name};
pub use spill::{RecoveredTopic, Spill, SpillStatus, Spilled};
pub use stash_thread::{StashMailbox, StashThread, StashThreadParts};
pub use sys_exit::InBackground;
pub use sys_fork::watch_forks;
pub use threads::{Watch, run_watched};
#[cfg(feature = "tls")]
pub use tls::TlsClient;

use std::cell::Cell;

thread_local! {
    static OWN_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as one of tidegate's own: waiting for records here would deadlock.
fn mark_own_thread() {
    OWN_THREAD.set(true);
}

/// Whether the calling thread must not wait for records: it is one of tidegate's own, or it is
/// inside a partitioner that places stashed records, which would wait for itself.
pub fn is_own_thread() -> bool {
    OWN_THREAD.try_with(Cell::get).unwrap_or(false) || crate::engine::batch::is_placing()
}

/// Runs `act` while the calling thread counts as one of tidegate's own: code of the application's
/// must not wait in it for what this thread is to do.
pub fn as_own_thread<T>(act: impl FnOnce() -> T) -> T {
    let set = |own| OWN_THREAD.try_with(|flag| flag.replace(own)).unwrap_or(false);
    let before = set(true);
    let result = act();
    set(before);
    result
}

/// Runs `job` on a thread of its own, which ends with it.
pub fn spawn(name: &str, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(job).map(drop)
}

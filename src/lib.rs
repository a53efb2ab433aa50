//! An Apache Kafka producer for processes that must send a lot of records without giving up their
//! latency, their memory budget or their cores: pinned event loops, pooled off-heap buffers, and a
//! completion future for every record.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use tidegate::{Producer, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder("host1:9092,host2:9092")
//!     .client_id("shop")
//!     .linger(Duration::from_millis(2))
//!     .build()?;
//! let orders = producer.topic("orders")?;
//!
//! // A key and a value. The delivery is a future for any runtime; threads call `wait`.
//! let delivery = orders.send("customer-42", "2 pairs of shoes")?;
//! println!("{}", delivery.wait()?); // orders-3@1742: topic, partition, offset
//!
//! // Headers, a timestamp, a partition; no key.
//! let record = Record::new().value("restock").header("source", "shelf 7").partition(0);
//! match orders.send_record(record)?.wait() {
//!     Ok(at) => println!("{at}"),
//!     Err(error) => eprintln!("{error} (may it be in the log: {:?})", error.certainty()),
//! }
//!
//! producer.flush().wait()?; // everything sent so far has resolved
//! producer.close(Duration::from_secs(10)).wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `embedded`, brokers run in the same process. This example runs as a test:
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use tidegate::Producer;
//! use tidegate::embedded::EmbeddedCluster;
//!
//! let cluster = EmbeddedCluster::builder().brokers(2).topic("orders", 1).start()?;
//! let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
//! let orders = producer.topic("orders")?;
//!
//! let deliveries = (0..100)
//!     .map(|n| orders.send("customer-42", &format!("order {n}")))
//!     .collect::<Result<Vec<_>, _>>()?;
//! for (n, delivery) in deliveries.into_iter().enumerate() {
//!     assert_eq!(delivery.wait()?.offset(), Some(n as i64));
//! }
//! producer.close(Duration::from_secs(10)).wait()?;
//!
//! let records = cluster.records("orders", 0);
//! assert_eq!(records[99].value.as_deref(), Some(&b"order 99"[..]));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! # Five things to know
//!
//! * **Producer.** A [`Producer`] has the threads, the connections and the memory. It is cheap to
//!   clone, and one is enough for a process; [`ProducerBuilder`] and [`ProducerConfig`] say how it
//!   is set up. Building one waits for no broker: it connects in the background, at once, and what
//!   is sent meanwhile is kept.
//! * **Topic.** A [`Topic`] is where records are sent from, by any number of threads. It need not
//!   exist yet: [`Topic::send`] never waits for the network. What is wrong with a record at once
//!   (too large, no such partition, producer closed) is a [`SendError`]; everything later is the
//!   delivery's.
//! * **Delivery.** A [`Delivery`] resolves exactly once, within `delivery_timeout` of `send`'s
//!   return: to [`RecordMetadata`] or to a [`DeliveryError`], which names topic, partition, broker
//!   and cause and says whether the record may have been written ([`Certainty`]). Dropping it
//!   cancels nothing. Keeping it holds no buffer memory.
//! * **Watermarks and strategy.** Everything that waits is in one pool of `buffer_memory` bytes,
//!   and every broker has a level in it. A broker whose level goes over its high watermark takes
//!   no records until it is below the low one. What then happens to a record is what the
//!   [`BackoffStrategy`] decides: [`ParkSender`] holds the thread, up to a limit (the default),
//!   [`DropRecords`] drops and counts, [`RejectRecords`] gives an error that hands shared payloads
//!   back. [`Producer::memory`] and [`Producer::broker_levels`] show the state.
//! * **Event loops.** Threads that talk to brokers, pinned to cores where one stays free.
//!   [`EventLoops`] is a value: one thread for each broker, or a number of them, for one producer
//!   or shared by several.
//!
//! # From `send` to the acknowledgement
//!
//! The way of a record through the source, in the order of reading. Some words first. A *lane* is
//! one partition as a producer sees it: its half for senders is called `Lane`, its half for the
//! event loop `LaneHalf`. A *shard* is one producer's state on one event loop; the loop itself is a
//! thread that may drive shards of several producers. A *segment* is a piece of the pool: 4, 16 or
//! 64 KiB that records are encoded into and sockets are written from. An *account* is what a
//! segment is charged to: one for each broker, whose sum is its level. A *view* is what the shards
//! are shown of the cluster: who leads which partition, and where that broker is.
//!
//! 1. `src/producer/topic.rs`: [`Topic::send`] calls `send_parts`, which asks the [`Partitioner`]
//!    for a partition and finds its lane. If its broker is over its watermark (the account is not
//!    writable), `src/producer/admission.rs` asks the strategy.
//! 2. `src/engine/batch/stash.rs`: while the topic's partitions are not known, the record waits in
//!    the topic's stash instead. Once they are, `drain_stash` (`src/engine/batch/drain.rs`) asks
//!    the partitioner and does step 3, on the service thread (`src/io/service.rs`) or on that of
//!    the next sender.
//! 3. `src/engine/batch/lane.rs`, `src/engine/batch/open.rs`: `Lane::append` encodes the record,
//!    once and under the lane's lock, into the lane's open batch, which lies in segments
//!    (`src/engine/buffer/`). The first record of a batch is refused at first, with `NeedRoom`, as
//!    is each for which the batch's segments are too short: `send_with_room` then gets segments
//!    from the pool with `take_room`, and appends again. The sender gets a handle of the batch's
//!    completion cell (`src/engine/sync/cell.rs`); that is the [`Delivery`].
//! 4. `src/engine/shard/port.rs`: `append` says whether the loop must hear of it, which is so for
//!    the first record of a batch and for a full batch. Then `topic.rs` calls `PortTable::post`,
//!    which puts the lane's id into the queue of the shard that owns it and wakes the loop if it
//!    sleeps. No record ever crosses a queue.
//! 5. `src/io/event_loop.rs`: the loop's turn. `EventLoop::drive` takes posted ids and hands them
//!    to the shard; the doc of `Shard` (`src/engine/shard/shard.rs`) lists the calls that follow.
//! 6. `src/engine/shard/ready.rs`: `examine` puts the lane into a queue of its leader's connection,
//!    or sets a timer for its linger. At the turn's end `pump` (`src/engine/shard/pack.rs`) calls
//!    `send_request` for as long as there is something to send: `take_full` and `take_part_filled`
//!    take a batch of each queued lane, which `LaneHalf::drain` (`src/engine/batch/half.rs`)
//!    numbers, into a Produce request, and `EventLoop::write` writes that to the socket straight
//!    from the segments.
//! 7. `src/engine/connection/connection.rs`: `poll_response` matches a response to its request, and
//!    `handle_produce` (`src/engine/shard/settle.rs`) says what it means for each batch: written,
//!    to be sent again, or failed.
//! 8. `LaneHalf::settle_acked` (`src/engine/batch/half.rs`) resolves the batch's cell, once for all
//!    its records; its segments return to the pool. At the end of its turn the loop calls the
//!    wakers of whoever awaits a delivery.
//!
//! Meanwhile `src/io/metadata_loop.rs`, on a thread and a connection of its own, follows the
//! leaders of partitions and publishes them to the shards. Each folder's `mod.rs` opens with what
//! it is for, what feeds it and what it feeds. [`manual`] has the rest: architecture, invariants,
//! memory.
//!
//! # Extending
//!
//! [`Partitioner`] (through a [`PartitionerFactory`], one for each topic), [`BackoffStrategy`] and
//! [`RetryPolicy`] are traits; closures are accepted too. They return decisions and are told all
//! that they need.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `gzip`, `snappy`, `lz4` | yes | compression, without a C compiler |
//! | `zstd` | no | compression; needs a C compiler |
//! | `embedded` | no | brokers in the process, for tests and examples |
//! | `internals` | no | opens the inner layers to this crate's own tests; no promise of stability |
//!
//! The target must be 64-bit. Messages go to the `log` crate.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("tidegate needs a 64-bit target: its arena is addressed with 64-bit pointers");

mod config;
mod engine;
mod error;
mod io;
mod logging;
mod producer;
mod user_code;

pub mod manual;

#[cfg(feature = "embedded")]
pub mod embedded;

/// The pure half of the client, for this crate's own tests, fuzz targets and benches. It is no
/// interface: it changes with any version.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::engine::*;
    pub use crate::io::{NameAnswer, answer_name};
}

pub use config::{Acks, ClusterChange, HostPort, ProducerConfig};
pub use engine::batch::FailedRecords;
pub use engine::policy::{
    Backoff, BackoffStrategy, DefaultPartitioner, DefaultPartitioners, DropRecords, EveryTopic,
    ExponentialBackoff, ParkSender, PartitionRequest, PartitionView, Partitioner,
    PartitionerFactory, Partitions, Pressure, RejectRecords, RetryPolicy, murmur2,
};
pub use engine::protocol::ErrorCode;
pub use engine::protocol::compression::{Codec, Compression, LevelOutOfRange};
pub use engine::protocol::records::Header;
pub use error::{
    BuildError, Certainty, CloseError, DeliveryError, DeliveryErrorCause, FlushError,
    PressureScope, ReturnedRecord, SendError, SendErrorKind,
};
pub use io::EventLoops;
pub use producer::{
    BrokerLevels, Close, Delivery, Flush, IntoHeaderValue, Memory, Payload, Producer,
    ProducerBuilder, Record, RecordMetadata, Topic,
};

// The code in the README must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

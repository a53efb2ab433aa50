//! tidegate: an Apache Kafka producer with pinned event loops and pooled off-heap buffers.

// The codec is whole: what only tests, fuzzers and other roles (a consumer) call is not reached
// from the public interface, and looks dead to a build in which the layers are private.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("tidegate needs a 64-bit target: its arena is addressed with 64-bit pointers");

#[cfg(not(feature = "internals"))]
mod protocol;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod protocol;

#[cfg(not(feature = "internals"))]
mod buffer;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod buffer;

#[cfg(not(feature = "internals"))]
mod sync;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod sync;

#[cfg(not(feature = "internals"))]
mod cluster;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod cluster;

#[cfg(not(feature = "internals"))]
mod batch;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod batch;

#[cfg(not(feature = "internals"))]
mod connection;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod connection;

#[cfg(not(feature = "internals"))]
mod shard;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod shard;

mod config;
mod error;
mod io;
mod policy;
mod producer;

#[cfg(feature = "embedded")]
pub mod embedded;

pub use config::{Acks, ProducerConfig};
pub use error::{
    BuildError, Certainty, CloseError, DeliveryError, DeliveryErrorCause, FlushError,
    ReturnedRecord, SendError, SendErrorKind,
};
pub use io::EventLoops;
pub use policy::{
    Backoff, BackoffStrategy, DefaultPartitioner, DefaultPartitioners, DropRecords, EveryTopic,
    ExponentialBackoff, ParkSender, PartitionRequest, PartitionView, Partitioner,
    PartitionerFactory, Partitions, Pressure, PressureScope, RejectRecords, RetryPolicy, murmur2,
};
pub use producer::{
    BrokerLevels, Close, Delivery, Flush, IntoHeaderValue, Memory, Payload, Producer,
    ProducerBuilder, Record, RecordMetadata, Topic,
};
pub use protocol::ErrorCode;
pub use protocol::compression::Compression;
pub use protocol::records::Header;

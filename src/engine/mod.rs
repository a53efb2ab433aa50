//! The pure half of the client: what it knows and decides, without a socket, a clock or a thread.
//!
//! Time, random numbers and received bytes come in as arguments; what is to be sent, connected or
//! closed comes out as values. So the simulation, the models of the tests and the fuzzer run this
//! code as it ships. `io/` drives it; `producer/` is what an application holds of it.
//!
//! The layers, each of which uses only those above it in this list:
//!
//! * `protocol`, `buffer`, `sync`, `random`: Kafka's bytes; memory in segments; queues and
//!   completion cells; random numbers.
//! * `policy`, `cluster`: what users plug in; what is known of brokers, topics and leaders.
//! * `batch`: lanes, from the append of a record to the settling of its batch.
//! * `connection`: one connection's requests and responses.
//! * `shard`: one producer's lanes and brokers on one event loop.
//! * `fetch`: one consumer's partitions and brokers.
//!
//! Tests, fuzz targets and benches reach it through one door, `tidegate::internals`.

/// Whether a bug is planted: never, without the feature `internals`.
#[cfg(feature = "internals")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::engine::planted::is_on($crate::engine::planted::Bug::$bug)
    };
}
#[cfg(not(feature = "internals"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// The sequence that a producer id begins with: 0, but in simulations.
#[cfg(feature = "internals")]
macro_rules! first_sequence {
    () => {
        $crate::engine::planted::first_sequence()
    };
}
#[cfg(not(feature = "internals"))]
macro_rules! first_sequence {
    () => {
        0
    };
}

pub mod batch;
pub mod buffer;
pub mod cluster;
pub mod connection;
pub mod event;
pub mod fetch;
pub mod meter;
#[cfg(feature = "internals")]
pub mod planted;
pub mod policy;
pub mod protocol;
pub mod random;
pub mod shard;
pub mod sync;

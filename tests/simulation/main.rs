//! A deterministic simulation of the client. The real batch, cluster, connection and shard code
//! runs against a model of a cluster and of a network, on a virtual clock; configuration, load and
//! faults follow from a seed. An oracle that knows nothing of the client's insides compares what
//! deliveries said with what is in the logs.
//!
//! `cargo test --test simulation -- --seeds N` runs N seeds instead of the usual number, and
//! `-- --seed S --trace` runs one and tells what happens.

#[path = "../support/answers.rs"]
mod answers;
mod client;
mod cluster;
mod drive;
mod events;
mod faults;
mod network;
mod oracle;
mod partition;
mod plan;
mod produce;
mod rng;
mod runner;
#[path = "../support/virtual_clock.rs"]
mod virtual_clock;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::main()
}

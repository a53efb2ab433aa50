//! How tidegate is connected to clusters, how it works inside, and why.
//!
//! Text only. It describes the code as it is. Names of types that are not linked are of private
//! modules, and stand in the file that is named beside them.
//!
//! * [`architecture`]: layers, threads and queues, the way of a record, the life of a batch, locks.
//! * [`async_code`]: what holds a thread and what does not; shutting down.
//! * [`configuration`]: every property, of this client and of others, and the environment.
//! * [`connecting`]: TLS and logins, for the clusters that people have.
//! * [`errors`]: every error, whether the record may be in the log, and what to do.
//! * [`guarantees`]: what a delivery promises, and what is lost when.
//! * [`memory`]: what is bounded by `buffer_memory`, and what stands beside it.
//! * [`migrating`]: from rdkafka, librdkafka, Java and rskafka.
//! * [`observing`]: health, why a record waits, metrics, the log.
//! * [`reading`]: the consumer: from where, what can be relied on, what it costs.
//! * [`spill`]: records on disk while brokers take none: what is kept, when, what a crash costs.
//! * [`tuning`]: by symptom: what to look at, what to change, what it costs.
//!
//! More pages are for those who change the code, and are private modules beside these:
//! `cargo doc --no-deps --document-private-items` shows them too.
//!
//! * `invariants`: what is always true, and what makes it so.
//! * `non_obvious`: what surprised those who wrote it, and where the plan was left.
//! * `unsafe_code`: the files that contain `unsafe`, and why each has to.
//! * `simulation`: how the client is tried against everything that can go wrong.
//! * `rules`: which test holds which rule, and which fault.
//! * `features`: which test shows which feature.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("async_code.md")]
pub mod async_code {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("connecting.md")]
pub mod connecting {}

#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("memory.md")]
pub mod memory {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}

#[doc = include_str!("observing.md")]
pub mod observing {}

#[doc = include_str!("reading.md")]
pub mod reading {}

#[doc = include_str!("spill.md")]
pub mod spill {}

#[doc = include_str!("tuning.md")]
pub mod tuning {}

#[doc = include_str!("invariants.md")]
mod invariants {}

#[doc = include_str!("non_obvious.md")]
mod non_obvious {}

#[doc = include_str!("unsafe_code.md")]
mod unsafe_code {}

#[doc = include_str!("simulation.md")]
mod simulation {}

#[doc = include_str!("rules.md")]
mod rules {}

#[doc = include_str!("features.md")]
mod features {}

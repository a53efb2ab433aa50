//! How tidegate works inside, and why: for whoever reads or changes its code.
//!
//! Text only. It describes the code as it is; where that differs from the plan it was built by, the
//! page says so. Names of types that are not linked are of private modules, and stand in the file
//! that is named beside them.
//!
//! * [`architecture`]: layers, threads, locks, and the way of a record.
//! * [`invariants`]: what is always true, and what makes it so.
//! * [`memory`]: what is bounded by `buffer_memory`, and what stands beside it.
//! * [`unsafe_code`]: the files that contain `unsafe`, and why each has to.
//! * [`simulation`]: how the client is tried against everything that can go wrong.
//! * [`rules`]: which test holds which rule, and which fault.
//! * [`non_obvious`]: what surprised those who wrote it, and where the plan was left.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("invariants.md")]
pub mod invariants {}

#[doc = include_str!("memory.md")]
pub mod memory {}

#[doc = include_str!("unsafe_code.md")]
pub mod unsafe_code {}

#[doc = include_str!("simulation.md")]
pub mod simulation {}

#[doc = include_str!("rules.md")]
pub mod rules {}

#[doc = include_str!("non_obvious.md")]
pub mod non_obvious {}

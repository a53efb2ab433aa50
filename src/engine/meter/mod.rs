//! Layer 0: what is counted while a producer works, and what is said of its brokers' connections.
//!
//! Written by the layers above, mostly once for each batch or request, by the one thread that has
//! the lane or the broker at the time. Read by any thread at any time, without asking the writer:
//! a reader sees each number as it was a moment ago, and numbers that were written together may be
//! seen apart.

mod broker;
mod counter;
mod histogram;
mod lane;
mod meters;
mod status;

pub use broker::{BrokerMeter, BrokerStanding, ConnectionState};
pub use counter::Counter;
pub use histogram::{Histogram, HistogramRecorder};
pub use lane::LaneMeter;
pub use meters::{MetadataStanding, Meters, RecordCounts};
pub(crate) use status::counted;
pub use status::{Short, WaitsFor};

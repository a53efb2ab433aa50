//! tidegate: an Apache Kafka producer with pinned event loops and pooled off-heap buffers.

mod config;
mod error;

pub use error::*;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("tidegate needs a 64-bit target: its arena is addressed with 64-bit pointers");


#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod protocol;
#[cfg(not(feature = "internals"))]
mod protocol;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod buffer;
#[cfg(not(feature = "internals"))]
mod buffer;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod sync;
#[cfg(not(feature = "internals"))]
mod sync;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod cluster;
#[cfg(not(feature = "internals"))]
mod cluster;

mod policy;

#[cfg(feature = "embedded")]
pub mod embedded;

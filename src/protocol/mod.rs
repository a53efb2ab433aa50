//! Layer 0: bytes ⇄ Kafka.
//!
//! Fed by `connection/` (bytes received, requests to write) and `batch/` (records to encode); feeds
//! them typed messages and finished bytes. Knows no socket, no clock and no buffer pool.

pub mod compression;
mod error_code;
mod ids;
pub mod records;

pub use error_code::ErrorCode;
pub use ids::{BrokerId, PartitionId, ProducerIdentity, TopicId};

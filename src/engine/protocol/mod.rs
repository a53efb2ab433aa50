//! Layer 0: bytes ⇄ Kafka.
//!
//! Fed by `connection/` (bytes received, requests to write) and `batch/` (records to encode); feeds
//! them typed messages and finished bytes. Knows no socket, no clock and no buffer pool.
//!
//! `frame` cuts what a connection receives into responses, `header` splits those and starts
//! requests, `api` says which versions there are, and there is one file per API. All of them read
//! and write through `primitives`. Requests borrow what they are made of; responses own what they
//! hold. A [`ProduceResponse`], which comes once per round trip, is used again and again.

mod api;
mod api_versions;
pub mod compression;
mod error_code;
mod frame;
mod header;
mod ids;
mod init_producer_id;
mod metadata;
mod primitives;
mod produce;
pub mod records;

pub use api::{ApiKey, VersionRange, negotiate};
pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub use error_code::ErrorCode;
pub use frame::{FRAME_SIZE_MAX_DEFAULT, FrameDecoder, FrameError, PeerHint};
pub use header::{encode_request, encode_request_header, split_response};
pub use ids::{BrokerId, PartitionId, ProducerIdentity, TopicId};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use metadata::{
    BrokerMetadata, MetadataRequest, MetadataResponse, MetadataTopics, PartitionMetadata,
    TopicMetadata,
};
pub use primitives::{DecodeError, DecodeProblem, Reader, STRING_BYTES_MAX, Writer};
pub use produce::{
    NodeEndpoint, PRODUCE_AROUND_BATCH_MAX, PRODUCE_HEAD_MAX, PartitionResponse, ProduceEncoder,
    ProduceResponse, TopicRef, VERSION_FIVE_REMEMBERED_MIN, VERSION_TOPIC_IDS_MIN,
};

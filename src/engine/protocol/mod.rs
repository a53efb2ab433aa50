//! Layer 0: bytes ⇄ Kafka.
//!
//! Fed by `connection/` (bytes received, requests to write) and `batch/` (records to encode); feeds
//! them typed messages and finished bytes. Knows no socket, no clock and no buffer pool.
//!
//! `frame` cuts what a connection receives into responses, `header` splits those and starts
//! requests, `api` says which versions there are, and there is one file per API; `by_topic` reads
//! what several answers have in common. All of them read
//! and write through `primitives`. Requests borrow what they are made of; responses own what they
//! hold. A [`ProduceResponse`], which comes once per round trip, is used again and again.

mod api;
mod api_versions;
mod by_topic;
pub mod compression;
mod create_topics;
mod error_code;
mod fetch;
mod find_coordinator;
mod frame;
mod header;
mod ids;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod primitives;
mod produce;
pub mod records;
mod sasl;

pub use api::ApiKey;
#[cfg(feature = "internals")]
pub use api::{VersionRange, negotiate};
pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
#[cfg(feature = "internals")]
pub use create_topics::CreatedTopic;
pub use create_topics::{
    CreateTopicsRequest, CreateTopicsResponse, TopicToCreate, VERSION_TOPIC_DEFAULTS_MIN,
};
pub use error_code::ErrorCode;
#[cfg(any(test, feature = "internals"))]
pub use fetch::AbortedTransaction;
pub use fetch::FETCH_VERSION_BOUNDED_MIN;
pub use fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition};
pub use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub use frame::{FRAME_SIZE_MAX_DEFAULT, FrameDecoder};
#[cfg(feature = "internals")]
pub use frame::{FrameError, PeerHint};
#[cfg(feature = "internals")]
pub use header::encode_request_header;
pub use header::{encode_request, split_response};
pub use ids::{BrokerId, PartitionId, ProducerIdentity, TopicId};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use list_offsets::{
    FoundOffset, LIST_OFFSETS_VERSION_TIMES_MIN, ListOffsetsRequest, ListOffsetsResponse,
    OffsetQuestion, TIME_EARLIEST, TIME_LATEST,
};
#[cfg(feature = "internals")]
pub use metadata::{BrokerMetadata, PartitionMetadata};
pub use metadata::{MetadataRequest, MetadataResponse, MetadataTopics, TopicMetadata};
pub use offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
#[cfg(any(test, feature = "internals"))]
pub use offset_fetch::KeptOffset;
pub use offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
pub use primitives::{DecodeError, DecodeProblem};
#[cfg(feature = "internals")]
pub use primitives::{Reader, STRING_BYTES_MAX, Writer};
#[cfg(feature = "internals")]
pub use produce::NodeEndpoint;
pub use produce::{
    PRODUCE_AROUND_BATCH_MAX, PRODUCE_HEAD_MAX, PartitionResponse, ProduceEncoder, ProduceResponse,
    TopicRef, VERSION_BATCHES_MIN, VERSION_FIVE_REMEMBERED_MIN, VERSION_TOPIC_IDS_MIN,
};
pub use sasl::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    encode_bare_token,
};

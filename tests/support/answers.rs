//! What brokers of a model answer, as bytes.

use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, ResponseHeader};
use kafka_protocol::protocol::Encodable;

/// All that a shard needs: ApiVersions, and Produce up to a version.
pub fn api_versions(produce_max: i16) -> ApiVersionsResponse {
    let key = |api: ApiKey, max| {
        ApiVersion::default().with_api_key(api as i16).with_min_version(0).with_max_version(max)
    };
    let keys = vec![key(ApiKey::Produce, produce_max), key(ApiKey::ApiVersions, 4)];
    ApiVersionsResponse::default().with_api_keys(keys)
}

/// A response as it travels: its size, its header and its body.
pub fn respond(api: ApiKey, version: i16, correlation: i32, body: &impl Encodable) -> Vec<u8> {
    let mut out = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut out, api.response_header_version(version)).expect("it can be encoded");
    body.encode(&mut out, version).expect("it can be encoded");
    let mut frame = (out.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&out);
    frame
}

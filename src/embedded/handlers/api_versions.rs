//! ApiVersions: what this broker speaks (KIP-35, KIP-511).

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::super::log::error;
use super::super::state::{Node, Shared};
use super::{Broken, Envelope, api, decode, encode};

/// Answers with the versions that are advertised; a version of ApiVersions itself that is not
/// implemented is answered in version 0, as clients expect: with the range of ApiVersions, or by
/// brokers before KIP-511 with no range at all.
pub(crate) fn handle(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let age = node.age();
    let advertised = shared.advertised(age);
    let (_, newest) = advertised.get(&api::API_VERSIONS).copied().unwrap_or_default();
    let keys = advertised.into_iter().map(|(key, (min, max))| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    });
    let response = ApiVersionsResponse::default();
    if !(0..=newest).contains(&envelope.version) {
        let is_told = |key: &ApiVersion| {
            key.api_key == api::API_VERSIONS && age.tells_range_of_api_versions()
        };
        let keys = keys.filter(is_told).collect();
        let code = error::UNSUPPORTED_VERSION;
        return encode(envelope, 0, &response.with_error_code(code).with_api_keys(keys));
    }
    let request: ApiVersionsRequest = decode(envelope, frame)?;
    let named = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    let response = match envelope.version >= 3 && !named {
        true => response.with_error_code(error::INVALID_REQUEST),
        false => response.with_api_keys(keys.collect()),
    };
    encode(envelope, envelope.version, &response)
}

/// What KIP-511 takes as a name or version of client software.
fn is_name(s: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    ends(s.chars().next()) && ends(s.chars().last()) && s.chars().all(inner)
}

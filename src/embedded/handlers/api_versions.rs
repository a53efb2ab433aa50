//! ApiVersions: what this broker speaks (KIP-35, KIP-511).

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::super::log::error;
use super::super::state::Shared;
use super::{Broken, Envelope, api, decode, encode};

/// Answers with the versions that are advertised; a version of ApiVersions itself that is not
/// implemented is answered in version 0, as clients expect.
pub(crate) fn handle(
    shared: &Shared,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let advertised =
        shared.advertised.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let (_, newest) = advertised.get(&api::API_VERSIONS).copied().unwrap_or_default();
    let keys = advertised.into_iter().map(|(key, (min, max))| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    });
    let response = ApiVersionsResponse::default();
    if !(0..=newest).contains(&envelope.version) {
        let keys = keys.filter(|key| key.api_key == api::API_VERSIONS).collect();
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

//! ApiVersions v0–4: which APIs a broker speaks, in which versions (KIP-35, KIP-511).

use super::ErrorCode;
use super::api::{ApiKey, VersionRange, negotiate};
use super::primitives::{DecodeError, Reader, Writer};

/// The least bytes of an entry: key, lowest and highest version.
const ENTRY_BYTES_MIN: usize = 6;

/// Asks the broker what it speaks. The first request on every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersionsRequest<'a> {
    /// The client's name, sent from v3 on. Brokers accept letters, digits, `-` and `.` only and
    /// answer INVALID_REQUEST otherwise.
    pub client_software_name: &'a str,
    /// The client's version, sent from v3 on, by the same rule.
    pub client_software_version: &'a str,
}

impl ApiVersionsRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::ApiVersions.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::ApiVersions.is_flexible(version));
        if version >= 3 {
            w.string(self.client_software_name);
            w.string(self.client_software_version);
        }
        w.no_tags();
    }
}

/// What a broker speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// UNSUPPORTED_VERSION if the broker does not speak the request's version: ask again, with a
    /// version out of [`ApiVersionsResponse::range`] if it names one for ApiVersions, else with v0.
    pub error: ErrorCode,
    /// How long the broker throttles this client, in milliseconds; 0 in v0.
    pub throttle_time_ms: i32,
    /// By ascending key, one entry a key; also of APIs that this client does not speak.
    ranges: Vec<(i16, VersionRange)>,
}

impl ApiVersionsResponse {
    /// Reads a body. An UNSUPPORTED_VERSION answer is in the layout of v0 whatever version was
    /// asked for (KIP-511), and read so. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::ApiVersions.versions().contains(version));
        let error = ErrorCode(Reader::new(body, false).i16("error_code")?);
        if error == ErrorCode::UNSUPPORTED_VERSION
            && let Ok(response) = Self::decode_layout(0, body)
        {
            return Ok(response);
        }
        Self::decode_layout(version, body)
    }

    /// The versions that the broker speaks of an API; none if it does not have it.
    pub fn range(&self, api: ApiKey) -> Option<VersionRange> {
        let at = self.ranges.binary_search_by_key(&api.code(), |entry| entry.0).ok()?;
        Some(self.ranges[at].1)
    }

    /// The version to use of an API, out of [`ApiKey::versions`]; none if there is no
    /// common one.
    pub fn negotiate(&self, api: ApiKey) -> Option<i16> {
        negotiate(api.versions(), self.range(api)?)
    }

    /// Every entry, by ascending key.
    pub fn ranges(&self) -> &[(i16, VersionRange)] {
        &self.ranges
    }

    fn decode_layout(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body, ApiKey::ApiVersions.is_flexible(version));
        let error = ErrorCode(r.i16("error_code")?);
        let count = r.array("api_keys", ENTRY_BYTES_MIN)?;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let key = r.i16("api_key")?;
            let min = r.i16("min_version")?;
            let max = r.i16("max_version")?;
            r.skip_tags("api_key_tags")?;
            ranges.push((key, VersionRange::new(min, max)));
        }
        ranges.sort_by_key(|entry| entry.0);
        ranges.dedup_by_key(|entry| entry.0);
        let throttle_time_ms = if version >= 1 { r.i32("throttle_time_ms")? } else { 0 };
        // Features of the cluster, none of which this client needs.
        r.skip_tags("tags")?;
        r.finish("api_versions_response")?;
        Ok(ApiVersionsResponse { error, throttle_time_ms, ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_version_is_readable_whatever_was_asked() {
        let body = [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2];
        for version in 0..=4 {
            let response = ApiVersionsResponse::decode(version, &body).expect("v0 layout");
            assert_eq!(response.error, ErrorCode::UNSUPPORTED_VERSION);
            assert_eq!(response.range(ApiKey::ApiVersions), Some(VersionRange::new(0, 2)));
            assert_eq!(response.negotiate(ApiKey::ApiVersions), Some(2));
        }
        let empty = [0, 35, 0, 0, 0, 0];
        let response = ApiVersionsResponse::decode(3, &empty).expect("0.10.2 sends no ranges");
        assert_eq!(response.range(ApiKey::ApiVersions), None);
    }

    #[test]
    fn a_key_is_found_among_unsorted_and_repeated_ones() {
        let body = [0, 0, 0, 0, 0, 3, 0, 22, 0, 0, 0, 9, 0, 0, 0, 1, 0, 7, 0, 22, 0, 1, 0, 1];
        let response = ApiVersionsResponse::decode(0, &body).expect("valid");
        assert_eq!(response.range(ApiKey::Produce), Some(VersionRange::new(1, 7)));
        assert_eq!(response.range(ApiKey::InitProducerId), Some(VersionRange::new(0, 9)));
        assert_eq!(response.range(ApiKey::Metadata), None);
        assert_eq!(response.negotiate(ApiKey::Produce), Some(7));
        assert_eq!(response.negotiate(ApiKey::Metadata), None);
        assert_eq!(response.ranges().len(), 2);
    }

    #[test]
    fn hostile_counts_are_refused() {
        for count in
            [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0, 0, 0, 2]]
        {
            let mut body = vec![0, 0];
            body.extend_from_slice(&count);
            body.extend_from_slice(&[0; 6]);
            assert!(ApiVersionsResponse::decode(0, &body).is_err());
        }
        assert!(ApiVersionsResponse::decode(3, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}

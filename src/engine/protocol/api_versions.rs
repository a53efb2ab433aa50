//! ApiVersions v0–4: which APIs a broker speaks, in which versions (KIP-35, KIP-511).

use std::borrow::Cow;

use super::ErrorCode;
use super::api::{ApiKey, VersionRange, negotiate};
use super::primitives::{DecodeError, DecodeProblem, Reader, Writer};

/// The least bytes of an entry: key, lowest and highest version.
const ENTRY_BYTES_MIN: usize = 6;

/// Asks the broker what it speaks. The first request on every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersionsRequest<'a> {
    /// The client's name, sent from v3 on. Brokers accept letters, digits, `-` and `.` only, the
    /// first and the last being a letter or a digit, and answer INVALID_REQUEST otherwise. So other
    /// characters are sent as `-`, not at an end, and `unknown` if nothing is left.
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
            w.string(&software_word(self.client_software_name));
            w.string(&software_word(self.client_software_version));
        }
        w.no_tags();
    }
}

/// What brokers accept in the place of a word (KIP-511).
fn software_word(word: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if word.is_empty() {
        return "unknown".into();
    }
    match word.chars().all(allowed) {
        true => word.into(),
        false => word.chars().map(|c| if allowed(c) { c } else { '-' }).collect(),
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
    /// asked for (KIP-511), and read so; so is INVALID_REQUEST where it cannot be read otherwise.
    /// Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::ApiVersions.versions().contains(version));
        let error = ErrorCode(Reader::new(body, false).i16("error_code")?);
        let is_trailing =
            |error: &DecodeError| matches!(error.problem, DecodeProblem::TrailingBytes(_));
        if error == ErrorCode::UNSUPPORTED_VERSION {
            match Self::decode_layout(0, body) {
                Err(error) if !is_trailing(&error) => {}
                result => return result,
            }
        }
        match Self::decode_layout(version, body) {
            Err(_) if error == ErrorCode::INVALID_REQUEST => Self::decode_layout(0, body),
            result => result,
        }
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
    #[cfg(feature = "internals")]
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
    fn c64_only_words_that_brokers_accept_are_sent() {
        for (word, sent) in [
            ("1.2.3", "1.2.3"),
            ("1.2.3-rc.1", "1.2.3-rc.1"),
            ("1.2.3+build_7", "1.2.3-build-7"),
            ("", "unknown"),
            ("+-.", "unknown"),
            ("-1.0.", "1.0"),
            ("0.1.0-\u{e9}", "0.1.0"),
        ] {
            let (name, mut body) = (word, Vec::new());
            let request =
                ApiVersionsRequest { client_software_name: name, client_software_version: word };
            request.encode(3, &mut body);
            let word = [&[sent.len() as u8 + 1], sent.as_bytes()].concat();
            assert_eq!(body, [&word[..], &word, &[0]].concat(), "{name:?}");
        }
    }

    #[test]
    fn c64_an_invalid_request_is_readable_in_the_layout_of_v0_too() {
        let body = [0, 42, 0, 0, 0, 0];
        let response = ApiVersionsResponse::decode(4, &body).expect("v0 layout");
        assert_eq!(response.error, ErrorCode::INVALID_REQUEST);
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

//! Property tests: responses that are damaged, or no responses at all, never do worse than fail.

use proptest::collection::vec;
use proptest::prelude::*;

use tidegate::internals::protocol::{
    FindCoordinatorResponse, OffsetCommitResponse, OffsetFetchResponse,
};

use super::round_trip::{CASES, versions};
use super::*;

fn damaged(mut body: Vec<u8>, damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in damage {
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = *byte;
        }
    }
    body
}

fn decode_any(api: ApiKey, version: i16, body: &[u8]) {
    match api {
        ApiKey::Produce => drop(ProduceResponse::new().decode_into(version, body)),
        ApiKey::Fetch => drop(FetchResponse::decode(version, body)),
        ApiKey::ListOffsets => drop(ListOffsetsResponse::decode(version, body)),
        ApiKey::OffsetCommit => drop(OffsetCommitResponse::decode(version, body)),
        ApiKey::OffsetFetch => drop(OffsetFetchResponse::decode(version, body)),
        ApiKey::FindCoordinator => drop(FindCoordinatorResponse::decode(version, body)),
        ApiKey::Metadata => drop(MetadataResponse::decode(version, body)),
        ApiKey::ApiVersions => drop(ApiVersionsResponse::decode(version, body)),
        ApiKey::CreateTopics => drop(CreateTopicsResponse::decode(version, body)),
        ApiKey::InitProducerId => drop(InitProducerIdResponse::decode(version, body)),
        ApiKey::SaslHandshake => drop(SaslHandshakeResponse::decode(version, body)),
        ApiKey::SaslAuthenticate => drop(SaslAuthenticateResponse::decode(version, body)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn arbitrary_bytes_never_panic(body in vec(any::<u8>(), 0..200)) {
        for api in ApiKey::ALL {
            for version in versions(api) {
                decode_any(api, version, &body);
                let _ = split_response(&body, api, version);
            }
        }
    }

    #[test]
    fn damaged_responses_never_panic(damage in vec(any::<(prop::sample::Index, u8)>(), 1..6)) {
        for api in ApiKey::ALL {
            for (version, body) in golden_of(api, &format!("{api:?}Response")) {
                decode_any(api, version, &damaged(body, &damage));
            }
        }
    }
}

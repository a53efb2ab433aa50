//! From a frame's bytes to a response.

use super::request::{Request, RequestKind};
use crate::engine::protocol::{
    ApiVersionsResponse, CreateTopicsResponse, DecodeError, DecodeProblem, FetchResponse,
    FindCoordinatorResponse, InitProducerIdResponse, ListOffsetsResponse, MetadataResponse,
    OffsetCommitResponse, OffsetFetchResponse, ProduceResponse, SaslAuthenticateResponse,
    SaslHandshakeResponse, split_response,
};
use crate::problem::{Problem, ProblemKind};

/// A response's content; that of Produce is in the connection's spare response.
pub(super) enum Parsed {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    CreateTopics(CreateTopicsResponse),
    Fetch(FetchResponse),
    ListOffsets(ListOffsetsResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponse),
    FindCoordinator(FindCoordinatorResponse),
    InitProducerId(InitProducerIdResponse),
    SaslHandshake(SaslHandshakeResponse),
    SaslAuthenticate(SaslAuthenticateResponse),
    Produce,
}

/// Reads a response. Bytes that are left over within its frame are ignored, as Java's client does:
/// where it ends is known all the same. Returns how many they were.
pub(super) fn parse(
    frame: &[u8],
    request: &Request,
    spare: &mut ProduceResponse,
) -> Result<(Parsed, usize), Problem> {
    let (kind, version) = (request.kind, request.version);
    let mut read = |frame: &[u8]| -> Result<Parsed, DecodeError> {
        let (_, body) = split_response(frame, kind.api_key(), version)?;
        Ok(match kind {
            RequestKind::ApiVersions => {
                Parsed::ApiVersions(ApiVersionsResponse::decode(version, body)?)
            }
            RequestKind::Metadata => {
                let response = MetadataResponse::decode(version, body)?;
                Parsed::Metadata(response.with_reliable_epochs(version))
            }
            RequestKind::CreateTopics => {
                Parsed::CreateTopics(CreateTopicsResponse::decode(version, body)?)
            }
            RequestKind::Fetch => Parsed::Fetch(FetchResponse::decode(version, body)?),
            RequestKind::ListOffsets => {
                Parsed::ListOffsets(ListOffsetsResponse::decode(version, body)?)
            }
            RequestKind::OffsetCommit => {
                Parsed::OffsetCommit(OffsetCommitResponse::decode(version, body)?)
            }
            RequestKind::OffsetFetch => {
                Parsed::OffsetFetch(OffsetFetchResponse::decode(version, body)?)
            }
            RequestKind::FindCoordinator => {
                Parsed::FindCoordinator(FindCoordinatorResponse::decode(version, body)?)
            }
            RequestKind::InitProducerId => {
                Parsed::InitProducerId(InitProducerIdResponse::decode(version, body)?)
            }
            RequestKind::SaslHandshake => {
                Parsed::SaslHandshake(SaslHandshakeResponse::decode(version, body)?)
            }
            RequestKind::SaslAuthenticate | RequestKind::BareToken => {
                Parsed::SaslAuthenticate(SaslAuthenticateResponse::decode(version, body)?)
            }
            RequestKind::Produce { .. } => {
                spare.decode_into(version, body)?;
                Parsed::Produce
            }
        })
    };
    let result = match read(frame) {
        Ok(parsed) => Ok((parsed, 0)),
        Err(DecodeError { problem: DecodeProblem::TrailingBytes(surplus), .. }) => {
            read(&frame[..frame.len() - surplus]).map(|parsed| (parsed, surplus))
        }
        Err(error) => Err(error),
    };
    result.map_err(|error| {
        let api = kind.api_key();
        let text = format_args!("unreadable {api:?} v{version} response: {error}");
        Problem::new(ProblemKind::Protocol, text)
    })
}

pub(super) fn peek_correlation(frame: &[u8]) -> Result<i32, Problem> {
    match frame.first_chunk::<4>() {
        Some(raw) => Ok(i32::from_be_bytes(*raw)),
        None => {
            let text = "a response without a correlation id";
            Err(Problem::new(ProblemKind::Protocol, text))
        }
    }
}

//! Request and response headers, and the framing of a whole request.

use super::api::ApiKey;
use super::primitives::{DecodeError, Reader, Writer};

/// Appends a request's header: v1, or in flexible versions v2. The client id keeps its classic
/// 16-bit length in both.
pub fn encode_request_header(
    out: &mut Vec<u8>,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) {
    let mut w = Writer::new(out, false);
    w.i16(api.code());
    w.i16(version);
    w.i32(correlation_id);
    w.string(client_id);
    Writer::new(out, api.request_header_version(version) == 2).no_tags();
}

/// Appends a whole request: its size, its header, and the body that `body` appends.
pub fn encode_request(
    out: &mut Vec<u8>,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = begin_frame(out);
    encode_request_header(out, api, version, correlation_id, client_id);
    body(out);
    end_frame(out, start, 0);
}

/// Splits a response frame into its correlation id and its body, passing over the tagged fields of
/// header v1. `api` and `version` are those of the request that is answered next.
pub fn split_response(
    frame: &[u8],
    api: ApiKey,
    version: i16,
) -> Result<(i32, &[u8]), DecodeError> {
    let mut r = Reader::new(frame, api.response_header_version(version) == 1);
    let correlation_id = r.i32("correlation_id")?;
    r.skip_tags("header_tags")?;
    Ok((correlation_id, r.rest()))
}

/// Appends room for a frame's size and returns where it is.
pub(super) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Fills in the size of the frame that starts at `start` and goes to the end of `out`, plus
/// `bytes_elsewhere`. Returns the frame's length on the wire with its size field.
pub(super) fn end_frame(out: &mut [u8], start: usize, bytes_elsewhere: usize) -> usize {
    let length = out.len() - start + bytes_elsewhere;
    let size = i32::try_from(length - 4).expect("requests are bounded far below 2 GiB");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_size_header_and_body() {
        let mut out = vec![0xee];
        encode_request(&mut out, ApiKey::Metadata, 8, 0x0102_0304, "me", |out| out.push(0x77));
        assert_eq!(out, [0xee, 0, 0, 0, 13, 0, 3, 0, 8, 1, 2, 3, 4, 0, 2, b'm', b'e', 0x77]);
        out.clear();
        encode_request(&mut out, ApiKey::Metadata, 9, 5, "", |_| ());
        assert_eq!(out, [0, 0, 0, 11, 0, 3, 0, 9, 0, 0, 0, 5, 0, 0, 0], "v2 ends in a tag count");
    }

    #[test]
    fn a_response_is_split_by_the_version_of_its_header() {
        let frame = [0, 0, 0, 9, 1, 7, 1, 0xaa, 0x55];
        let body = split_response(&frame, ApiKey::Produce, 8);
        assert_eq!(body, Ok((9, &frame[4..])), "v0 has no tags");
        let body = split_response(&frame, ApiKey::Produce, 9);
        assert_eq!(body, Ok((9, &frame[8..])), "v1's tags are passed over");
        let body = split_response(&frame, ApiKey::ApiVersions, 4);
        assert_eq!(body, Ok((9, &frame[4..])), "ApiVersions always answers with v0");
        for length in 0..8 {
            assert!(split_response(&frame[..length], ApiKey::Produce, 9).is_err());
        }
    }
}

//! Responses that say something else than the broker did: decoded with the codec of the
//! `kafka-protocol` crate, changed, encoded again.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{MetadataResponse, ProduceResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::{Act, Frame, Proxy, api};

/// The message in a response.
fn read<R: Decodable + HeaderVersion>(frame: &Frame<'_>) -> (ResponseHeader, R) {
    let mut bytes = Bytes::copy_from_slice(&frame.bytes[4..]);
    let header = ResponseHeader::decode(&mut bytes, R::header_version(frame.version)).unwrap();
    (header, R::decode(&mut bytes, frame.version).unwrap())
}

/// The frame with its message changed.
pub fn rewritten<R: Decodable + Encodable + HeaderVersion>(
    frame: &Frame<'_>,
    change: impl FnOnce(&mut R),
) -> Act {
    let (header, mut message) = read::<R>(frame);
    change(&mut message);
    let mut out = BytesMut::zeroed(4);
    header.encode(&mut out, R::header_version(frame.version)).unwrap();
    message.encode(&mut out, frame.version).unwrap();
    let size = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Act::Replace(out.to_vec())
}

/// The first error that a Produce response tells.
pub fn refusal(frame: &Frame<'_>) -> Option<i16> {
    let (_, response) = read::<ProduceResponse>(frame);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.map(|partition| partition.error_code).find(|&code| code != 0)
}

/// Changes every Metadata response that comes through from now on.
pub fn metadata(proxy: &Proxy, mut change: impl FnMut(&mut MetadataResponse) + Send + 'static) {
    proxy.script(move |frame| match frame.answers(api::METADATA) {
        true => rewritten(frame, &mut change),
        false => Act::Pass,
    });
}

/// A Produce response, changed.
pub fn produce(frame: &Frame<'_>, change: impl FnOnce(&mut ProduceResponse)) -> Act {
    rewritten(frame, change)
}

/// Changes the first Produce response that comes through from now on.
pub fn one_produce(proxy: &Proxy, mut change: impl FnMut(&mut ProduceResponse) + Send + 'static) {
    let mut done = false;
    proxy.script(move |frame| {
        if done || !frame.answers(api::PRODUCE) {
            return Act::Pass;
        }
        done = true;
        rewritten(frame, &mut change)
    });
}

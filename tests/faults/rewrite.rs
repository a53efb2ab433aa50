//! Responses that say something else than the broker did: decoded with the codec of the
//! `kafka-protocol` crate, changed, encoded again.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{MetadataResponse, ProduceResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::*;

/// The frame with its message changed.
fn rewritten<R: Decodable + Encodable + HeaderVersion>(
    frame: &Frame<'_>,
    change: impl FnOnce(&mut R),
) -> Act {
    let mut bytes = Bytes::copy_from_slice(&frame.bytes[4..]);
    let header_version = R::header_version(frame.version);
    let header = ResponseHeader::decode(&mut bytes, header_version).unwrap();
    let mut message = R::decode(&mut bytes, frame.version).unwrap();
    change(&mut message);
    let mut out = BytesMut::zeroed(4);
    header.encode(&mut out, header_version).unwrap();
    message.encode(&mut out, frame.version).unwrap();
    let size = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Act::Replace(out.to_vec())
}

/// Changes every Metadata response that comes through from now on.
pub fn metadata(proxy: &Proxy, mut change: impl FnMut(&mut MetadataResponse) + Send + 'static) {
    proxy.script(move |frame| match frame.answers(api::METADATA) {
        true => rewritten(frame, &mut change),
        false => Act::Pass,
    });
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

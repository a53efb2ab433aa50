//! Produce 0 to 2, which `kafka-protocol` has no more: the request's and the response's bytes.

use bytes::{Buf, BufMut, Bytes};
use kafka_protocol::messages::ProduceResponse;

use super::super::log::Submitted;
use super::produce::{Call, TopicCall, TopicKey};
use super::{Broken, Envelope, sized};

/// The newest version of this layout. From the next on there is a transactional id, and record
/// batches in place of message sets.
pub(crate) const VERSION_MAX: i16 = 2;

/// Decodes a whole request, header included; nothing may be left over. The layout is that of
/// version 0 in all three.
pub(crate) fn decode(mut frame: Bytes) -> Result<Call, Broken> {
    let call = request(&mut frame).ok_or(Broken("a malformed request"))?;
    match frame.is_empty() {
        true => Ok(call),
        false => Err(Broken("bytes after the request")),
    }
}

fn request(frame: &mut Bytes) -> Option<Call> {
    take(frame, Envelope::BYTES)?;
    // The client id may be null, and is not looked at.
    string(frame)?;
    let acks = frame.try_get_i16().ok()?;
    let _timeout_ms = frame.try_get_i32().ok()?;
    let mut topics = Vec::new();
    for _ in 0..count(frame)? {
        let name = string(frame)??;
        let mut partitions = Vec::new();
        for _ in 0..count(frame)? {
            let index = frame.try_get_i32().ok()?;
            let size = frame.try_get_i32().ok()?;
            let records = match size {
                -1 => None,
                _ => Some(take(frame, usize::try_from(size).ok()?)?),
            };
            partitions.push((index, Submitted::Whole(records)));
        }
        topics.push(TopicCall { key: TopicKey::Name(name), partitions });
    }
    Some(Call { acks, topics })
}

/// The count of an array. Elements take their memory only when their bytes were seen.
fn count(frame: &mut Bytes) -> Option<i32> {
    frame.try_get_i32().ok().filter(|&count| count >= 0)
}

/// A string; the inner `None` is null.
fn string(frame: &mut Bytes) -> Option<Option<String>> {
    let length = frame.try_get_i16().ok()?;
    if length == -1 {
        return Some(None);
    }
    let bytes = take(frame, usize::try_from(length).ok()?)?;
    Some(Some(String::from_utf8(bytes.into()).ok()?))
}

fn take(frame: &mut Bytes, n: usize) -> Option<Bytes> {
    (n <= frame.len()).then(|| frame.split_to(n))
}

/// Encodes a response with its size and header: version 1 has a throttle time at its end, version 2
/// also the log append time of each partition.
pub(crate) fn encode(envelope: &Envelope, response: &ProduceResponse) -> Result<Vec<u8>, Broken> {
    let mut out = vec![0; 4];
    out.put_i32(envelope.correlation_id);
    put_count(&mut out, response.responses.len());
    for topic in &response.responses {
        // It is the name that the request gave, with a length of 16 bits.
        out.put_i16(i16::try_from(topic.name.len()).unwrap_or(i16::MAX));
        out.put_slice(topic.name.as_bytes());
        put_count(&mut out, topic.partition_responses.len());
        for partition in &topic.partition_responses {
            out.put_i32(partition.index);
            out.put_i16(partition.error_code);
            out.put_i64(partition.base_offset);
            if envelope.version >= 2 {
                out.put_i64(partition.log_append_time_ms);
            }
        }
    }
    if envelope.version >= 1 {
        out.put_i32(response.throttle_time_ms);
    }
    sized(out)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // It is the count of a request's elements.
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

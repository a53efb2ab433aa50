//! One handler an API: a decoded request in, a response out. Which requests there are and how their
//! bytes are decoded and encoded is here.

pub(super) mod api_versions;
pub(super) mod create_topics;
pub(super) mod fetch;
pub(super) mod groups;
pub(super) mod init_producer_id;
pub(super) mod list_offsets;
pub(super) mod metadata;
pub(super) mod old_produce;
pub(super) mod produce;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, RequestHeader, ResponseHeader,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, StrBytes};

/// API keys of Kafka's protocol.
pub(super) mod api {
    pub(crate) const PRODUCE: i16 = 0;
    pub(crate) const FETCH: i16 = 1;
    pub(crate) const LIST_OFFSETS: i16 = 2;
    pub(crate) const METADATA: i16 = 3;
    pub(crate) const OFFSET_COMMIT: i16 = 8;
    pub(crate) const OFFSET_FETCH: i16 = 9;
    pub(crate) const FIND_COORDINATOR: i16 = 10;
    pub(crate) const SASL_HANDSHAKE: i16 = 17;
    pub(crate) const API_VERSIONS: i16 = 18;
    pub(crate) const CREATE_TOPICS: i16 = 19;
    pub(crate) const INIT_PRODUCER_ID: i16 = 22;
    pub(crate) const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
    pub(crate) const SASL_AUTHENTICATE: i16 = 36;
}

/// The connection cannot go on: a request that Kafka, too, answers by closing.
#[derive(Debug)]
pub struct Broken(pub &'static str);

/// A request's first fields, which are the same in every header version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

impl Envelope {
    pub(super) const BYTES: usize = 8;

    pub(super) fn read(mut bytes: &[u8]) -> Option<Envelope> {
        (bytes.len() >= Envelope::BYTES).then(|| Envelope {
            api_key: bytes.get_i16(),
            version: bytes.get_i16(),
            correlation_id: bytes.get_i32(),
        })
    }
}

/// API key → the versions that are implemented for brokers of today.
pub(super) static VERSIONS_IMPLEMENTED: LazyLock<BTreeMap<i16, (i16, i16)>> = LazyLock::new(|| {
    fn of<M: Message>(key: ApiKey) -> (i16, (i16, i16)) {
        (key as i16, (M::VERSIONS.min, M::VERSIONS.max))
    }
    [
        of::<ProduceRequest>(ApiKey::Produce),
        of::<FetchRequest>(ApiKey::Fetch),
        of::<ListOffsetsRequest>(ApiKey::ListOffsets),
        of::<MetadataRequest>(ApiKey::Metadata),
        of::<OffsetCommitRequest>(ApiKey::OffsetCommit),
        of::<OffsetFetchRequest>(ApiKey::OffsetFetch),
        of::<FindCoordinatorRequest>(ApiKey::FindCoordinator),
        of::<ApiVersionsRequest>(ApiKey::ApiVersions),
        of::<CreateTopicsRequest>(ApiKey::CreateTopics),
        of::<InitProducerIdRequest>(ApiKey::InitProducerId),
        of::<OffsetForLeaderEpochRequest>(ApiKey::OffsetForLeaderEpoch),
        of::<SaslHandshakeRequest>(ApiKey::SaslHandshake),
        of::<SaslAuthenticateRequest>(ApiKey::SaslAuthenticate),
    ]
    .into()
});

/// Decodes a request whole, header included; nothing may be left over. A panic of the decoder costs
/// the connection only.
pub(super) fn decode<M: Decodable + HeaderVersion>(
    envelope: &Envelope,
    mut frame: Bytes,
) -> Result<M, Broken> {
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let header_version = M::header_version(envelope.version);
        RequestHeader::decode(&mut frame, header_version).ok()?;
        check_counts(envelope, &frame)?;
        let message = M::decode(&mut frame, envelope.version).ok()?;
        frame.is_empty().then_some(message)
    }));
    decoded.ok().flatten().ok_or(Broken("a malformed request"))
}

/// Encodes a response with its size and header.
pub(super) fn encode<M: Encodable + HeaderVersion>(
    envelope: &Envelope,
    version: i16,
    message: &M,
) -> Result<Vec<u8>, Broken> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    ResponseHeader::default()
        .with_correlation_id(envelope.correlation_id)
        .encode(&mut out, M::header_version(version))
        .and_then(|()| message.encode(&mut out, version))
        .map_err(|_| Broken("a response that its version cannot carry"))?;
    sized(out.into())
}

/// Puts a response's size into its first four bytes.
fn sized(mut out: Vec<u8>) -> Result<Vec<u8>, Broken> {
    let size = i32::try_from(out.len() - 4).map_err(|_| Broken("a response over 2 GiB"))?;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Ok(out)
}

/// A string for the codec.
pub(super) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// Walks a request's body up to its last array and refuses a count that its bytes cannot hold: the
/// decoder takes memory for counts before it has seen the elements.
fn check_counts(envelope: &Envelope, body: &Bytes) -> Option<()> {
    let mut walk = Walk { rest: body, compact: false };
    match envelope.api_key {
        api::PRODUCE => {
            walk.compact = envelope.version >= 9;
            walk.skip_string()?; // The transactional id.
            walk.skip(6)?; // acks, timeout
            for _ in 0..walk.count()? {
                match envelope.version {
                    ..=12 => walk.skip_string()?,
                    _ => walk.skip(16)?,
                }
                for _ in 0..walk.count()? {
                    walk.skip(4)?; // The partition's index.
                    walk.skip_bytes()?;
                    walk.skip_tags()?;
                }
                walk.skip_tags()?;
            }
        }
        api::METADATA => {
            walk.compact = envelope.version >= 9;
            walk.count()?;
        }
        api::FETCH => {
            let version = envelope.version;
            let since = |first: i16, bytes: usize| if version >= first { bytes } else { 0 };
            walk.compact = version >= 12;
            // The replica up to v14, wait, least and most bytes, isolation, session and its epoch.
            let replica = if version <= 14 { 4 } else { 0 };
            walk.skip(replica + 13 + since(7, 8))?;
            // Partition, leader's epoch, offset, epoch fetched last, log start, most bytes.
            let partition = 4 + since(9, 4) + 8 + since(12, 4) + since(5, 8) + 4;
            walk.topics(version >= 13, partition)?;
            if version >= 7 {
                walk.topics(version >= 13, 4)?;
            }
        }
        api::LIST_OFFSETS => {
            walk.compact = envelope.version >= 6;
            walk.skip(if envelope.version >= 2 { 5 } else { 4 })?; // The replica, isolation.
            walk.topics(false, if envelope.version >= 4 { 16 } else { 12 })?;
        }
        api::OFFSET_COMMIT | api::OFFSET_FETCH | api::FIND_COORDINATOR => {
            walk_group(envelope, &mut walk)?;
        }
        api::OFFSET_FOR_LEADER_EPOCH => {
            walk.compact = envelope.version >= 4;
            walk.skip(if envelope.version >= 3 { 4 } else { 0 })?; // The replica.
            walk.topics(false, 12)?;
        }
        _ => {}
    }
    Some(())
}

/// The same of a request about groups.
fn walk_group(envelope: &Envelope, walk: &mut Walk<'_>) -> Option<()> {
    match envelope.api_key {
        api::OFFSET_COMMIT => {
            let since =
                |first: i16, bytes: usize| if envelope.version >= first { bytes } else { 0 };
            walk.compact = envelope.version >= 8;
            walk.skip_string()?; // The group.
            walk.skip(4)?; // Its generation.
            walk.skip_string()?; // The member.
            if envelope.version >= 7 {
                walk.skip_string()?;
            }
            walk.skip(8 - since(5, 8))?; // How long they are to be kept.
            for _ in 0..walk.count()? {
                walk.skip_string()?;
                for _ in 0..walk.count()? {
                    walk.skip(12 + since(6, 4))?; // Partition, offset, epoch.
                    walk.skip_string()?;
                    walk.skip_tags()?;
                }
                walk.skip_tags()?;
            }
        }
        api::OFFSET_FETCH => {
            walk.compact = envelope.version >= 6;
            let groups = if envelope.version >= 8 { walk.count()? } else { 1 };
            for _ in 0..groups {
                walk.skip_string()?; // The group.
                if envelope.version >= 9 {
                    walk.skip_string()?; // A member, and its epoch.
                    walk.skip(4)?;
                }
                walk.topics(false, 4)?;
                if envelope.version >= 8 {
                    walk.skip_tags()?;
                }
            }
        }
        api::FIND_COORDINATOR if envelope.version >= 4 => {
            walk.compact = true;
            walk.skip(1)?; // What the keys name.
            walk.count()?;
        }
        _ => {}
    }
    Some(())
}

struct Walk<'a> {
    rest: &'a [u8],
    /// Lengths are varints plus one (KIP-482), and structures have tagged fields.
    compact: bool,
}

impl Walk<'_> {
    fn skip(&mut self, n: usize) -> Option<()> {
        self.rest = self.rest.get(n..)?;
        Some(())
    }

    /// The count of an array, 0 for null; every element has at least a byte.
    fn count(&mut self) -> Option<usize> {
        let count = self.length(4)?;
        (count <= self.rest.len()).then_some(count)
    }

    /// Topics, by id or by name, with their partitions, each of so many bytes.
    fn topics(&mut self, by_id: bool, partition_bytes: usize) -> Option<()> {
        for _ in 0..self.count()? {
            if by_id {
                self.skip(16)?;
            } else {
                self.skip_string()?;
            }
            for _ in 0..self.count()? {
                self.skip(partition_bytes)?;
                // A forgotten topic's partitions are bare numbers.
                if partition_bytes > 4 {
                    self.skip_tags()?;
                }
            }
            self.skip_tags()?;
        }
        Some(())
    }

    fn skip_string(&mut self) -> Option<()> {
        let length = self.length(2)?;
        self.skip(length)
    }

    fn skip_bytes(&mut self) -> Option<()> {
        let length = self.length(4)?;
        self.skip(length)
    }

    fn skip_tags(&mut self) -> Option<()> {
        if self.compact {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()?;
                self.skip(size)?;
            }
        }
        Some(())
    }

    /// A length in its compact form or in `width` bytes; null is 0.
    fn length(&mut self, width: usize) -> Option<usize> {
        if self.compact {
            return Some(self.varint()?.saturating_sub(1));
        }
        let raw = self.rest.get(..width)?;
        self.rest = &self.rest[width..];
        let negative = raw[0] & 0x80 != 0;
        let value = raw.iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
        Some(if negative { 0 } else { value })
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

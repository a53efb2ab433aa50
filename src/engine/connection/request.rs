//! One request: the bytes it is written from, and what waits for its response.

use std::io::IoSlice;

use zeroize::Zeroize;

use crate::engine::batch::{Batch, LaneId};
use crate::engine::protocol::records::RecordFormat;
use crate::engine::protocol::{ApiKey, TopicId};

/// A batch that is being sent, and where it came from.
pub struct InFlightBatch {
    /// The lane that gave it.
    pub lane: LaneId,
    /// The topic's id when it was sent; zero where it is not known.
    pub topic_id: TopicId,
    /// The batch, owned until its attempt settles.
    pub batch: Box<Batch>,
    /// Its length in the request, in bytes.
    pub wire_len: usize,
}

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The first request of every connection.
    ApiVersions,
    /// Who leads which partition.
    Metadata,
    /// Records.
    Fetch,
    /// Offsets.
    ListOffsets,
    /// Offsets to be kept for a group.
    OffsetCommit,
    /// Offsets that are kept for a group.
    OffsetFetch,
    /// The broker that keeps a group's offsets.
    FindCoordinator,
    /// New topics.
    CreateTopics,
    /// A producer id.
    InitProducerId,
    /// A login with a mechanism.
    SaslHandshake,
    /// A token of a login.
    SaslAuthenticate,
    /// The same without header, as Kafka before 1.0 wants it.
    BareToken,
    /// Batches to append.
    Produce {
        /// Acknowledgements asked for: 0, 1 or -1 (all).
        acks: i16,
    },
}

impl RequestKind {
    /// The API's key.
    pub fn api_key(self) -> ApiKey {
        match self {
            RequestKind::ApiVersions => ApiKey::ApiVersions,
            RequestKind::Metadata => ApiKey::Metadata,
            RequestKind::Fetch => ApiKey::Fetch,
            RequestKind::ListOffsets => ApiKey::ListOffsets,
            RequestKind::OffsetCommit => ApiKey::OffsetCommit,
            RequestKind::OffsetFetch => ApiKey::OffsetFetch,
            RequestKind::FindCoordinator => ApiKey::FindCoordinator,
            RequestKind::CreateTopics => ApiKey::CreateTopics,
            RequestKind::InitProducerId => ApiKey::InitProducerId,
            RequestKind::SaslHandshake => ApiKey::SaslHandshake,
            RequestKind::SaslAuthenticate | RequestKind::BareToken => ApiKey::SaslAuthenticate,
            RequestKind::Produce { .. } => ApiKey::Produce,
        }
    }

    /// The acknowledgements that it asks for; 0 where it asks for none, or for something else.
    pub fn acks(self) -> i16 {
        match self {
            RequestKind::Produce { acks } => acks,
            _ => 0,
        }
    }

    /// Whether the broker answers it.
    pub fn has_response(self) -> bool {
        self != RequestKind::Produce { acks: 0 }
    }
}

/// Of the memory of a question for metadata so many bytes are kept for the next request.
const FRAMING_KEPT: usize = 16 << 10;

/// A request from its making until it settles. Recycled with its memory.
pub struct Request {
    /// What it asks.
    pub kind: RequestKind,
    /// The protocol version it is written in.
    pub version: i16,
    /// Names it in its response.
    pub correlation: i32,
    /// The bytes between the batches, frame size and header included.
    pub framing: Vec<u8>,
    /// Where in `framing` each batch's bytes come.
    pub splices: Vec<usize>,
    /// The batches, in the order of their bytes.
    pub batches: Vec<InFlightBatch>,
    /// The whole length on the wire.
    pub wire_len: usize,
    /// When it was made, nanoseconds, monotonic; set when it is sent.
    pub sent_at: u64,
    /// When it must be answered, nanoseconds, monotonic; set when it is sent.
    pub deadline: u64,
    /// Where it ends in the stream of all that was sent on its connection, in bytes.
    pub(super) ends_at: u64,
    /// When it was last looked at, not all of it had left.
    pub(super) held_up: bool,
    written: usize,
}

impl Request {
    /// An empty request.
    pub fn new() -> Self {
        Request {
            kind: RequestKind::ApiVersions,
            version: 0,
            correlation: 0,
            framing: Vec::new(),
            splices: Vec::new(),
            batches: Vec::new(),
            wire_len: 0,
            sent_at: 0,
            deadline: u64::MAX,
            ends_at: 0,
            held_up: false,
            written: 0,
        }
    }

    /// Empties it for its next use.
    pub fn clear(&mut self) {
        if matches!(self.kind, RequestKind::SaslAuthenticate | RequestKind::BareToken) {
            self.framing.zeroize();
        }
        self.framing.clear();
        // A question for all topics is long, and asked seldom; other long requests follow each
        // other, and would take their memory anew each time.
        if self.kind == RequestKind::Metadata {
            self.framing.shrink_to(FRAMING_KEPT);
        }
        self.splices.clear();
        self.batches.clear();
        self.wire_len = 0;
        self.held_up = false;
        self.written = 0;
    }

    /// How its batches are written.
    pub fn format(&self) -> RecordFormat {
        match self.kind {
            RequestKind::Produce { .. } => RecordFormat::of_produce(self.version),
            _ => RecordFormat::Batch,
        }
    }

    /// Bytes that the socket took.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Whether the socket took all of it.
    pub fn is_written(&self) -> bool {
        self.written == self.wire_len
    }

    /// Counts written bytes; returns those that belong to the next request.
    pub(super) fn add_written(&mut self, bytes: usize) -> usize {
        let own = bytes.min(self.wire_len - self.written);
        self.written += own;
        bytes - own
    }

    /// Appends what is still to be written to `out`, as far as it has room. Returns the number of
    /// slices and whether the request's end is among them. Message sets are not in memory: see
    /// [`SetWriter`](super::set_writer::SetWriter).
    pub(super) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> (usize, bool) {
        let mut skip = self.written;
        let mut used = 0;
        let mut push = |bytes: &'a [u8]| {
            if skip >= bytes.len() {
                skip -= bytes.len();
                return true;
            }
            let Some(slot) = out.get_mut(used) else { return false };
            *slot = IoSlice::new(&bytes[skip..]);
            skip = 0;
            used += 1;
            true
        };
        let mut from = 0;
        for (&splice, entry) in self.splices.iter().zip(&self.batches) {
            if !push(&self.framing[from..splice]) {
                return (used, false);
            }
            from = splice;
            for bytes in entry.batch.wire_slices() {
                if !push(bytes) {
                    return (used, false);
                }
            }
        }
        let ended = push(&self.framing[from..]);
        (used, ended)
    }
}

impl Default for Request {
    fn default() -> Self {
        Request::new()
    }
}

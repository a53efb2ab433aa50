//! What a script sees of a frame, and what it can say.

use std::net::SocketAddr;
use std::time::Duration;

/// API keys of Kafka's protocol.
pub mod api {
    pub const PRODUCE: i16 = 0;
    pub const METADATA: i16 = 3;
    pub const API_VERSIONS: i16 = 18;
    pub const INIT_PRODUCER_ID: i16 = 22;
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the broker.
    Request,
    /// From the broker to the client.
    Response,
}

/// A whole frame that has come from one side and not gone to the other.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The number of its connection at this proxy, from 1.
    pub connection: u64,
    /// Where the client connected to: a proxy may listen on several addresses of the machine's.
    pub address: SocketAddr,
    /// Which way it goes.
    pub direction: Direction,
    /// The kind of the request; of a response, that of the request that it answers. -1 if there is
    /// none.
    pub api_key: i16,
    /// The request's version, likewise.
    pub version: i16,
    /// Its correlation id.
    pub correlation: i32,
    /// How many came before it on its connection and in its direction.
    pub nth: u64,
    /// All its bytes, the size in front included.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// Whether it is a request of this kind.
    pub fn asks(&self, api_key: i16) -> bool {
        self.direction == Direction::Request && self.api_key == api_key
    }

    /// Whether it is a response to a request of this kind.
    pub fn answers(&self, api_key: i16) -> bool {
        self.direction == Direction::Response && self.api_key == api_key
    }

    /// Its bytes with other ones from `at` on.
    pub fn patched(&self, at: usize, with: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    }

    /// Its bytes with another correlation id.
    pub fn with_correlation(&self, correlation: i32) -> Vec<u8> {
        let at = if self.direction == Direction::Request { 8 } else { 4 };
        self.patched(at, &correlation.to_be_bytes())
    }
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It passes.
    Pass,
    /// So many of its bytes pass, then the client's connection is reset and the broker's closed.
    /// With a response to Produce and 0 an acknowledgement is eaten.
    CutAt(usize),
    /// It does not pass; the connection goes on.
    Swallow,
    /// It passes later, and what comes behind it, too.
    Delay(Duration),
    /// These bytes pass in its place.
    Replace(Vec<u8>),
    /// It passes, and its sender gets these bytes back.
    Answer(Vec<u8>),
    /// It passes one byte at a time, so long apart.
    Trickle(Duration),
    /// It passes behind the next frame of its direction.
    Hold,
    /// Nothing passes in this direction any more; what comes is read and dropped.
    Mute,
    /// Nothing is read in this direction any more.
    Stall,
}

/// What becomes of a connection that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Welcome {
    /// It is forwarded.
    #[default]
    Forward,
    /// It is reset.
    Reset,
    /// Nothing is read from it, and nothing said.
    Silent,
    /// When something was read from it these bytes are said, and it is closed.
    Say(Vec<u8>),
}

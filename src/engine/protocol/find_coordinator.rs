//! FindCoordinator v0–4: which broker keeps a group's offsets.

use super::api::ApiKey;
use super::primitives::{DecodeError, Reader, Writer};
use super::{BrokerId, ErrorCode};

/// The first version that asks about several groups at once (KIP-699).
const VERSION_BATCHES_MIN: i16 = 4;

/// The least that a coordinator takes in a response: key, id, host, port, error, message, tags.
const COORDINATOR_BYTES_MIN: usize = 1 + 4 + 1 + 4 + 2 + 1 + 1;

/// The key is a group's name.
const KEY_GROUP: i8 = 0;

/// Asks for the coordinator of a group.
#[derive(Clone, Copy, Debug)]
pub struct FindCoordinatorRequest<'a> {
    /// The group's name.
    pub group: &'a str,
}

impl FindCoordinatorRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::FindCoordinator.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::FindCoordinator.is_flexible(version));
        if version < VERSION_BATCHES_MIN {
            w.string(self.group);
        }
        if version >= 1 {
            w.i8(KEY_GROUP);
        }
        if version >= VERSION_BATCHES_MIN {
            w.length(1);
            w.string(self.group);
        }
        w.no_tags();
    }
}

/// The coordinator, or why it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorResponse {
    /// How long the broker throttles this client, in milliseconds; 0 in v0.
    pub throttle_time_ms: i32,
    /// Why there is no coordinator, or NONE.
    pub error: ErrorCode,
    /// The broker's id.
    pub broker: BrokerId,
    /// Where it listens.
    pub host: String,
    /// The port there.
    pub port: u16,
}

impl FindCoordinatorResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    ///
    /// An answer about several groups is one about another question: only the first counts, and
    /// one without any says that the coordinator is not available.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::FindCoordinator.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::FindCoordinator.is_flexible(version));
        let throttle_time_ms = if version >= 1 { r.i32("throttle_time_ms")? } else { 0 };
        let mut first = None;
        if version < VERSION_BATCHES_MIN {
            let error = ErrorCode(r.i16("error_code")?);
            if version >= 1 {
                r.nullable_string("error_message")?;
            }
            first = Some((error, place(&mut r)?));
        } else {
            for _ in 0..r.array("coordinators", COORDINATOR_BYTES_MIN)? {
                r.string("key")?;
                let place = place(&mut r)?;
                let error = ErrorCode(r.i16("error_code")?);
                r.nullable_string("error_message")?;
                r.skip_tags("coordinator_tags")?;
                first = first.or(Some((error, place)));
            }
        }
        r.skip_tags("tags")?;
        r.finish("find_coordinator_response")?;
        let nowhere = || (ErrorCode::COORDINATOR_NOT_AVAILABLE, (BrokerId(-1), String::new(), 0));
        let (error, (broker, host, port)) = first.unwrap_or_else(nowhere);
        Ok(FindCoordinatorResponse { throttle_time_ms, error, broker, host, port })
    }
}

fn place(r: &mut Reader<'_>) -> Result<(BrokerId, String, u16), DecodeError> {
    let broker = BrokerId(r.i32("node_id")?);
    let host = r.string("host")?.to_owned();
    // Where there is no coordinator it is -1.
    Ok((broker, host, u16::try_from(r.i32("port")?).unwrap_or(0)))
}

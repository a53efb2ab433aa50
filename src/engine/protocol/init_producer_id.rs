//! InitProducerId v0–5: the identity under which a broker checks sequences (KIP-98, KIP-360).

use super::api::ApiKey;
use super::primitives::{DecodeError, Reader, Writer};
use super::{ErrorCode, ProducerIdentity};

/// Asks for a producer id and an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitProducerIdRequest<'a> {
    /// The transactional id; none for a producer that is idempotent only.
    pub transactional_id: Option<&'a str>,
    /// How long a transaction may stay open, in milliseconds; of no effect without a
    /// transactional id.
    pub transaction_timeout_ms: i32,
    /// The identity held so far, to have its epoch raised (KIP-360); [`ProducerIdentity::NONE`] for
    /// a new one. Sent from v3 on.
    pub identity: ProducerIdentity,
}

impl InitProducerIdRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::InitProducerId.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::InitProducerId.is_flexible(version));
        w.nullable_string(self.transactional_id);
        w.i32(self.transaction_timeout_ms);
        if version >= 3 {
            w.i64(self.identity.id);
            w.i16(self.identity.epoch);
        }
        w.no_tags();
    }
}

/// The identity a broker gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// How long the broker throttles this client, in milliseconds.
    pub throttle_time_ms: i32,
    /// Why there is no identity, or NONE.
    pub error: ErrorCode,
    /// The identity; -1 as id and any epoch where `error` is set.
    pub identity: ProducerIdentity,
}

impl InitProducerIdResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::InitProducerId.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::InitProducerId.is_flexible(version));
        let throttle_time_ms = r.i32("throttle_time_ms")?;
        let error = ErrorCode(r.i16("error_code")?);
        let id = r.i64("producer_id")?;
        let epoch = r.i16("producer_epoch")?;
        r.skip_tags("tags")?;
        r.finish("init_producer_id_response")?;
        let identity = ProducerIdentity { id, epoch };
        Ok(InitProducerIdResponse { throttle_time_ms, error, identity })
    }
}

//! InitProducerId: an identity for an idempotent producer (KIP-98).

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::super::log::error;
use super::super::state::Shared;
use super::{Broken, Envelope, decode, encode};

/// Gives a new producer id with epoch 0, whatever identity the request brings: without
/// transactional id that is what Kafka does. There is no transaction coordinator here, and it says
/// so.
pub(crate) fn handle(
    shared: &Shared,
    broker: i32,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: InitProducerIdRequest = decode(envelope, frame)?;
    let code = match (&request.transactional_id, shared.faults.take_init_producer_id_error(broker))
    {
        (_, Some(code)) => code,
        (Some(id), None) if id.is_empty() => error::INVALID_REQUEST,
        (Some(_), None) => error::COORDINATOR_NOT_AVAILABLE,
        (None, None) => error::NONE,
    };
    let response = InitProducerIdResponse::default().with_error_code(code);
    let response = match code {
        error::NONE => {
            response.with_producer_id(ProducerId(shared.producer_id())).with_producer_epoch(0)
        }
        _ => response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
    };
    encode(envelope, envelope.version, &response)
}

//! One of the metadata channel's connections, and how its questions are written.

use super::socket::Socket;
use crate::engine::cluster::{BrokerAddress, ChannelId, MetadataQuery};
use crate::engine::connection::{Connection, RequestKind};
use crate::engine::protocol::{
    InitProducerIdRequest, MetadataRequest, MetadataTopics, ProducerIdentity,
};

/// A connection, or the attempt at it.
#[derive(Default)]
pub(super) struct Link {
    /// Which attempt of all.
    pub attempt: u64,
    /// Whom it is to.
    pub peer: Option<BrokerAddress>,
    pub socket: Option<Socket>,
    pub connection: Option<Connection>,
}

/// What events of a link carry.
pub(super) fn token_of(id: ChannelId) -> mio::Token {
    mio::Token(id.index())
}

/// Sends a question in a version that the broker speaks.
pub(super) fn send_query(
    connection: &mut Connection,
    now: u64,
    version: i16,
    query: &MetadataQuery,
) {
    match query {
        MetadataQuery::Metadata(question) => {
            let names: Vec<&str> = question.topics.iter().map(|name| &**name).collect();
            let request = MetadataRequest {
                topics: MetadataTopics::Names(&names),
                allow_auto_topic_creation: question.may_create,
            };
            connection.send_simple(now, RequestKind::Metadata, version, |version, out| {
                request.encode(version, out);
            });
        }
        MetadataQuery::InitProducerId => {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                identity: ProducerIdentity::NONE,
            };
            connection.send_simple(now, RequestKind::InitProducerId, version, |version, out| {
                request.encode(version, out);
            });
        }
    }
}

//! How a consumer's question is put on the wire.

use super::fetch_loop::FetchParts;
use crate::engine::connection::{Connection, RequestKind};
use crate::engine::fetch::Question;
use crate::engine::protocol::{ApiKey, FetchRequest, FetchTopic, ListOffsetsRequest};

/// Asks a broker, in the newest version that both speak.
pub(super) fn send_question(
    connection: &mut Connection,
    now: u64,
    question: &Question,
    parts: &FetchParts,
) {
    match question {
        Question::Records(max_bytes, topics) => {
            let Some(version) = connection.version(ApiKey::Fetch) else { return };
            let topics = topics
                .iter()
                .map(|(name, partitions)| FetchTopic { name, partitions: partitions.clone() });
            let request = FetchRequest {
                max_wait_ms: parts.wait.0,
                min_bytes: parts.wait.1,
                max_bytes: (*max_bytes).try_into().unwrap_or(i32::MAX),
                read_committed: parts.read_committed,
                topics: &topics.collect::<Vec<_>>(),
            };
            connection.send_simple(now, RequestKind::Fetch, version, |version, out| {
                request.encode(version, out);
            });
        }
        Question::Offsets(topics) => {
            let Some(version) = connection.version(ApiKey::ListOffsets) else { return };
            let topics = topics.iter().map(|(name, questions)| (&**name, questions.clone()));
            let topics: Vec<_> = topics.collect();
            let request =
                ListOffsetsRequest { read_committed: parts.read_committed, topics: &topics };
            connection.send_simple(now, RequestKind::ListOffsets, version, |version, out| {
                request.encode(version, out);
            });
        }
    }
}

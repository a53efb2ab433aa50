//! Answers about partitions that come topic by topic.

use super::primitives::{DecodeError, Reader};

/// A topic's shortest form: an empty name and no partitions.
const TOPIC_BYTES_MIN: usize = 1 + 1;

/// Reads topics, each with its name and its partitions, of which one takes `partition_bytes_min` at
/// the least: no memory is taken for more of them than the body can hold. `read` reads a partition,
/// with its tags.
pub(super) fn read_by_topic<T>(
    r: &mut Reader<'_>,
    partition_bytes_min: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<(String, Vec<T>)>, DecodeError> {
    let mut topics = Vec::new();
    for _ in 0..r.array("topics", TOPIC_BYTES_MIN)? {
        let name = r.string("name")?.to_owned();
        let count = r.array("partitions", partition_bytes_min)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(read(r)?);
        }
        r.skip_tags("topic_tags")?;
        topics.push((name, partitions));
    }
    Ok(topics)
}

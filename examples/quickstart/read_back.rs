//! Reads everything back and compares it with what was acknowledged.

use tidegate::embedded::{EmbeddedCluster, EmbeddedRecord};

use super::{Acknowledged, numbered};

/// Every record must be there exactly once, at the partition and offset of its acknowledgement, as
/// it was sent, and behind what its thread sent to the same partition before.
pub fn check(
    cluster: &EmbeddedCluster,
    topic: &str,
    acknowledged: &[Vec<Acknowledged>],
) -> Result<(), String> {
    let mut found = 0;
    // A topic's partitions are numbered without a gap.
    let partitions = (0..).take_while(|partition| cluster.leader(topic, *partition).is_some());
    for partition in partitions {
        let records = cluster.records(topic, partition);
        found += records.len();
        let mut next = vec![0; acknowledged.len()];
        for record in &records {
            check_record(record, partition, acknowledged, &mut next)
                .map_err(|wrong| format!("{topic}-{partition}@{}: {wrong}", record.offset))?;
        }
    }
    // As each was where it was acknowledged, none was there twice; so none is missing if the
    // numbers agree.
    let sent: usize = acknowledged.iter().map(Vec::len).sum();
    if found != sent {
        return Err(format!("{sent} records were acknowledged, {found} are in the topic"));
    }
    Ok(())
}

/// `next` holds, for each thread, the least number that may come next in this partition.
fn check_record(
    record: &EmbeddedRecord,
    partition: i32,
    acknowledged: &[Vec<Acknowledged>],
    next: &mut [u32],
) -> Result<(), String> {
    let value = record.value.as_deref().ok_or("it has no value")?;
    let (thread, sequence) = numbered::read(value).ok_or("its value is not what was sent")?;
    let at = acknowledged
        .get(thread as usize)
        .and_then(|records| records.get(sequence as usize))
        .ok_or_else(|| format!("record {sequence} of thread {thread} was never sent"))?;
    if (at.partition, at.offset) != (partition, record.offset) {
        let (partition, offset) = (at.partition, at.offset);
        return Err(format!(
            "record {sequence} of thread {thread} was acknowledged as {partition}@{offset}"
        ));
    }
    let next = &mut next[thread as usize];
    if sequence < *next {
        return Err(format!("record {sequence} of thread {thread} comes after {}", *next - 1));
    }
    *next = sequence + 1;
    Ok(())
}

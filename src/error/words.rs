//! Sentences that the errors of this module share: clauses that depend on their fields.

use std::sync::Arc;

use super::PressureScope;
use crate::problem::Problem;

pub(super) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_deref().map(|name| format!(": did you mean \"{name}\"?")).unwrap_or_default()
}

pub(super) fn out_of_range(partition: i32, partitions: i32, by_partitioner: bool) -> String {
    let by = if by_partitioner { "chosen by the partitioner" } else { "named by the record" };
    if partition < 0 {
        return format!(
            "partition {partition}, {by}, does not exist: partitions are counted from 0"
        );
    }
    format!("partition {partition}, {by}, does not exist: the topic has {partitions}")
}

/// Records that were to be sent together.
pub(super) fn not_together(partition: Option<i32>, other: Option<i32>) -> String {
    match (partition, other) {
        (Some(partition), Some(other)) => format!(
            "records that are sent together go to one partition: one of them names {partition}, \
             another {other}"
        ),
        _ => "there is no record to be sent".to_owned(),
    }
}

/// A record without partition, where each must name one.
pub(super) const NOT_NAMED: &str = "the record names no partition, and this producer's partitioner \
     chooses none: set one with Record::partition";

/// Why a level takes no record now. The watermarks may have moved since it was full.
pub(super) fn level(scope: PressureScope, queued: usize, low: usize, high: usize) -> String {
    let over = |whose: &str| {
        format!(
            "{queued} bytes are queued for {whose}, which went over the high watermark and takes \
             no more until it is below the low one ({low} bytes; the high one is {high} now)"
        )
    };
    match scope {
        PressureScope::Broker(id) => over(&format!("broker {id}")),
        PressureScope::Leaderless => over("partitions without a leader"),
        PressureScope::Stash => format!(
            "{queued} bytes wait for topics that are not known yet, and {high} is the most for \
             those"
        ),
        PressureScope::Pool => format!(
            "{queued} of the {high} bytes of buffer_memory (buffer.memory) are taken, and what \
             is left is too little for the record, or promised to others"
        ),
    }
}

/// Who keeps a sender waiting.
pub(super) fn obstruction(scope: PressureScope) -> String {
    match scope {
        PressureScope::Broker(id) => {
            format!("broker {id} takes records slower than they are sent, or not at all")
        }
        PressureScope::Leaderless => "partitions without a leader have used up their share of \
             buffer_memory (buffer.memory)"
            .to_owned(),
        PressureScope::Stash => "the topic is not known yet, and what waits for such topics has \
             used up its share of buffer_memory (buffer.memory): does the topic exist, \
             and does a broker answer?"
            .to_owned(),
        PressureScope::Pool => "buffer_memory (buffer.memory) is used up: brokers take \
             records slower than they are sent, or not at all"
            .to_owned(),
    }
}

pub(super) fn in_its_words(message: &Option<Arc<str>>) -> String {
    message.as_deref().map(|words| format!(" (\"{words}\")")).unwrap_or_default()
}

pub(super) fn last_cause(last: &Option<Problem>) -> String {
    last.as_ref().map(|cause| format!("; last cause: {cause}")).unwrap_or_default()
}

//! Which answer of a Produce response belongs to which batch.

use std::collections::HashMap;

use crate::protocol::{PartitionId, PartitionResponse, ProduceResponse, TopicRef};

/// Responses with more partitions than this are searched through an index.
const LINEAR_SEARCH_MAX: usize = 16;

/// Finds each batch's answer: usually at the batch's own position.
pub(super) struct Answers<'a> {
    answers: Vec<(TopicRef<'a>, &'a PartitionResponse)>,
    /// Made when a large response is not in the request's order.
    index: Option<HashMap<(TopicRef<'a>, PartitionId), usize>>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(response: &'a ProduceResponse) -> Self {
        Answers { answers: response.iter().collect(), index: None }
    }

    /// The answer for the batch that was the request's `position`th, as its topic was named there.
    pub(super) fn find<'b>(
        &mut self,
        position: usize,
        topic: TopicRef<'b>,
        partition: PartitionId,
    ) -> Option<&'a PartitionResponse>
    where
        'a: 'b,
    {
        let is_it = |&&(name, answer): &&(TopicRef<'_>, &PartitionResponse)| {
            answer.partition == partition && name == topic
        };
        let is_here = |entry: &&(TopicRef<'_>, &PartitionResponse)| {
            is_it(entry) || planted!(CompletesByPosition)
        };
        if let Some((_, answer)) = self.answers.get(position).filter(is_here) {
            return Some(answer);
        }
        if self.answers.len() <= LINEAR_SEARCH_MAX {
            return self.answers.iter().find(is_it).map(|(_, answer)| *answer);
        }
        let answers = &self.answers;
        let index = self.index.get_or_insert_with(|| {
            let mut index = HashMap::with_capacity(answers.len());
            for (position, (topic, answer)) in answers.iter().enumerate() {
                // Where a partition is answered twice, the first answer counts.
                index.entry((*topic, answer.partition)).or_insert(position);
            }
            index
        });
        let at = *index.get(&(topic, partition))?;
        Some(self.answers[at].1)
    }
}

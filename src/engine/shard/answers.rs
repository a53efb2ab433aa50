//! Which answer of a Produce response belongs to which batch.

use std::collections::HashMap;

use crate::engine::protocol::{PartitionId, PartitionResponse, ProduceResponse, TopicRef};

/// Responses with more partitions than this are searched through an index.
const LINEAR_SEARCH_MAX: usize = 16;

/// Finds each batch's answer: usually at the batch's own position.
pub(super) struct Answers<'a> {
    answers: Vec<(TopicRef<'a>, &'a PartitionResponse)>,
    /// Made when a large response is not in the request's order, or one has more answers than were
    /// asked for. `None`: answered twice, and not alike, so not answered.
    index: Option<HashMap<(TopicRef<'a>, PartitionId), Option<usize>>>,
}

impl<'a> Answers<'a> {
    /// The answers to a request of `batches` batches.
    pub(super) fn new(response: &'a ProduceResponse, batches: usize) -> Self {
        let mut answers = Answers { answers: response.iter().collect(), index: None };
        if answers.answers.len() > batches {
            answers.make_index();
        }
        answers
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
        if let Some(index) = &self.index {
            let at = (*index.get(&(topic, partition))?)?;
            return Some(self.answers[at].1);
        }
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
        self.make_index();
        self.find(position, topic, partition)
    }

    fn make_index(&mut self) {
        let answers = &self.answers;
        let mut index = HashMap::with_capacity(answers.len());
        for (position, (topic, answer)) in answers.iter().enumerate() {
            let known = index.entry((*topic, answer.partition)).or_insert(Some(position));
            if known.is_some_and(|known| answers[known].1 != *answer) {
                *known = None;
            }
        }
        self.index = Some(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::TopicId;

    /// A v13 response of one partition each, of the topics with these ids.
    fn response(topics: &[(u8, i64)]) -> ProduceResponse {
        let mut body = vec![topics.len() as u8 + 1];
        for (id, offset) in topics {
            body.extend([*id; 16]);
            body.push(2);
            body.extend(0_i32.to_be_bytes());
            body.extend(0_i16.to_be_bytes());
            body.extend(offset.to_be_bytes());
            body.extend((-1_i64).to_be_bytes());
            body.extend(0_i64.to_be_bytes());
            // No record errors, no message, no tags of the partition, none of the topic.
            body.extend([1, 0, 0, 0]);
        }
        body.extend(0_i32.to_be_bytes());
        body.push(0);
        let mut response = ProduceResponse::new();
        response.decode_into(13, &body).expect("a response");
        response
    }

    #[test]
    fn c20_an_answer_belongs_to_the_id_that_was_sent() {
        for filler in [0, 40] {
            // With many topics they are searched through an index.
            let fillers = (100..100 + filler).map(|id| (id, 0));
            let topics: Vec<_> = [(1, 10), (2, 20)].into_iter().chain(fillers).collect();
            let response = response(&topics);
            let mut answers = Answers::new(&response, topics.len());
            let mut offset = |position, id| {
                let topic = TopicRef::Id(TopicId([id; 16]));
                answers.find(position, topic, PartitionId(0)).map(|answer| answer.base_offset)
            };
            assert_eq!([offset(0, 1), offset(1, 2)], [Some(10), Some(20)]);
            assert_eq!([offset(1, 1), offset(0, 2)], [Some(10), Some(20)], "whatever the order");
            assert_eq!(offset(0, 3), None, "the topic's new id was not asked about");
        }
    }

    #[test]
    fn f27_two_answers_that_contradict_each_other_are_none() {
        let topic = TopicRef::Id(TopicId([1; 16]));
        for (second, expected) in [(10, Some(10)), (11, None)] {
            let response = response(&[(1, 10), (1, second)]);
            let answer = Answers::new(&response, 1).find(0, topic, PartitionId(0));
            assert_eq!(answer.map(|answer| answer.base_offset), expected);
        }
    }
}

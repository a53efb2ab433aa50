//! A made-up topic, for tests of partitioners.

use super::{PartitionRequest, PartitionView, Partitions};

#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub count: i32,
    /// The partitions that are not available.
    pub down: Vec<i32>,
    /// The load of each partition; 0 for those that are not in it.
    pub loads: Vec<u32>,
    pub refreshes: u32,
}

impl Topic {
    pub fn new(count: i32) -> Self {
        Topic { count, ..Topic::default() }
    }
}

impl PartitionView for Topic {
    fn count(&self) -> i32 {
        self.count
    }

    fn is_available(&self, partition: i32) -> bool {
        (0..self.count).contains(&partition) && !self.down.contains(&partition)
    }

    fn load(&self, partition: i32) -> u32 {
        self.loads.get(partition as usize).copied().unwrap_or(0)
    }

    fn refreshes(&self) -> u32 {
        self.refreshes
    }
}

pub(super) fn request<'a>(topic: &'a Topic, key: Option<&'a [u8]>) -> PartitionRequest<'a> {
    PartitionRequest::new("t", key, None, Partitions::new(topic))
}

//! What happens, and when: the simulation's only notion of time.

use std::collections::BTreeMap;

use super::partition::Known;
use super::plan::Fault;

#[derive(Debug)]
pub enum Event {
    Fault(usize),
    Load(usize),
    /// Bytes arrive at the broker, or at the client.
    ToBroker {
        wire: usize,
        bytes: Vec<u8>,
    },
    ToClient {
        wire: usize,
        bytes: Vec<u8>,
    },
    /// The client, or the broker, sees that the connection is gone.
    ClientReset {
        wire: usize,
    },
    BrokerReset {
        wire: usize,
    },
    Connected {
        wire: usize,
    },
    Refused {
        wire: usize,
    },
    /// The socket takes bytes again.
    Writable {
        wire: usize,
    },
    Fetch {
        topic: usize,
        partition: usize,
        replica: usize,
    },
    Learn {
        broker: usize,
        topic: usize,
        partition: usize,
        known: Known,
    },
    /// The broker leads no longer, or is no longer in sync, if it is still away.
    Elect {
        broker: usize,
    },
    Shrink {
        broker: usize,
    },
    AckTimeout {
        wire: usize,
        serial: u64,
    },
    /// Of the metadata channel.
    ChannelReady {
        generation: u64,
    },
    ChannelAnswer {
        generation: u64,
    },
    ChannelLost {
        generation: u64,
    },
    /// A fault has lasted as long as it should.
    Over(Fault),
}

#[derive(Default)]
pub struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    pub now: u64,
}

impl Queue {
    pub fn push(&mut self, after: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + after, self.serial), event);
    }

    pub fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn pop_due(&mut self) -> Option<Event> {
        self.next_at().filter(|&at| at <= self.now)?;
        self.events.pop_first().map(|(_, event)| event)
    }
}

//! How the world drives a shard: in the place of an event loop and its sockets.

use std::io::IoSlice;

use tidegate::internals::shard::{Action, Driver, turn};

use super::*;

/// A shard in its world.
struct AtShard<'a> {
    world: &'a mut World,
    index: usize,
}

impl Driver for AtShard<'_> {
    fn shard(&mut self) -> &mut Shard {
        &mut self.world.shards[self.index]
    }

    fn write(&mut self, _now: u64, token: Token) -> bool {
        self.world.write(self.index, token)
    }

    fn act(&mut self, _now: u64, action: Action) {
        self.world.act_on(self.index, action);
    }
}

impl World {
    /// Turns of a shard, until it has nothing to do at once.
    pub(super) fn drive_shard(&mut self, index: usize) {
        self.deliver_responses(index);
        let port = self.ports.port(ShardId(index as u16)).expect("the shard exists").clone();
        if self.lanes_come_first {
            // A turn with the lanes alone, and one with the rest.
            let messages = std::iter::from_fn(|| port.pop_control());
            let (lanes, rest): (Vec<_>, Vec<_>) =
                messages.partition(|message| matches!(message, Control::Lane(_)));
            lanes.into_iter().for_each(|lane| port.send(lane));
            self.take_turns(index, &port);
            rest.into_iter().for_each(|message| port.send(message));
        }
        self.take_turns(index, &port);
        let timers = self.shards[index].timer_count();
        assert!(timers <= TIMERS_MAX, "{timers} timers");
    }

    fn take_turns(&mut self, index: usize, port: &ShardPort) {
        loop {
            self.acted = false;
            let turn = turn(self.now(), port, &mut AtShard { world: self, index });
            if !turn.more && !self.acted {
                return;
            }
        }
    }

    fn deliver_responses(&mut self, index: usize) {
        let now = self.now();
        let keys: Vec<_> = self.wires.keys().filter(|key| key.0 == index).copied().collect();
        for key in keys {
            while let Some(wire) = self.wires.get_mut(&key)
                && wire.outbound.front().is_some_and(|(at, _)| *at <= now)
                && let Some((_, mut bytes)) = wire.outbound.pop_front()
            {
                wire.unanswered.pop_front();
                let token = Token { broker: key.1, generation: key.2 };
                while !bytes.is_empty() {
                    let Some(space) = self.shards[index].space(token) else { break };
                    let part = space.len().min(bytes.len());
                    space[..part].copy_from_slice(&bytes[..part]);
                    bytes.drain(..part);
                    self.shards[index].handle_filled(now, token, part);
                }
                self.act(index);
            }
        }
    }

    /// Carries what a connection has to write to its broker.
    fn write(&mut self, index: usize, token: Token) -> bool {
        let now = self.now();
        let mut bytes = Vec::new();
        {
            let mut slices = [IoSlice::new(&[]); 64];
            let used = self.shards[index].slices(token, &mut slices);
            slices[..used].iter().for_each(|slice| bytes.extend_from_slice(slice));
        }
        self.shards[index].handle_written(now, token, bytes.len());
        let key = (index, token.broker, token.generation);
        let wire = self.wires.get_mut(&key).expect("only open connections write");
        wire.inbound.extend_from_slice(&bytes);
        self.serve(key);
        true
    }

    /// The broker takes the whole frames that it has received.
    fn serve(&mut self, key: (usize, usize, u32)) {
        let now = self.now();
        while let Some(wire) = self.wires.get_mut(&key) {
            let Some(size) = wire.inbound.first_chunk::<4>() else { return };
            let end = 4 + u32::from_be_bytes(*size) as usize;
            if wire.inbound.len() < end {
                return;
            }
            let frame: Vec<u8> = wire.inbound.drain(..end).skip(4).collect();
            let broker = wire.broker;
            // Behind the API's key and version. An answer could be taken for another one's else.
            assert_eq!(frame[4..8], wire.requests.to_be_bytes(), "rule 26");
            wire.requests += 1;
            // The first two bytes are the API's key; that of Produce is 0.
            if self.model.moods[&broker] == Mood::Closing && frame[..2] == [0, 0] {
                self.note(Event::Closed { broker });
                return self.cut(broker);
            }
            let (mut response, received) = self.model.handle(broker, &frame);
            // Produce without acknowledgements: an error is told by closing, success not at all.
            let unconfirmed = self.acks == 0 && frame[..2] == [0, 0];
            if unconfirmed && received.iter().any(|received| received.error != 0) {
                received.into_iter().for_each(|received| self.note(Event::Received(received)));
                self.note(Event::Closed { broker });
                return self.cut(broker);
            }
            response = response.filter(|_| !unconfirmed);
            if received.len() > 1 {
                self.longest_shared = self.longest_shared.max(frame.len());
            }
            let partitions: Vec<_> = received.iter().map(|received| received.partition).collect();
            for &partition in &partitions {
                self.assert_settled_elsewhere(broker, partition);
            }
            let wire = self.wires.get_mut(&key).expect("it was there");
            if !unconfirmed {
                wire.unanswered.push_back(partitions);
            }
            let latency = self.slow.get(&broker).copied().unwrap_or(LATENCY);
            wire.outbound.extend(response.map(|bytes| (now + latency, bytes)));
            received.into_iter().for_each(|received| self.note(Event::Received(received)));
        }
    }

    /// What holds always: a partition's batches are with one broker at a time (rule 17).
    fn assert_settled_elsewhere(&self, broker: i32, partition: i32) {
        let elsewhere = self.wires.values().find(|wire| {
            let asked = wire.unanswered.iter().flatten().any(|&other| other == partition);
            wire.broker != broker && asked
        });
        if let Some(wire) = elsewhere {
            panic!("partition {partition} is sent to {broker} and unsettled at {}", wire.broker);
        }
    }

    /// Does what the shard asks for before its next turn.
    fn act(&mut self, index: usize) {
        while let Some(action) = self.shards[index].poll_action() {
            self.act_on(index, action);
        }
    }

    fn act_on(&mut self, index: usize, action: Action) {
        let now = self.now();
        self.acted = true;
        match action {
            Action::Connect { token, broker, .. } if self.model.moods[&broker.0] == Mood::Dead => {
                self.note(Event::Refused { broker: broker.0 });
                self.shards[index].handle_down(now, token, "connection refused".into());
            }
            Action::Connect { token, broker, .. } => {
                let wire = Wire {
                    broker: broker.0,
                    inbound: Vec::new(),
                    outbound: VecDeque::new(),
                    requests: 0,
                    unanswered: VecDeque::new(),
                };
                self.wires.insert((index, token.broker, token.generation), wire);
                self.shards[index].handle_connected(now, token);
            }
            Action::Close { token, .. } => {
                let wire = self.wires.remove(&(index, token.broker, token.generation));
                let broker = wire.expect("it was open").broker;
                self.note(Event::Closed { broker });
            }
            Action::Login { .. } => unreachable!("no login is configured"),
            Action::SendLane { shard, head } => {
                self.note(Event::LaneSent { from: index, to: usize::from(shard.0) });
                if let Some(value) = self.sent_while_a_lane_moves.take() {
                    // The sender had read the old owner before the lane left.
                    let old = self.ports.port(ShardId(index as u16)).expect("it exists");
                    let partition = head.tail.partition.0;
                    self.sent_meanwhile =
                        Some(self.append(partition, &value, |lane| old.post(lane)));
                }
                let port = self.ports.port(shard).expect("views name shards that exist");
                port.send(Control::Lane(head));
            }
            Action::RefreshMetadata => self.machine.handle_refresh_wanted(),
            Action::WantTopic(topic) => {
                self.machine.handle_wanted(now, topic, Want::Lane);
            }
            Action::Hint(hint) => {
                self.note(Event::Hinted);
                self.machine.handle_hint(&hint);
            }
            Action::NewIdentity(used_up) => self.machine.handle_identity_wanted(used_up),
            Action::AskIdentity => self.machine.handle_identity_possible(now),
        }
    }
}

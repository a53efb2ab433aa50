//! The world's driver of shards and of the metadata machine, in the place of `src/io/`.

use std::io::IoSlice;

use tidegate::internals::cluster::{BrokerAddress, ChannelId, LeaderHint, MetadataQuery, Want};
use tidegate::internals::protocol::{ErrorCode, InitProducerIdResponse, ProducerIdentity};
use tidegate::internals::shard::{Action, Control, Driver, Shard, Token, turn};

use super::events::Event;
use super::network::{Wire, full_for};
use super::plan::MS;
use super::world::{Answer, Link, World};

const SLICES_MAX: usize = 32;
/// How long a request that was made before may wait for a full socket.
const OLD_ADDRESS_MAX: u64 = 500 * MS;

/// A shard in its world.
struct AtShard<'a> {
    world: &'a mut World,
    index: usize,
}

impl Driver for AtShard<'_> {
    fn shard(&mut self) -> &mut Shard {
        &mut self.world.client.shards[self.index]
    }

    fn write(&mut self, _now: u64, token: Token) -> bool {
        self.world.write(self.index, token)
    }

    fn act(&mut self, _now: u64, action: Action) {
        self.world.act_on(self.index, action);
    }
}

impl World {
    /// One turn of a shard, if anything is to do. Returns whether it wants another.
    pub fn drive_shard(&mut self, index: usize) -> bool {
        let now = self.now();
        let port = self.client.ports.iter().nth(index).expect("it was added").clone();
        let shard = &mut self.client.shards[index];
        let due = shard.poll_timeout().is_some_and(|at| at <= now);
        if !port.has_news() && !due && !self.touched[index] {
            return false;
        }
        self.touched[index] = false;
        let turn = turn(now, &port, &mut AtShard { world: self, index });
        self.client.accumulator.flush.notify();
        self.touched[index] |= turn.more;
        turn.more
    }

    /// Carries what a connection has to write as far as its socket takes it.
    fn write(&mut self, index: usize, token: Token) -> bool {
        let now = self.now();
        let Some(wire) = self.wire_of(index, token) else { return false };
        if !self.wires[wire].writable || !self.wires[wire].client_open {
            return false;
        }
        let mut bytes = Vec::new();
        {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.client.shards[index].slices(token, &mut slices);
            slices[..used].iter().for_each(|slice| bytes.extend_from_slice(slice));
        }
        let (net, rng) = (&self.plan.net, &mut self.rng);
        let taken = self.wires[wire].takes(net, rng, bytes.len());
        if taken < bytes.len() {
            bytes.truncate(taken);
            self.wires[wire].writable = false;
            self.queue.push(full_for(rng), Event::Writable { wire });
        }
        self.check_address(wire, &bytes);
        let (net, rng) = (&self.plan.net, &mut self.rng);
        self.client.shards[index].handle_written(now, token, taken);
        self.wires[wire].send(wire, net, rng, &mut self.queue, bytes);
        true
    }

    /// No request begins on a connection to a broker's old address, once what was there has gone.
    fn check_address(&mut self, wire: usize, bytes: &[u8]) {
        let begins = self.wires[wire].begins_frame(bytes);
        let it = &self.wires[wire];
        if let Some(&(port, since)) = self.channel.addresses.get(&it.broker)
            && begins
            && it.port != port
        {
            let for_long = self.now() - since > OLD_ADDRESS_MAX;
            assert!(!for_long, "a request goes to the old address of broker {}", it.broker);
        }
    }

    /// The client was told of brokers and where they are.
    fn note_addresses(&mut self) {
        let now = self.now();
        for (id, address) in &self.client.machine.snapshot().brokers {
            let broker = id.0 as usize - 1;
            let known = self.channel.addresses.entry(broker).or_insert((address.port, now));
            if known.0 != address.port {
                *known = (address.port, now);
            }
        }
    }

    fn wire_of(&self, shard: usize, token: Token) -> Option<usize> {
        let &(generation, wire) = self.open.get(&(shard, token.broker))?;
        (generation == token.generation).then_some(wire)
    }

    /// Does what the shard asks for, as the real loop does.
    pub fn act(&mut self, index: usize) {
        while let Some(action) = self.client.shards[index].poll_action() {
            self.act_on(index, action);
        }
    }

    fn act_on(&mut self, index: usize, action: Action) {
        match action {
            Action::Connect { token, broker, address } => {
                let broker = broker.0 as usize - 1;
                let wire = self.wires.len();
                let (net, rng) = (&self.plan.net, &mut self.rng);
                let mut made = Wire::new(net, rng, (index, token), (broker, address.port));
                if self.healed_at.is_some() {
                    made.heal();
                }
                self.wires.push(made);
                self.open.insert((index, token.broker), (token.generation, wire));
                let after = self.rng.range(self.plan.net.latency.0, self.plan.net.latency.1);
                let it = &self.cluster.brokers[broker];
                let refused = it.down > 0 || it.refuses > 0 || !it.answers_at(address.port);
                let event =
                    if refused { Event::Refused { wire } } else { Event::Connected { wire } };
                self.queue.push(2 * after, event);
            }
            Action::Close { token, .. } => {
                let wire = self.wire_of(index, token).expect("it was open");
                self.close(wire);
            }
            Action::Login { .. } => unreachable!("no login is configured"),
            Action::SendLane { shard, head } => {
                if self.trace {
                    let lane = &head.tail;
                    let (topic, partition) = (&lane.topic, lane.partition);
                    self.note(format_args!("{topic}-{partition} moves to {shard:?}"));
                }
                let port = self.client.ports.port(shard);
                port.expect("views name shards that exist").send(Control::Lane(head));
            }
            Action::RefreshMetadata => self.client.machine.handle_refresh_wanted(),
            Action::WantTopic(topic) => {
                let now = self.now();
                self.client.machine.handle_wanted(now, topic, Want::Lane);
            }
            Action::Hint(hint) => {
                if self.trace {
                    self.note(format_args!("{hint:?}"));
                }
                self.client.machine.handle_hint(&hint);
                self.hear(&hint);
            }
            Action::NewIdentity(used_up) => {
                self.client.machine.handle_identity_wanted(used_up);
            }
            Action::AskIdentity => {
                let now = self.now();
                self.client.machine.handle_identity_possible(now);
            }
        }
    }

    /// The client closes a connection; what it wrote may still arrive.
    fn close(&mut self, wire: usize) {
        if self.trace {
            self.note(format_args!("the client closes wire {wire}"));
        }
        let it = &mut self.wires[wire];
        it.client_open = false;
        self.open.remove(&(it.shard, it.token.broker));
        self.queue.push(self.plan.net.latency.1, Event::BrokerReset { wire });
    }

    /// The shard hears that a connection is gone, or was never made.
    pub fn lose(&mut self, wire: usize, problem: &str) {
        let now = self.now();
        let it = &mut self.wires[wire];
        it.client_open = false;
        let (shard, token) = (it.shard, it.token);
        if self.wire_of(shard, token) != Some(wire) || self.client.shards.is_empty() {
            return;
        }
        if self.trace {
            self.note(format_args!("wire {wire}: {problem}"));
        }
        self.open.remove(&(shard, token.broker));
        self.client.shards[shard].handle_down(now, token, problem.into());
        self.touched[shard] = true;
    }

    /// Bytes reach the shard.
    pub fn receive(&mut self, wire: usize, bytes: &[u8]) {
        let now = self.now();
        let (shard, token) = (self.wires[wire].shard, self.wires[wire].token);
        if !self.wires[wire].client_open {
            return;
        }
        self.touched[shard] = true;
        let mut left = bytes;
        while !left.is_empty() && self.wires[wire].client_open {
            let Some(space) = self.client.shards[shard].space(token) else { return };
            let part = space.len().min(left.len());
            space[..part].copy_from_slice(&left[..part]);
            left = &left[part..];
            self.client.shards[shard].handle_filled(now, token, part);
            self.act(shard);
        }
    }

    pub fn drive_metadata(&mut self) {
        let now = self.now();
        while let Some(id) = self.client.machine.poll_close(now) {
            self.channel.links[id.index()] = Link::default();
        }
        while let Some((id, address)) = self.client.machine.poll_connect(now) {
            self.connect_channel(id, &address);
        }
        for id in ChannelId::ALL {
            if let Some(query) = self.client.machine.poll_query(id, now) {
                self.ask(id, query);
            }
        }
        self.client.publisher.fail_unknown(now, &mut self.client.machine);
        self.client.publisher.publish(now, &mut self.client.machine, &mut self.client.host);
    }

    fn connect_channel(&mut self, id: ChannelId, address: &BrokerAddress) {
        let number = address.host.rsplit('.').next().and_then(|part| part.parse().ok());
        let broker: usize = number.expect("the model's hosts end in the broker's number");
        let broker = broker - 1;
        if self.trace {
            self.note(format_args!("metadata channel {}: to broker {broker}", id.index()));
        }
        self.channel.generation += 1;
        let generation = self.channel.generation;
        self.channel.links[id.index()] =
            Link { generation, broker: Some(broker), ..Link::default() };
        let it = &self.cluster.brokers[broker];
        let (answers, there) = (it.paused == 0 && self.channel.silent == 0, it.down == 0);
        match (there, answers) {
            (false, _) => self.queue.push(MS, Event::ChannelLost { generation }),
            (_, false) => self.queue.push(40 * MS, Event::ChannelLost { generation }),
            _ => self.queue.push(MS, Event::ChannelReady { generation }),
        }
    }

    /// Which of the machine's connections that is, if it is one still.
    pub fn channel_of(&self, generation: u64) -> Option<ChannelId> {
        let is_it = |id: &ChannelId| self.channel.links[id.index()].generation == generation;
        ChannelId::ALL.into_iter().find(is_it)
    }

    fn ask(&mut self, channel: ChannelId, query: MetadataQuery) {
        let link = &self.channel.links[channel.index()];
        let generation = link.generation;
        let broker = link.broker.expect("there is a connection to ask on");
        let it = &self.cluster.brokers[broker];
        if it.is_away() || self.channel.silent > 0 {
            return self.queue.push(60 * MS, Event::ChannelLost { generation });
        }
        let answer = match query {
            MetadataQuery::Metadata(_) => Answer::Metadata(self.cluster.metadata(broker)),
            MetadataQuery::InitProducerId => {
                self.channel.identities += 1;
                let first = self.channel.identities == 1;
                let epoch = if first { self.plan.first_epoch } else { 0 };
                let id = 1_000 + self.channel.identities;
                Answer::Identity(InitProducerIdResponse {
                    throttle_time_ms: 0,
                    error: ErrorCode::NONE,
                    identity: ProducerIdentity { id, epoch },
                })
            }
        };
        self.channel.links[channel.index()].answer = Some(answer);
        let after = 2 * self.rng.range(self.plan.net.latency.0, self.plan.net.latency.1);
        self.queue.push(after, Event::ChannelAnswer { generation });
    }

    pub fn channel_answer(&mut self, generation: u64) {
        let Some(id) = self.channel_of(generation) else { return };
        let now = self.now();
        match self.channel.links[id.index()].answer.take() {
            Some(Answer::Metadata(response)) => {
                for (index, topic) in response.topics.iter().enumerate() {
                    for partition in &topic.partitions {
                        let place = (index, topic.id, partition.partition.0 as usize);
                        let told = self.channel.told.entry(place).or_insert(-1);
                        *told = (*told).max(partition.leader_epoch);
                    }
                }
                self.client.machine.handle_metadata(id, now, &response);
                self.note_addresses();
                self.check_epochs();
            }
            Some(Answer::Identity(response)) => {
                self.client.machine.handle_identity(id, now, &response);
            }
            None => {}
        }
    }

    /// A hint that was believed counts as news.
    fn hear(&mut self, hint: &LeaderHint) {
        self.note_addresses();
        let snapshot = self.client.machine.snapshot();
        let believed = snapshot.partition(&hint.topic, hint.partition);
        let topic = self.client.topics.iter().position(|topic| topic.name == hint.topic);
        if let (Some(view), Some(topic)) = (believed, topic) {
            let place = (topic, snapshot.topics[&hint.topic].id, hint.partition.0 as usize);
            let told = self.channel.told.entry(place).or_insert(-1);
            *told = (*told).max(view.epoch);
        }
    }

    /// An older leader epoch than one that was told of is not followed.
    fn check_epochs(&mut self) {
        let snapshot = self.client.machine.snapshot();
        // An isolated broker may bring back a topic that was deleted: it is another one again, and
        // what was known of it is forgotten.
        let topics = &self.client.topics;
        self.channel.told.retain(|&(topic, id, _), _| {
            snapshot.topics.get(&topics[topic].name).is_none_or(|view| view.id == id)
        });
        for (&(topic, id, partition), &told) in &self.channel.told {
            let name = &self.client.topics[topic].name;
            if snapshot.topics.get(name).is_none_or(|view| view.id != id) {
                continue;
            }
            let partition = tidegate::internals::protocol::PartitionId::from_index(partition);
            let Some(view) = snapshot.partition(name, partition) else { continue };
            assert!(view.epoch >= told, "{name}-{partition}: epoch {} after {told}", view.epoch);
        }
    }
}

//! What events and faults do to the model.

use super::events::Event;
use super::partition::BROKERS_MAX;
use super::plan::{Fault, MS};
use super::produce::{Odd, Served, serve};
use super::world::{Link, World};

impl World {
    pub fn handle(&mut self, event: Event) {
        if let Some(broker) = self.receiver(&event) {
            let it = &mut self.cluster.brokers[broker];
            let is_news = matches!(event, Event::Learn { .. });
            if it.paused > 0 || is_news && it.lags > 0 {
                it.deferred.push(event);
                return;
            }
        }
        match event {
            Event::Fault(index) => self.begin(self.plan.faults[index].1.clone()),
            Event::Load(index) => self.load(self.plan.loads[index]),
            Event::ToBroker { wire, bytes } => {
                self.wires[wire].inbound.extend_from_slice(&bytes);
                self.serve(wire);
            }
            Event::ToClient { wire, bytes } => self.receive(wire, &bytes),
            Event::ClientReset { wire } => self.lose(wire, "connection reset"),
            Event::BrokerReset { wire } => {
                let wire = &mut self.wires[wire];
                // What was received before is carried out; nobody hears of it.
                wire.swallows = (true, true);
            }
            Event::Connected { wire } => self.connected(wire),
            Event::Refused { wire } => self.lose(wire, "connection refused"),
            Event::Writable { wire } => {
                self.wires[wire].writable = true;
                self.touched[self.wires[wire].shard] = true;
            }
            Event::Fetch { topic, partition, replica } => {
                if self.cluster.fetched(topic, partition, replica) {
                    self.progress();
                }
                self.cluster.fetch(&mut self.queue, &mut self.rng, topic, partition);
            }
            Event::Learn { topic, id, .. } if self.cluster.topics[topic].id != id => {}
            Event::Learn { broker, topic, partition, known, .. } => {
                let believed = &mut self.cluster.partition(topic, partition).believed[broker];
                if believed.epoch < known.epoch {
                    *believed = known;
                    self.progress();
                }
            }
            Event::Elect { broker } => {
                self.cluster.replace(&mut self.queue, &mut self.rng, broker);
                self.progress();
            }
            Event::Shrink { broker } => {
                self.cluster.shrink(broker);
                self.progress();
            }
            Event::AckTimeout { wire, serial } => {
                if self.wires[wire].serial == serial
                    && let Some(pending) = &mut self.wires[wire].busy
                {
                    pending.time_out();
                    self.progress();
                }
            }
            Event::ChannelReady { generation } => {
                if let Some(id) = self.channel_of(generation) {
                    self.client.machine.handle_ready(id);
                }
            }
            Event::ChannelAnswer { generation } => self.channel_answer(generation),
            Event::ChannelLost { generation } => {
                if let Some(id) = self.channel_of(generation) {
                    self.channel.links[id.index()] = Link::default();
                    let now = self.queue.now;
                    self.client.machine.handle_down(id, now, "connection lost".into());
                }
            }
            Event::Over(fault) => self.end(&fault),
        }
    }

    /// The broker that an event happens to, if it must be awake for it.
    fn receiver(&self, event: &Event) -> Option<usize> {
        match event {
            Event::ToBroker { wire, .. }
            | Event::BrokerReset { wire }
            | Event::AckTimeout { wire, .. } => Some(self.wires[*wire].broker),
            Event::Learn { broker, .. } => Some(*broker),
            _ => None,
        }
    }

    fn connected(&mut self, wire: usize) {
        let now = self.now();
        let it = &mut self.wires[wire];
        let (shard, token) = (it.shard, it.token);
        if self.open.get(&(shard, token.broker)) != Some(&(token.generation, wire)) {
            return;
        }
        let broker = &self.cluster.brokers[it.broker];
        if broker.down > 0 || !broker.answers_at(it.port) {
            return self.lose(wire, "connection refused");
        }
        it.client_open = true;
        self.client.shards[shard].handle_connected(now, token);
        self.touched[shard] = true;
    }

    /// The broker takes the whole frames that it has received, one after the other.
    fn serve(&mut self, wire: usize) {
        loop {
            let it = &mut self.wires[wire];
            if it.busy.is_some() || !it.broker_open {
                return;
            }
            let Some(size) = it.inbound.first_chunk::<4>() else { return };
            let size = u32::from_be_bytes(*size) as usize;
            if size > self.plan.request_max {
                it.broker_open = false;
                let (net, rng) = (&self.plan.net, &mut self.rng);
                return self.wires[wire].break_off(wire, net, rng, &mut self.queue);
            }
            let end = 4 + size;
            if it.inbound.len() < end {
                return;
            }
            let frame: Vec<u8> = it.inbound.drain(..end).skip(4).collect();
            let broker = it.broker;
            match serve(&mut self.cluster, &self.plan, self.queue.now, broker, frame) {
                Served::Response(bytes) => {
                    let (net, rng) = (&self.plan.net, &mut self.rng);
                    self.wires[wire].answer(wire, net, rng, &mut self.queue, bytes);
                }
                Served::Produce(pending) => {
                    if self.trace {
                        self.note(format_args!("broker {broker}, wire {wire}: {pending:?}"));
                    }
                    let it = &mut self.wires[wire];
                    it.serial += 1;
                    let after = pending.timeout_ms as u64 * MS;
                    self.queue.push(after, Event::AckTimeout { wire, serial: it.serial });
                    let touched: Vec<_> = pending.places().collect();
                    it.busy = Some(pending);
                    self.busy.insert(wire);
                    for (topic, partition) in touched {
                        self.cluster.fetch(&mut self.queue, &mut self.rng, topic, partition);
                    }
                    self.progress_one(wire);
                }
            }
        }
    }

    /// Something changed that requests may wait for.
    fn progress(&mut self) {
        for wire in self.busy.iter().copied().collect::<Vec<_>>() {
            if self.progress_one(wire) {
                self.serve(wire);
            }
        }
    }

    fn progress_one(&mut self, wire: usize) -> bool {
        let broker = self.wires[wire].broker;
        let Some(pending) = &mut self.wires[wire].busy else { return false };
        if self.cluster.brokers[broker].is_away() {
            return false;
        }
        if !pending.progress(&self.cluster, self.plan.min_isr) {
            return false;
        }
        let odd = self.odd(broker);
        let it = &mut self.wires[wire];
        let pending = it.busy.take().expect("it was there");
        self.busy.remove(&wire);
        if pending.acks == 0 {
            if pending.has_failed() {
                let (net, rng) = (&self.plan.net, &mut self.rng);
                it.break_off(wire, net, rng, &mut self.queue);
            }
            return true;
        }
        if self.trace {
            self.note(format_args!("broker {broker}, wire {wire}, {odd:?}: answers {pending:?}"));
        }
        let (net, rng) = (&self.plan.net, &mut self.rng);
        let bytes = pending.respond(&self.cluster, &self.plan, rng, odd);
        self.wires[wire].answer(wire, net, rng, &mut self.queue, bytes);
        true
    }

    fn odd(&mut self, broker: usize) -> Odd {
        let it = &mut self.cluster.brokers[broker];
        if it.throttles > 0 {
            it.throttles -= 1;
            return Odd::Throttles;
        }
        if it.odd > 0 {
            it.odd -= 1;
            return self.rng.pick(&[Odd::Omits, Odd::Omits, Odd::Doubles, Odd::Invents]);
        }
        Odd::Not
    }

    /// All connections of a broker break.
    fn cut(&mut self, broker: usize) {
        for wire in 0..self.wires.len() {
            if self.wires[wire].broker == broker && self.wires[wire].broker_open {
                let (net, rng) = (&self.plan.net, &mut self.rng);
                self.wires[wire].break_off(wire, net, rng, &mut self.queue);
            }
        }
        for link in &self.channel.links {
            if link.broker == Some(broker) {
                let generation = link.generation;
                self.queue.push(MS, Event::ChannelLost { generation });
            }
        }
    }

    /// Connections to addresses where the broker answers no longer break.
    fn cut_old_addresses(&mut self, broker: usize) {
        for wire in 0..self.wires.len() {
            let (it, brokers) = (&self.wires[wire], &self.cluster.brokers);
            if it.broker == broker && it.broker_open && !brokers[broker].answers_at(it.port) {
                let (net, rng) = (&self.plan.net, &mut self.rng);
                self.wires[wire].break_off(wire, net, rng, &mut self.queue);
            }
        }
    }

    /// Nothing that is on its way to the old cluster's brokers arrives any more.
    fn change_cluster(&mut self) {
        for broker in 0..self.cluster.brokers.len() {
            self.cut(broker);
        }
        for wire in &mut self.wires {
            wire.broker_open = false;
            wire.busy = None;
        }
        self.busy.clear();
        let last_id = 1_000 + self.channel.identities;
        self.cluster.change(&mut self.queue, &mut self.rng, last_id);
        for link in &mut self.channel.links {
            link.answer = None;
        }
    }

    fn begin(&mut self, fault: Fault) {
        if self.trace {
            self.note(format_args!("fault: {fault:?}"));
        }
        let soon = self.rng.range(5 * MS, 60 * MS);
        match fault {
            Fault::Kill { broker, time } | Fault::Restart { broker, time } => {
                self.cluster.brokers[broker].down += 1;
                self.cut(broker);
                for wire in &mut self.wires {
                    if wire.broker == broker {
                        wire.broker_open = false;
                        wire.busy = None;
                    }
                }
                let wires = &self.wires;
                self.busy.retain(|&wire| wires[wire].broker != broker);
                if matches!(fault, Fault::Restart { .. }) {
                    self.cluster.stop(&mut self.queue, &mut self.rng, broker);
                    self.progress();
                }
                self.queue.push(soon, Event::Elect { broker });
                self.queue.push(time, Event::Over(fault));
            }
            Fault::Pause { broker, time } => {
                self.cluster.brokers[broker].paused += 1;
                self.queue.push(soon, Event::Elect { broker });
                self.queue.push(time, Event::Over(fault));
            }
            Fault::Lag { broker, time } => {
                self.cluster.brokers[broker].lags += 1;
                self.queue.push(soon, Event::Shrink { broker });
                self.queue.push(time, Event::Over(fault));
            }
            Fault::ChangeCluster => self.change_cluster(),
            Fault::Isolate { broker } => {
                let picture = self.cluster.metadata(broker);
                self.cluster.brokers[broker].picture = Some(picture);
            }
            Fault::Refuse { broker, time } => {
                self.cluster.brokers[broker].refuses += 1;
                self.queue.push(time, Event::Over(fault));
                self.cut(broker);
            }
            Fault::Cut { broker } => self.cut(broker),
            Fault::Swallow { broker, requests } => {
                for wire in self.wires.iter_mut().filter(|wire| wire.broker == broker) {
                    wire.swallows.0 |= requests;
                    wire.swallows.1 = true;
                }
            }
            Fault::Move { topic, partition } => {
                let candidate = self.cluster.candidate(&mut self.rng, topic, partition);
                let leader = self.cluster.partition(topic, partition).known.leader;
                if candidate.is_some() && leader.is_some() {
                    let (queue, rng) = (&mut self.queue, &mut self.rng);
                    self.cluster.elect(queue, rng, (topic, partition), candidate);
                    self.progress();
                }
            }
            Fault::Truncate { topic, partition } => {
                let (queue, rng) = (&mut self.queue, &mut self.rng);
                self.cluster.elect_uncleanly(queue, rng, topic, partition);
                self.progress();
            }
            Fault::Errors { topic, partition, injected } => {
                self.cluster.partition(topic, partition).injected.extend(injected);
            }
            Fault::Recreate { topic } => {
                self.cluster.recreate(&mut self.queue, &mut self.rng, topic);
                self.progress();
            }
            Fault::Delete { topic, partition } => self.cluster.partition(topic, partition).delete(),
            Fault::Unknown { topic, time } => {
                self.cluster.topics[topic].hidden += 1;
                self.queue.push(time, Event::Over(fault));
            }
            Fault::Grow { topic } => {
                self.cluster.grow(&mut self.queue, &mut self.rng, topic);
                self.client.machine.handle_refresh_wanted();
            }
            Fault::Odd { broker, count } => self.cluster.brokers[broker].odd += count,
            Fault::Throttle { broker, count } => self.cluster.brokers[broker].throttles += count,
            Fault::Readdress { broker, time } => {
                self.cluster.brokers[broker].moves += 1;
                self.cluster.brokers[broker].old_addresses += 1;
                self.client.machine.handle_refresh_wanted();
                self.queue.push(time, Event::Over(fault));
            }
            Fault::Silence { time } => {
                self.channel.silent += 1;
                self.queue.push(time, Event::Over(fault));
            }
        }
    }

    fn end(&mut self, fault: &Fault) {
        if self.trace {
            self.note(format_args!("over: {fault:?}"));
        }
        match *fault {
            Fault::Kill { broker, .. } | Fault::Restart { broker, .. } => {
                let down = &mut self.cluster.brokers[broker].down;
                *down = down.saturating_sub(1);
                self.is_back(broker);
            }
            Fault::Pause { broker, .. } => {
                let paused = &mut self.cluster.brokers[broker].paused;
                *paused = paused.saturating_sub(1);
                self.is_back(broker);
            }
            Fault::Lag { broker, .. } => {
                let lags = &mut self.cluster.brokers[broker].lags;
                *lags = lags.saturating_sub(1);
                self.is_back(broker);
            }
            Fault::Refuse { broker, .. } => {
                let refuses = &mut self.cluster.brokers[broker].refuses;
                *refuses = refuses.saturating_sub(1);
            }
            Fault::Unknown { topic, .. } => {
                let hidden = &mut self.cluster.topics[topic].hidden;
                *hidden = hidden.saturating_sub(1);
            }
            Fault::Readdress { broker, .. } => {
                let it = &mut self.cluster.brokers[broker];
                it.old_addresses = it.old_addresses.saturating_sub(1);
                self.cut_old_addresses(broker);
            }
            Fault::Silence { .. } => self.channel.silent = self.channel.silent.saturating_sub(1),
            _ => {}
        }
    }

    fn is_back(&mut self, broker: usize) {
        self.cluster.is_back(&mut self.queue, &mut self.rng, broker);
        if !self.cluster.brokers[broker].is_away() {
            for event in std::mem::take(&mut self.cluster.brokers[broker].deferred) {
                let after = self.rng.range(0, 2 * MS);
                let after = if matches!(event, Event::Learn { .. }) { after } else { 0 };
                self.queue.push(after, event);
            }
            self.progress();
        }
    }

    /// Everything is well from now on.
    pub fn heal(&mut self) {
        if self.trace {
            self.note(format_args!("everything is healed"));
        }
        self.healed_at = Some(self.now());
        self.channel.silent = 0;
        self.cluster.poison = 0;
        for topic in &mut self.cluster.topics {
            topic.hidden = 0;
            topic.partitions.iter_mut().for_each(|it| it.injected.clear());
        }
        for broker in 0..self.cluster.brokers.len().min(BROKERS_MAX) {
            let it = &mut self.cluster.brokers[broker];
            (it.down, it.paused, it.lags, it.refuses) = (0, 0, 0, 0);
            (it.odd, it.throttles) = (0, 0);
            self.is_back(broker);
        }
        for wire in 0..self.wires.len() {
            self.wires[wire].heal();
            if self.wires[wire].swallows.0 || self.wires[wire].swallows.1 {
                let (net, rng) = (&self.plan.net, &mut self.rng);
                self.wires[wire].break_off(wire, net, rng, &mut self.queue);
            }
        }
    }
}

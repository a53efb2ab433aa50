//! What a shard's driver says of its connections, and what it reads and writes for them.

use std::io::IoSlice;
use std::time::Duration;

use super::broker::{Broker, Connectivity};
use super::shard::{Action, Shard, Token};
use crate::engine::cluster::BrokerAddress;
use crate::engine::connection::{Connection, Incoming, LoginAnswer};
use crate::engine::event::Event;
use crate::engine::protocol::ApiKey;
use crate::logging as log;
use crate::problem::Problem;

impl Shard {
    /// The connection that an [`Action::Connect`] asked for is made.
    pub fn handle_connected(&mut self, now: u64, token: Token) {
        let config = self.config.connection.clone();
        let cluster_id = self.view.snapshot.cluster_id.clone();
        if let Some(broker) = self.broker_of(token) {
            let peer = broker.address.clone();
            let connection = Connection::new(config, peer, now).of_cluster(cluster_id);
            let is_ready = connection.is_ready();
            broker.connectivity = Connectivity::Up(Box::new(connection));
            if is_ready {
                self.handle_ready(now, token.broker);
            }
            self.tell_standing(now, token.broker);
        }
    }

    /// Where the broker at the other end of a connection listens.
    pub fn address_of(&self, token: Token) -> Option<BrokerAddress> {
        let broker = self.brokers.get(token.broker)?;
        (broker.generation == token.generation).then(|| broker.address.clone())
    }

    /// Whether the broker at the other end has said which versions it speaks.
    pub fn has_versions(&self, token: Token) -> bool {
        self.connection_of(token).is_some_and(Connection::has_versions)
    }

    /// Whether the connection's handshake is complete.
    pub fn is_ready(&self, token: Token) -> bool {
        self.connection_of(token).is_some_and(Connection::is_ready)
    }

    /// The connection could not be made, or is gone.
    pub fn handle_down(&mut self, now: u64, token: Token, problem: Problem) {
        let Some(broker) = self.broker_of(token) else { return };
        match broker.connection_mut() {
            Some(connection) => {
                let problem = connection.handle_lost(now, problem);
                self.disconnect(now, token.broker, &problem);
            }
            None => self.disconnect(now, token.broker, &problem),
        }
    }

    /// The connection may not be tried before `until`: another one of the producer's just failed.
    pub fn handle_postponed(&mut self, now: u64, token: Token, until: u64, problem: &Problem) {
        let Some(broker) = self.broker_of(token) else { return };
        broker.generation += 1;
        broker.connectivity = Connectivity::Down { retry_at: until };
        if broker.last_problem.is_none() {
            let place = format_args!("broker {} at {}", broker.id, broker.address);
            broker.last_problem = Some(problem.at(place));
        }
        self.take_next_address(now, token.broker);
        self.tell_standing(now, token.broker);
    }

    /// Where bytes received on a connection go; `None` if it was given up.
    pub fn space(&mut self, token: Token) -> Option<&mut [u8]> {
        Some(self.broker_of(token)?.connection_mut()?.space())
    }

    /// `bytes` of [`Shard::space`] were filled.
    pub fn handle_filled(&mut self, now: u64, token: Token, bytes: usize) {
        if let Some(connection) = self.broker_of(token).and_then(Broker::connection_mut) {
            connection.handle_filled(now, bytes);
            self.take_responses(now, token.broker);
            self.ask_login(now, token);
        }
    }

    fn ask_login(&mut self, now: u64, token: Token) {
        let connection = self.broker_of(token).and_then(Broker::connection_mut);
        if let Some(task) = connection.and_then(Connection::poll_login) {
            self.actions.push_back(Action::Login { token, task });
            self.tell_standing(now, token.broker);
        }
    }

    /// A step of a connection's login was computed.
    pub fn handle_login(&mut self, now: u64, token: Token, answer: LoginAnswer) {
        let connection = self.broker_of(token).and_then(Broker::connection_mut);
        match connection.map(|connection| connection.handle_login(now, answer)) {
            Some(Ok(Incoming::Ready)) => self.handle_ready(now, token.broker),
            Some(Err(problem)) => self.close(now, token.broker, &problem),
            _ => self.tell_standing(now, token.broker),
        }
    }

    fn take_responses(&mut self, now: u64, index: usize) {
        loop {
            let Some(connection) = self.brokers[index].connection_mut() else { return };
            match connection.poll_response(now) {
                Ok(None) => return,
                Ok(Some(Incoming::Ready)) => self.handle_ready(now, index),
                Ok(Some(Incoming::Produce(request, response))) => {
                    self.handle_produce(now, index, request, response);
                }
                // Shards ask for nothing else.
                Ok(Some(_)) => {}
                Err(error) => {
                    self.close(now, index, &error);
                    return;
                }
            }
        }
    }

    fn handle_ready(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        log::debug!("connected to broker {} at {}", broker.id, broker.address);
        // The outage began with a warning. Its end is logged at a level that its readers have on.
        if let Some(since) = broker.outage_since.take() {
            let after = Duration::from_millis(now.saturating_sub(since) / 1_000_000);
            log::info!(
                "connected again, after {after:?}: broker {} at {}",
                broker.id,
                broker.address
            );
        }
        broker.last_problem = None;
        broker.produce_version = broker.connection().and_then(|it| it.version(ApiKey::Produce));
        broker.is_age_wanted = false;
        broker.meter.connects.add(1);
        let (id, address) = (broker.id.0, &broker.address);
        let connected = || Event::Connected { broker: id, address: address.to_string() };
        self.events.publish(connected);
        let connection = broker.connection();
        let gives_identity =
            connection.is_some_and(|it| it.version(ApiKey::InitProducerId).is_some());
        if self.view.without_identity && gives_identity {
            self.actions.push_back(Action::AskIdentity);
        }
        if broker.format().is_message_set() {
            self.handle_old_broker(now, index);
        }
        self.tell_standing(now, index);
    }

    /// Whether the driver must call [`Shard::handle_unsent`].
    pub fn wants_unsent(&self, now: u64, token: Token) -> bool {
        let due = self.connection_of(token).and_then(Connection::poll_unsent);
        due.is_some_and(|at| at <= now)
    }

    /// The kernel still holds `unsent` of the bytes that were written on a connection.
    pub fn handle_unsent(&mut self, now: u64, token: Token, unsent: usize) {
        if let Some(connection) = self.broker_of(token).and_then(Broker::connection_mut) {
            connection.handle_unsent(now, unsent);
        }
    }

    /// For how many nanoseconds from now the broker at the other end of a connection reads nothing.
    pub fn throttled_for(&self, now: u64, token: Token) -> u64 {
        let until = self.connection_of(token).map_or(0, Connection::throttled_until);
        until.saturating_sub(now)
    }

    /// Whether a connection has bytes to write.
    #[cfg(feature = "internals")]
    pub fn wants_write(&self, token: Token) -> bool {
        self.connection_of(token).is_some_and(Connection::wants_write)
    }

    /// The bytes to write next on a connection. Returns the number of slices.
    pub fn slices<'a>(&'a mut self, token: Token, out: &mut [IoSlice<'a>]) -> usize {
        let connection = self.broker_of(token).and_then(Broker::connection_mut);
        connection.map_or(0, |connection| connection.slices(out))
    }

    /// The socket took `bytes`.
    #[cfg(feature = "internals")]
    pub fn handle_written(&mut self, now: u64, token: Token, bytes: usize) {
        self.handle_taken(now, token, bytes);
        self.handle_flushed(now, token);
    }

    /// A transport that encrypts took `bytes`. What it keeps back it will write by itself.
    pub fn handle_taken(&mut self, now: u64, token: Token, bytes: usize) {
        if let Some(connection) = self.broker_of(token).and_then(Broker::connection_mut) {
            connection.handle_taken(now, bytes);
        }
    }

    /// The socket took everything that the transport kept back.
    pub fn handle_flushed(&mut self, now: u64, token: Token) {
        let mut settled = std::mem::take(&mut self.settled);
        if let Some(connection) = self.broker_of(token).and_then(Broker::connection_mut) {
            connection.handle_flushed(now, &mut settled);
        }
        for request in settled.drain(..) {
            self.settle_written(now, token.broker, request);
        }
        self.settled = settled;
    }
}

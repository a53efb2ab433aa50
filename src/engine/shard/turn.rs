//! The order of a turn, in one place: event loops, the simulation, the model of the tests and the
//! fuzzer all take this one.

use super::port::ShardPort;
use super::shard::{Action, Shard, Token};
use crate::engine::connection::Connection;

/// Rounds of packing and writing in one turn.
const ROUNDS_MAX: usize = 4;

/// What a turn needs of whoever drives a shard: real sockets, or simulated ones.
pub trait Driver {
    /// The shard.
    fn shard(&mut self) -> &mut Shard;

    /// Writes what the connection has to write ([`Shard::slices`]), as far as it takes bytes now,
    /// and reports it with [`Shard::handle_taken`] and [`Shard::handle_flushed`], or with
    /// [`Shard::handle_down`]. Returns whether anything was written, or lost: the shard may have
    /// more to write then.
    fn write(&mut self, now: u64, token: Token) -> bool;

    /// Does what the shard asks for.
    fn act(&mut self, now: u64, action: Action);
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// There is more to do at once. Else the next turn is due at [`Shard::poll_timeout`], or when
    /// something comes.
    pub more: bool,
    /// Batches that somebody may wait for in a flush have resolved.
    pub flushed: bool,
    /// Wakers that were called and panicked.
    pub panics: usize,
    /// The producer is done with the shard.
    pub stopped: bool,
}

/// One turn of a shard, after its driver has told it what happened to its connections: news from
/// other threads and timers, then rounds of packing and writing, then what the shard asks for, then
/// the wakers of those whose records resolved.
pub fn turn<D: Driver + ?Sized>(now: u64, port: &ShardPort, driver: &mut D) -> Turn {
    let mut more = driver.shard().begin_turn(now, port);
    for round in 1..=ROUNDS_MAX {
        more |= driver.shard().finish_turn(now);
        if !transmit(now, driver) {
            break;
        }
        // After the last round, take another turn without waiting: a socket that took all bytes
        // gives no event when it takes more.
        if planted!(WritesOneRound) {
            break;
        }
        more |= round == ROUNDS_MAX;
    }
    while let Some(action) = driver.shard().poll_action() {
        if !planted!(DropsActions) || matches!(action, Action::SendLane { .. }) {
            driver.act(now, action);
        }
    }
    let shard = driver.shard();
    let panics = shard.wakes().wake_all();
    Turn { more, flushed: shard.wakes().take_flushers(), panics, stopped: shard.is_stopped() }
}

/// Writes what the connections of a shard have to write. Returns whether there may be more now.
fn transmit<D: Driver + ?Sized>(now: u64, driver: &mut D) -> bool {
    let mut any = false;
    for index in 0..driver.shard().brokers.capacity() {
        if let Some(token) = driver.shard().to_write(index) {
            any |= driver.write(now, token);
        }
    }
    any
}

impl Shard {
    /// The connection to the broker in this place, if it has bytes to write.
    fn to_write(&self, index: usize) -> Option<Token> {
        let broker = self.brokers.get(index)?;
        let wants = broker.connection().is_some_and(Connection::wants_write);
        wants.then_some(Token { broker: index, generation: broker.generation })
    }
}

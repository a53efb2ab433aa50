//! Connections: bytes that are late, in pieces, or lost.

use tidegate::internals::shard::Token;

use super::events::{Event, Queue};
use super::plan::{MS, Net};
use super::produce::Pending;
use super::rng::Rng;

/// One connection, between a shard and a broker.
pub struct Wire {
    pub shard: usize,
    pub token: Token,
    pub broker: usize,
    /// The broker's port when it was connected to.
    pub port: u16,
    /// Where in a frame the client's bytes are: its size as far as it is written, and what of the
    /// rest is not.
    frame: (Vec<u8>, usize),
    /// Whether the client, and the broker, still have it.
    pub client_open: bool,
    pub broker_open: bool,
    pub writable: bool,
    /// What the broker received and has not taken yet.
    pub inbound: Vec<u8>,
    /// The request that the broker works at, and its number.
    pub busy: Option<Pending>,
    pub serial: u64,
    /// What is sent goes nowhere: requests, responses.
    pub swallows: (bool, bool),
    /// Bytes left until the connection breaks: of what is sent, of what is received.
    cut_after: (usize, usize),
    arrives: (u64, u64),
}

impl Wire {
    pub fn new(
        net: &Net,
        rng: &mut Rng,
        (shard, token): (usize, Token),
        (broker, port): (usize, u16),
    ) -> Wire {
        let mut cut_after = (usize::MAX, usize::MAX);
        if rng.percent(net.cut) {
            let bytes = rng.range(1, net.cut_bytes) as usize;
            match rng.percent(50) {
                true => cut_after.0 = bytes,
                // Responses are shorter.
                false => cut_after.1 = bytes / 4,
            }
        }
        Wire {
            shard,
            token,
            broker,
            port,
            frame: (Vec::new(), 0),
            client_open: false,
            broker_open: true,
            writable: true,
            inbound: Vec::new(),
            busy: None,
            serial: 0,
            swallows: (false, false),
            cut_after,
            arrives: (0, 0),
        }
    }

    /// The network becomes well again.
    pub fn heal(&mut self) {
        self.cut_after = (usize::MAX, usize::MAX);
    }

    /// Whether a frame begins in these bytes, which the client writes next.
    pub fn begins_frame(&mut self, bytes: &[u8]) -> bool {
        let (size, left) = &mut self.frame;
        let mut begins = false;
        for &byte in bytes {
            if *left > 0 {
                *left -= 1;
                continue;
            }
            begins |= size.is_empty();
            size.push(byte);
            if let Some(whole) = size.first_chunk::<4>() {
                *left = u32::from_be_bytes(*whole) as usize;
                size.clear();
            }
        }
        begins
    }

    /// How many of so many bytes the client's socket takes.
    pub fn takes(&self, net: &Net, rng: &mut Rng, offered: usize) -> usize {
        if rng.percent(net.split) { rng.range(1, offered as u64) as usize } else { offered }
    }

    /// The client wrote these bytes.
    pub fn send(
        &mut self,
        wire: usize,
        net: &Net,
        rng: &mut Rng,
        queue: &mut Queue,
        bytes: Vec<u8>,
    ) {
        if self.swallows.0 {
            return;
        }
        let left = &mut self.cut_after.0;
        let kept = cut(left, bytes);
        let breaks = *left == 0;
        for part in split(net, rng, kept) {
            let after = delay(&mut self.arrives.0, net, rng, queue.now);
            queue.push(after, Event::ToBroker { wire, bytes: part });
        }
        if breaks {
            self.break_off(wire, net, rng, queue);
        }
    }

    /// The broker wrote these bytes.
    pub fn answer(
        &mut self,
        wire: usize,
        net: &Net,
        rng: &mut Rng,
        queue: &mut Queue,
        bytes: Vec<u8>,
    ) {
        if self.swallows.1 {
            return;
        }
        let left = &mut self.cut_after.1;
        let kept = cut(left, bytes);
        let breaks = *left == 0;
        for part in split(net, rng, kept) {
            let after = delay(&mut self.arrives.1, net, rng, queue.now);
            queue.push(after, Event::ToClient { wire, bytes: part });
        }
        if breaks {
            self.break_off(wire, net, rng, queue);
        }
    }

    /// Both ends hear of it, behind what is on its way; either may be the first.
    pub fn break_off(&mut self, wire: usize, net: &Net, rng: &mut Rng, queue: &mut Queue) {
        self.swallows = (true, true);
        let after = delay(&mut self.arrives.0, net, rng, queue.now);
        queue.push(after, Event::BrokerReset { wire });
        let after = delay(&mut self.arrives.1, net, rng, queue.now);
        queue.push(after, Event::ClientReset { wire });
    }
}

fn cut(left: &mut usize, mut bytes: Vec<u8>) -> Vec<u8> {
    if *left != usize::MAX {
        bytes.truncate(*left);
        *left -= bytes.len();
    }
    bytes
}

fn split(net: &Net, rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while bytes.len() > 1 && parts.len() < 3 && rng.percent(net.split) {
        let at = rng.range(1, bytes.len() as u64 - 1) as usize;
        let rest = bytes.split_off(at);
        parts.push(std::mem::replace(&mut bytes, rest));
    }
    if !bytes.is_empty() {
        parts.push(bytes);
    }
    parts
}

/// How long bytes take that must not overtake those before them.
fn delay(arrives: &mut u64, net: &Net, rng: &mut Rng, now: u64) -> u64 {
    let after = rng.range(net.latency.0, net.latency.1);
    *arrives = (*arrives).max(now + after);
    *arrives - now
}

/// How long a socket stays full.
pub fn full_for(rng: &mut Rng) -> u64 {
    rng.pick(&[MS / 20, MS / 2, 20 * MS])
}

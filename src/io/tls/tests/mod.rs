//! Tests of TLS: a client of this crate against a server of rustls, in memory.

pub(super) mod certificates;
mod handshakes;
mod pair;
mod problems;
mod refresh;
mod stores;

//! What is fuzzed: every function that is given bytes from outside, each as a plain function that
//! panics if it finds something wrong. `tests/fuzzing` feeds them in every `cargo test`,
//! `tests/fuzz` puts libFuzzer behind them.

mod config;
mod connection;
mod decoders;
mod input;
mod logins;
pub mod memory;
mod shard;

/// A function to be fed with bytes.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "api_versions", run: decoders::api_versions },
    Target { name: "metadata", run: decoders::metadata },
    Target { name: "produce", run: decoders::produce },
    Target { name: "fetch", run: decoders::fetch },
    Target { name: "list_offsets", run: decoders::list_offsets },
    Target { name: "offset_commit", run: decoders::offset_commit },
    Target { name: "offset_fetch", run: decoders::offset_fetch },
    Target { name: "find_coordinator", run: decoders::find_coordinator },
    Target { name: "init_producer_id", run: decoders::init_producer_id },
    Target { name: "frames", run: decoders::frames },
    Target { name: "batches", run: decoders::batches },
    Target { name: "messages", run: decoders::messages },
    Target { name: "decompression", run: decoders::decompression },
    Target { name: "properties", run: config::properties },
    Target { name: "bootstrap", run: config::bootstrap },
    Target { name: "connection", run: connection::connection },
    Target { name: "shard", run: shard::shard },
    Target { name: "sasl_handshake", run: logins::sasl_handshake },
    Target { name: "sasl_authenticate", run: logins::sasl_authenticate },
    Target { name: "jaas", run: logins::jaas },
    Target { name: "scram", run: logins::scram },
    Target { name: "oauthbearer", run: logins::oauthbearer },
];

/// Runs one of them, by its name.
///
/// # Panics
/// If there is none of that name, or it found something.
#[allow(dead_code)]
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("it is in the table").run)(bytes);
}

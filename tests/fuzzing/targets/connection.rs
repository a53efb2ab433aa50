//! A whole connection: what is sent, what the socket takes, what a broker answers and when, all as
//! the bytes say.

use std::io::IoSlice;
use std::sync::Arc;

use tidegate::internals::cluster::BrokerAddress;
use tidegate::internals::connection::{Connection, ConnectionConfig, Incoming, RequestKind};

use super::input::Input;
use super::memory::bounded;

const MS: u64 = 1_000_000;
const THROTTLE_MAX: u64 = 1_000 * MS;
const IN_FLIGHT_MAX: usize = 64;

/// ApiVersions v4 as a broker of today answers it.
const HANDSHAKE: &[u8] = &[
    0, 0, 7, 0, 0, 0, 3, 0, 13, 0, 0, 1, 0, 4, 0, 18, 0, 0, 2, 0, 1, 0, 11, 0, 0, 3, 0, 0, 0, 13,
    0, 0, 18, 0, 0, 0, 4, 0, 0, 22, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0,
];

/// A connection and what must be true of it.
struct Driven {
    connection: Connection,
    now: u64,
    /// The correlation id of the next request.
    next: i32,
    /// Those of what was sent and has not ended.
    open: Vec<i32>,
}

pub fn connection(bytes: &[u8]) {
    bounded(bytes.len() * 256 + (512 << 10), || {
        let config = ConnectionConfig {
            client_id: "fuzz".into(),
            request_timeout: 30_000 * MS,
            handshake_timeout: 10_000 * MS,
            throttle_max: THROTTLE_MAX,
            response_bytes_max: 1 << 16,
            sasl_mechanism: None,
            is_tls: false,
            is_proxied: false,
            peers: Arc::default(),
        };
        let peer = BrokerAddress { host: "fuzz".into(), port: 9092 };
        let connection = Connection::new(Arc::new(config), peer, MS);
        let mut driven = Driven { connection, now: MS, next: 1, open: vec![0] };
        let mut input = Input(bytes);
        while !input.0.is_empty() && driven.step(&mut input) {}
        let Driven { connection, mut open, .. } = driven;
        let handshake = !connection.is_ready();
        // Everything that has not ended comes back, once, in order.
        for request in connection.into_unsettled() {
            assert_eq!(open.remove(0), request.correlation);
        }
        // A handshake that was refused is nobody's loss.
        assert!(open.len() <= usize::from(handshake), "{open:?} never ended");
    });
}

/// What consumers ask about offsets.
const OFFSETS: [RequestKind; 4] = [
    RequestKind::ListOffsets,
    RequestKind::OffsetCommit,
    RequestKind::OffsetFetch,
    RequestKind::FindCoordinator,
];

impl Driven {
    /// Whether the connection goes on.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        let step = input.byte();
        match step % 13 {
            0 => self.send_produce(-1, input.byte()),
            1 => self.send_produce(0, input.byte()),
            2 => self.send_simple(RequestKind::Metadata),
            3 => self.send_simple(RequestKind::InitProducerId),
            4 => self.write(usize::from(input.byte())),
            5 => self.write(usize::MAX),
            6 => return self.feed(input.bytes()),
            7 => return self.answer(input.bytes()),
            8 => return self.answer(HANDSHAKE),
            9 => self.send_simple(RequestKind::CreateTopics),
            10 => self.send_simple(RequestKind::Fetch),
            11 => self.send_simple(OFFSETS[usize::from(step) / 13 % OFFSETS.len()]),
            _ => return self.pass(u64::from(input.byte()) << (input.byte() % 8 * 4)),
        }
        true
    }

    fn version(&self, kind: RequestKind) -> Option<i16> {
        let may_send = self.connection.is_ready() && self.connection.in_flight() < IN_FLIGHT_MAX;
        self.connection.version(kind.api_key()).filter(|_| may_send)
    }

    fn sent(&mut self) {
        self.open.push(self.next);
        self.next += 1;
    }

    fn ended(&mut self, correlation: i32) {
        let at = self.open.iter().position(|&open| open == correlation);
        self.open.remove(at.expect("what ends was open"));
    }

    fn send_produce(&mut self, acks: i16, length: u8) {
        let kind = RequestKind::Produce { acks };
        let Some(version) = self.version(kind) else { return };
        let mut request = self.connection.new_request();
        assert!(request.framing.is_empty() && request.batches.is_empty());
        (request.kind, request.version) = (kind, version);
        request.correlation = self.connection.next_correlation();
        assert_eq!(request.correlation, self.next);
        request.framing.resize(usize::from(length) + 1, 7);
        request.wire_len = request.framing.len();
        self.connection.send(self.now, request);
        self.sent();
    }

    fn send_simple(&mut self, kind: RequestKind) {
        let Some(version) = self.version(kind) else { return };
        self.connection.send_simple(self.now, kind, version, |_, out| out.extend([1, 2]));
        self.sent();
    }

    fn write(&mut self, bytes_max: usize) {
        let mut slices = [IoSlice::new(&[]); 8];
        let used = self.connection.slices(&mut slices);
        let offered: usize = slices[..used].iter().map(|slice| slice.len()).sum();
        assert_eq!(offered > 0, self.connection.wants_write());
        let mut settled = Vec::new();
        self.connection.handle_written(self.now, offered.min(bytes_max), &mut settled);
        for request in settled {
            assert!(request.is_written() && !request.kind.has_response());
            self.ended(request.correlation);
            self.connection.recycle(request);
        }
    }

    /// A response of this body to the oldest request that can have one.
    fn answer(&mut self, body: &[u8]) -> bool {
        let Some(&correlation) = self.open.first() else { return true };
        let mut frame = (body.len() as u32 + 4).to_be_bytes().to_vec();
        frame.extend(correlation.to_be_bytes());
        frame.extend(body);
        self.feed(&frame)
    }

    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let space = self.connection.space();
            let taken = space.len().min(bytes.len());
            assert!(taken > 0, "there is always room");
            space[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.connection.handle_filled(self.now, taken);
            if !self.take_responses() {
                return false;
            }
        }
        true
    }

    fn take_responses(&mut self) -> bool {
        loop {
            let oldest = self.open.first().copied();
            let incoming = match self.connection.poll_response(self.now) {
                Err(error) => {
                    assert!(!error.message().is_empty());
                    return false;
                }
                Ok(None) => return true,
                Ok(Some(incoming)) => incoming,
            };
            assert!(self.connection.throttled_until() <= self.now + THROTTLE_MAX);
            match incoming {
                // A broker that knows no such version was asked again.
                Incoming::Pending => {
                    self.ended(self.next - 1);
                    self.sent();
                }
                Incoming::Produce(request, response) => {
                    self.ended(request.correlation);
                    self.connection.recycle(request);
                    self.connection.recycle_response(response);
                }
                Incoming::Ready
                | Incoming::Metadata(_)
                | Incoming::CreateTopics(_)
                | Incoming::Fetch(_)
                | Incoming::ListOffsets(_)
                | Incoming::OffsetCommit(_)
                | Incoming::OffsetFetch(_)
                | Incoming::FindCoordinator(_)
                | Incoming::InitProducerId(_) => {
                    self.ended(oldest.expect("only what was asked is answered"));
                }
            }
        }
    }

    fn pass(&mut self, nanos: u64) -> bool {
        self.now += nanos;
        let due = self.connection.poll_timeout().is_some_and(|at| at <= self.now);
        let result = self.connection.handle_timeout(self.now);
        assert_eq!(result.is_err(), due, "it is given up when it is due, and not before");
        result.is_ok()
    }
}

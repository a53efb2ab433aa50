//! One connection: requests in, responses out, strictly in order.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;

use super::age::{Age, Reception};
use super::discard;
use super::fault::{Action, Fault};
use super::gate::Gate;
use super::handlers::produce::{self, Call};
use super::handlers::{self, Broken, Envelope, api, metadata, old_produce};
use super::login::Login;
use super::reader::Reader;
use super::state::{Node, Shared};
use super::stats::add;
use super::wire::Wire;

/// The largest request, as Kafka's `socket.request.max.bytes`.
const REQUEST_BYTES_MAX: usize = 100 << 20;
/// Bytes of the size in front of every frame.
const SIZE_BYTES: usize = 4;

/// Serves a connection until it ends, for whatever reason.
pub(super) fn serve(shared: &Shared, node: &Node, gate: &Gate, stream: &TcpStream) {
    let wire = match shared.config.wire(stream) {
        Ok(wire) => wire,
        Err(error) => return log::warn!("embedded broker {}: TLS: {error}", node.id),
    };
    let mut reader = Reader::new(&wire, gate);
    let mut login = Login::new(&shared.config.logins);
    let connection = Connection { shared, node, gate, wire: &wire, age: node.age() };
    while connection.turn(&mut reader, &mut login).is_ok() {}
}

struct Connection<'a> {
    shared: &'a Shared,
    node: &'a Node,
    gate: &'a Gate,
    wire: &'a Wire<'a>,
    /// The broker's, which closes its connections when it changes.
    age: Age,
}

enum Request {
    Produce(Call),
    Other(Bytes),
}

impl Connection<'_> {
    /// One request from its first byte to its response's last.
    fn turn(&self, reader: &mut Reader<'_>, login: &mut Login<'_>) -> io::Result<()> {
        if login.expects_bare_token() {
            let token = read_bare_token(reader)?;
            self.gate.pass()?;
            return self.wire.write_all(&login.bare_token(&token)?);
        }
        let (size, envelope) = read_envelope(reader)?;
        if matches!(envelope.api_key, api::SASL_HANDSHAKE | api::SASL_AUTHENTICATE) {
            return self.log_in(reader, login, size, &envelope);
        }
        if !login.allows_requests() && envelope.api_key != api::API_VERSIONS {
            return Err(Broken("a request before the login").into());
        }
        let Some(taken) = self.taken_as(&envelope)? else {
            return self.swallow(reader, size, &envelope);
        };
        let request = self.read(reader, size, &taken)?;
        self.gate.pass()?;
        self.node.counters.request(envelope.api_key, envelope.version);
        self.shared.observers.notify();
        let Some(request) = request else { return Ok(()) };
        let response = self.respond(&taken, &request);
        if let Ok((Some(response), _)) = &response {
            self.gate.pass()?;
            self.wire.write_all(response)?;
            add(&self.node.counters.responses, 1);
        }
        self.shared.observers.notify();
        // A throttled connection is answered at once, and then not read (KIP-219).
        match response?.1 {
            0 => Ok(()),
            ms => self.gate.delay(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
        }
    }

    /// Reads a request whole, except for payloads that are discarded. `None` if the broker leaves
    /// it unanswered because it cannot parse it.
    fn read(
        &self,
        reader: &mut Reader<'_>,
        size: usize,
        envelope: &Envelope,
    ) -> io::Result<Option<Request>> {
        let is_old = envelope.version <= old_produce::VERSION_MAX;
        if envelope.api_key == api::PRODUCE && self.shared.config.discard_payloads && !is_old {
            reader.skip(SIZE_BYTES + Envelope::BYTES)?;
            let left = size - Envelope::BYTES;
            return Ok(Some(Request::Produce(discard::read_call(reader, left, envelope.version)?)));
        }
        reader.skip(SIZE_BYTES)?;
        let frame = Bytes::from(reader.take_owned(size)?);
        let request = match envelope.api_key {
            api::PRODUCE => Call::decode(envelope, frame).map(Request::Produce),
            api::METADATA if self.age.ignores_versions() => {
                metadata::check_old(envelope, &frame).map(|()| Request::Other(frame))
            }
            _ => Ok(Request::Other(frame)),
        };
        match request {
            Err(_) if self.age.unparsable() == Reception::Silent => Ok(None),
            request => Ok(Some(request?)),
        }
    }

    /// Reads a request that is not answered, and drops it.
    fn swallow(&self, reader: &mut Reader<'_>, size: usize, envelope: &Envelope) -> io::Result<()> {
        reader.skip(SIZE_BYTES + size)?;
        self.gate.pass()?;
        self.node.counters.request(envelope.api_key, envelope.version);
        self.shared.observers.notify();
        Ok(())
    }

    fn log_in(
        &self,
        reader: &mut Reader<'_>,
        login: &mut Login<'_>,
        size: usize,
        envelope: &Envelope,
    ) -> io::Result<()> {
        if self.taken_as(envelope)?.is_none() {
            return self.swallow(reader, size, envelope);
        }
        reader.skip(SIZE_BYTES)?;
        let frame = Bytes::from(reader.take_owned(size)?);
        self.gate.pass()?;
        self.node.counters.request(envelope.api_key, envelope.version);
        let (response, ends) = match envelope.api_key {
            api::SASL_HANDSHAKE => (login.handshake(envelope, frame)?, false),
            _ => login.authenticate(envelope, frame)?,
        };
        self.wire.write_all(&response)?;
        add(&self.node.counters.responses, 1);
        self.shared.observers.notify();
        if ends { Err(Broken("a login that is refused").into()) } else { Ok(()) }
    }

    /// The request as the broker takes it, perhaps for one of another version; `None` if the broker
    /// leaves it unanswered.
    fn taken_as(&self, envelope: &Envelope) -> io::Result<Option<Envelope>> {
        let key = envelope.api_key;
        let advertised = self.shared.advertised_of(self.age, key);
        match self.age.reception(key, envelope.version, advertised) {
            Reception::As(version) => Ok(Some(Envelope { version, ..*envelope })),
            Reception::Silent => Ok(None),
            Reception::Closes => Err(Broken("an API or a version that is not spoken here").into()),
        }
    }

    /// Handles a request with the fault that is scripted for it. `None` is no response. Also the
    /// throttle time that the response tells, in milliseconds.
    fn respond(
        &self,
        envelope: &Envelope,
        request: &Request,
    ) -> io::Result<(Option<Vec<u8>>, i32)> {
        let Some(fault) = self.fault(envelope, request) else {
            return Ok((self.handle(envelope, request, 0)?, 0));
        };
        let throttle_ms = match fault.action {
            Action::Throttle(ms) => ms,
            _ => 0,
        };
        Ok((self.respond_with(&fault, envelope, request)?, throttle_ms))
    }

    fn respond_with(
        &self,
        fault: &Fault,
        envelope: &Envelope,
        request: &Request,
    ) -> io::Result<Option<Vec<u8>>> {
        let handle_if = |wanted: bool, throttle_ms: i32| match wanted {
            true => self.handle(envelope, request, throttle_ms),
            false => Ok(None),
        };
        match fault.action {
            Action::Delay(by) if fault.after_append => {
                let response = self.handle(envelope, request, 0);
                self.shared.observers.notify();
                self.gate.delay(by)?;
                response
            }
            Action::Delay(by) => {
                self.gate.delay(by)?;
                self.handle(envelope, request, 0)
            }
            Action::Silence => handle_if(fault.after_append, 0).map(|_| None),
            Action::Throttle(ms) => handle_if(true, ms),
            _ => {
                handle_if(fault.after_append, 0)?;
                Err(Broken("a scripted fault").into())
            }
        }
    }

    fn fault(&self, envelope: &Envelope, request: &Request) -> Option<Fault> {
        self.shared.faults.take_request(self.node.id, envelope.api_key, |predicate| match request {
            Request::Produce(call) => call.contains(self.shared, predicate),
            Request::Other(_) => false,
        })
    }

    fn handle(
        &self,
        envelope: &Envelope,
        request: &Request,
        throttle_ms: i32,
    ) -> io::Result<Option<Vec<u8>>> {
        let (shared, node) = (self.shared, self.node);
        let response = match (request, envelope.api_key) {
            (Request::Produce(call), _) => {
                return Ok(produce::handle(shared, node, envelope, call, throttle_ms)?);
            }
            (Request::Other(frame), api::METADATA) => {
                metadata::handle(shared, node, envelope, frame.clone())
            }
            (Request::Other(frame), api::CREATE_TOPICS) => {
                handlers::create_topics::handle(shared, node.id, envelope, frame.clone())
            }
            (Request::Other(frame), api::FETCH) => {
                let call = (envelope, frame.clone());
                let response = handlers::fetch::handle(shared, node, self.gate, call, throttle_ms);
                return response.map(Some);
            }
            (Request::Other(frame), api::LIST_OFFSETS) => {
                handlers::list_offsets::handle(shared, node, envelope, frame.clone())
            }
            (Request::Other(frame), api::OFFSET_FOR_LEADER_EPOCH) => {
                handlers::list_offsets::handle_epochs(shared, node, envelope, frame.clone())
            }
            (Request::Other(frame), api::FIND_COORDINATOR) => {
                handlers::groups::handle_find(shared, envelope, frame.clone())
            }
            (Request::Other(frame), api::OFFSET_COMMIT) => {
                handlers::groups::handle_commit(shared, node, envelope, frame.clone())
            }
            (Request::Other(frame), api::OFFSET_FETCH) => {
                handlers::groups::handle_fetch(shared, node, envelope, frame.clone())
            }
            (Request::Other(frame), api::INIT_PRODUCER_ID) => {
                handlers::init_producer_id::handle(shared, node.id, envelope, frame.clone())
            }
            (Request::Other(frame), _) => {
                handlers::api_versions::handle(shared, node, envelope, frame.clone())
            }
        };
        Ok(Some(response?))
    }
}

fn read_envelope(reader: &mut Reader<'_>) -> io::Result<(usize, Envelope)> {
    let size = reader.peek(SIZE_BYTES)?;
    let size = size.first_chunk().map_or(-1, |size| i32::from_be_bytes(*size));
    let size = usize::try_from(size).unwrap_or(0);
    if !(Envelope::BYTES..=REQUEST_BYTES_MAX).contains(&size) {
        return Err(Broken("a frame of a size that no request has").into());
    }
    let head = reader.peek(SIZE_BYTES + Envelope::BYTES)?;
    let envelope = Envelope::read(&head[SIZE_BYTES..]).ok_or(Broken("a request cut short"))?;
    Ok((size, envelope))
}

fn read_bare_token(reader: &mut Reader<'_>) -> io::Result<Vec<u8>> {
    let size = reader.take(SIZE_BYTES)?;
    let size = size.first_chunk().map_or(-1, |size| i32::from_be_bytes(*size));
    match usize::try_from(size) {
        Ok(size) if size <= REQUEST_BYTES_MAX => reader.take_owned(size),
        _ => Err(Broken("a token of a size that none has").into()),
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, broken.0)
    }
}

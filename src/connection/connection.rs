//! The connection's state: handshake, what is in flight, what was received.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use super::request::{InFlightBatch, Request, RequestKind};
use super::unconfirmed::Unconfirmed;
use crate::protocol::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, DecodeError, ErrorCode, FrameDecoder,
    InitProducerIdResponse, MetadataRequest, MetadataResponse, MetadataTopics, ProduceResponse,
    encode_request, split_response,
};

/// Requests kept for reuse.
const FREE_REQUESTS_MAX: usize = 16;

/// Correlation ids of acks=0 requests that a broker may still answer by mistake.
const UNANSWERED_IDS_MAX: usize = 64;

/// From this version on Metadata tells the cluster's id.
const CLUSTER_ID_MIN: i16 = 2;

/// What this client calls itself (KIP-511).
const SOFTWARE_NAME: &str = "tidegate";

/// What a connection needs to know of the configuration. Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Sent with every request.
    pub client_id: Arc<str>,
    /// From sending a request to its response.
    pub request_timeout: u64,
    /// A broker's throttle time is believed up to this. It is `delivery_timeout`: by then every
    /// record that waited has been resolved, so nothing is gained by waiting longer.
    pub throttle_max: u64,
    /// Responses larger than this close the connection, in bytes.
    pub response_bytes_max: usize,
}

/// Why a connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionError(pub Arc<str>);

impl ConnectionError {
    /// An error in words.
    pub fn new(text: impl fmt::Display) -> Self {
        ConnectionError(text.to_string().into())
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A response, with the request it answers.
pub enum Incoming {
    /// Part of the handshake: nothing to do.
    Pending,
    /// The handshake is done: requests may be sent.
    Ready,
    /// Batches were answered.
    Produce(Request, ProduceResponse),
    /// Metadata.
    Metadata(MetadataResponse),
    /// A producer id, or why there is none.
    InitProducerId(InitProducerIdResponse),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Ready,
}

/// One connection to one broker, without the socket.
pub struct Connection {
    config: Arc<ConnectionConfig>,
    phase: Phase,
    decoder: FrameDecoder,
    requests: VecDeque<Request>,
    /// Requests at the front that are wholly written.
    written: usize,
    next_correlation: i32,
    versions: [(ApiKey, Option<i16>); 4],
    free: Vec<Request>,
    spare_response: ProduceResponse,
    unanswered_ids: VecDeque<i32>,
    unconfirmed: Unconfirmed,
    /// The cluster that the broker must belong to.
    cluster_id: Option<Arc<str>>,
    throttled_until: u64,
    /// Requests that may be in flight: see [`Connection::window`].
    window: usize,
    /// Something was answered since the handshake.
    answered: bool,
    /// When something was last sent or received, nanoseconds, monotonic.
    last_activity: u64,
    /// How long the machine was asleep since, which the monotonic clock does not count.
    slept: u64,
    last_sent: u64,
}

impl Connection {
    /// A connection whose socket has just been connected: ApiVersions is to be written.
    pub fn new(config: Arc<ConnectionConfig>, now: u64) -> Self {
        let mut connection = Connection {
            decoder: FrameDecoder::new(config.response_bytes_max),
            config,
            phase: Phase::Handshake,
            requests: VecDeque::with_capacity(8),
            written: 0,
            next_correlation: 0,
            versions: ApiKey::ALL.map(|api| (api, None)),
            free: Vec::new(),
            spare_response: ProduceResponse::default(),
            unanswered_ids: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
            cluster_id: None,
            throttled_until: 0,
            window: usize::MAX,
            answered: false,
            last_activity: now,
            slept: 0,
            last_sent: 0,
        };
        connection.send_api_versions(now, ApiKey::ApiVersions.versions().max);
        connection
    }

    /// The same, where only a broker of this cluster will do, if it is known: before the connection
    /// is ready, the broker is asked for its cluster. An address may have been given to another.
    pub fn of_cluster(mut self, id: Option<Arc<str>>) -> Self {
        self.cluster_id = id;
        self
    }

    fn send_api_versions(&mut self, now: u64, version: i16) {
        self.send_simple(now, RequestKind::ApiVersions, version, |version, out| {
            let request = ApiVersionsRequest {
                client_software_name: SOFTWARE_NAME,
                client_software_version: env!("CARGO_PKG_VERSION"),
            };
            request.encode(version, out);
        });
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The version to speak, once ready; `None` if broker and client have none in common.
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        self.versions.iter().find(|entry| entry.0 == api)?.1
    }

    /// Requests not settled yet.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Requests that are not wholly written.
    pub fn unwritten(&self) -> usize {
        self.requests.len() - self.written
    }

    /// When the last request was sent, nanoseconds, monotonic; 0 before the first.
    pub fn last_sent(&self) -> u64 {
        self.last_sent
    }

    /// When nothing will have been sent or received for `idle_max`, same clock. The time that the
    /// machine was asleep counts.
    pub fn idle_at(&self, idle_max: u64) -> u64 {
        self.last_activity.saturating_add(idle_max.saturating_sub(self.slept))
    }

    /// The machine was asleep for `span`, in nanoseconds.
    pub fn handle_suspended(&mut self, span: u64) {
        self.slept = self.slept.saturating_add(span);
    }

    fn mark_active(&mut self, now: u64) {
        (self.last_activity, self.slept) = (now, 0);
    }

    /// Whether the broker answered anything after the handshake.
    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// What was written with acks=0.
    pub fn unconfirmed(&self) -> Unconfirmed {
        self.unconfirmed
    }

    /// Until when the broker wants nothing sent, same clock.
    pub fn throttled_until(&self) -> u64 {
        self.throttled_until
    }

    /// Requests that may be in flight for the broker's sake: one after an answer that throttles,
    /// and one more with every answer that does not. While a throttle lasts the broker reads no
    /// request, and it charges each that it then reads to the quota: several in flight would only
    /// make the next throttle several times as long.
    pub fn window(&self) -> usize {
        self.window
    }

    /// An empty request with the memory of an earlier one.
    pub fn new_request(&mut self) -> Request {
        self.free.pop().unwrap_or_default()
    }

    /// Takes back a settled request for its memory.
    pub fn recycle(&mut self, mut request: Request) {
        request.clear();
        if self.free.len() < FREE_REQUESTS_MAX {
            self.free.push(request);
        }
    }

    /// Takes back a response for its memory.
    pub fn recycle_response(&mut self, response: ProduceResponse) {
        self.spare_response = response;
    }

    /// The correlation id for the next request.
    pub fn next_correlation(&mut self) -> i32 {
        let id = self.next_correlation;
        self.next_correlation = self.next_correlation.wrapping_add(1) & i32::MAX;
        id
    }

    /// The client id that requests carry.
    pub fn client_id(&self) -> &Arc<str> {
        &self.config.client_id
    }

    /// Sends a request whose bytes are ready.
    pub fn send(&mut self, now: u64, mut request: Request) {
        request.deadline =
            now.max(self.throttled_until).saturating_add(self.config.request_timeout);
        self.last_sent = now;
        self.mark_active(now);
        self.requests.push_back(request);
    }

    /// Sends a request without batches; `body` writes what follows the header.
    pub fn send_simple(
        &mut self,
        now: u64,
        kind: RequestKind,
        version: i16,
        body: impl FnOnce(i16, &mut Vec<u8>),
    ) {
        let mut request = self.new_request();
        request.kind = kind;
        request.version = version;
        request.correlation = self.next_correlation();
        let (api, correlation) = (kind.api_key(), request.correlation);
        let out = &mut request.glue;
        encode_request(out, api, version, correlation, &self.config.client_id, |out| {
            body(version, out);
        });
        request.wire_len = request.glue.len();
        self.send(now, request);
    }

    /// Whether bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        self.unwritten() > 0
    }

    /// The bytes to write next, as far as `out` has room. Returns the number of slices.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for request in self.requests.iter().skip(self.written) {
            let (count, ended) = request.slices(&mut out[used..]);
            used += count;
            if !ended {
                break;
            }
        }
        used
    }

    /// The socket took `bytes`. Requests that get no response settle with their last byte: they
    /// are appended to `settled`.
    pub fn handle_written(&mut self, now: u64, mut bytes: usize, settled: &mut Vec<Request>) {
        self.mark_active(now);
        while bytes > 0 {
            let request = &mut self.requests[self.written];
            bytes = request.add_written(bytes);
            if !request.is_written() {
                break;
            }
            if request.kind.has_response() {
                self.written += 1;
            } else if let Some(request) = self.requests.remove(self.written) {
                if self.unanswered_ids.len() == UNANSWERED_IDS_MAX {
                    self.unanswered_ids.pop_front();
                }
                self.unanswered_ids.push_back(request.correlation);
                let records = request.batches.iter().map(|entry| u64::from(entry.batch.records()));
                self.unconfirmed.add(now, records.sum());
                settled.push(request);
            }
        }
    }

    /// Where received bytes go. Never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.decoder.space()
    }

    /// `bytes` of [`space`](Connection::space) were filled.
    pub fn handle_filled(&mut self, now: u64, bytes: usize) {
        self.mark_active(now);
        self.decoder.filled(bytes);
    }

    /// The next response, if a whole one was received. An error means: close.
    pub fn poll_response(&mut self, now: u64) -> Result<Option<Incoming>, ConnectionError> {
        loop {
            let Some(frame) = self.decoder.next_frame().map_err(ConnectionError::new)? else {
                return Ok(None);
            };
            let correlation = peek_correlation(frame)?;
            if let Some(at) = self.unanswered_ids.iter().position(|&id| id == correlation) {
                self.unanswered_ids.remove(at);
                continue;
            }
            let request = match self.requests.front() {
                Some(request) if self.written > 0 => request,
                _ => return Err(ConnectionError::new("the broker answered what was not asked")),
            };
            if correlation != request.correlation {
                return Err(ConnectionError::new(format_args!(
                    "the broker answered request {correlation} where {} was due",
                    request.correlation
                )));
            }
            // A response that cannot be read leaves its request among the unsettled.
            let parsed = parse(frame, request, &mut self.spare_response)?;
            let request = self.requests.pop_front().expect("front() was there");
            self.written -= 1;
            self.answered = self.phase == Phase::Ready;
            return self.accept(now, request, parsed).map(Some);
        }
    }

    fn accept(
        &mut self,
        now: u64,
        request: Request,
        parsed: Parsed,
    ) -> Result<Incoming, ConnectionError> {
        match parsed {
            Parsed::ApiVersions(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                let version = request.version;
                self.recycle(request);
                self.handle_api_versions(now, version, &response)
            }
            Parsed::Metadata(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                if self.phase == Phase::Handshake {
                    return self.check_cluster(&response);
                }
                Ok(Incoming::Metadata(response))
            }
            Parsed::InitProducerId(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::InitProducerId(response))
            }
            Parsed::Produce => {
                let response = std::mem::take(&mut self.spare_response);
                self.throttle(now, &request, response.throttle_time_ms);
                Ok(Incoming::Produce(request, response))
            }
        }
    }

    fn handle_api_versions(
        &mut self,
        now: u64,
        version: i16,
        response: &ApiVersionsResponse,
    ) -> Result<Incoming, ConnectionError> {
        if response.error == ErrorCode::UNSUPPORTED_VERSION && version > 0 {
            // The broker does not know this version of ApiVersions itself (KIP-511).
            let known = response.range(ApiKey::ApiVersions).map_or(0, |range| range.max);
            self.send_api_versions(now, known.clamp(0, version - 1));
            return Ok(Incoming::Pending);
        }
        if response.error != ErrorCode::NONE {
            return Err(ConnectionError::new(format_args!(
                "the broker answered ApiVersions with {}",
                response.error
            )));
        }
        self.versions = ApiKey::ALL.map(|api| (api, response.negotiate(api)));
        let asks = self.version(ApiKey::Metadata).filter(|&version| version >= CLUSTER_ID_MIN);
        if let Some(version) = asks.filter(|_| self.cluster_id.is_some()) {
            let request = MetadataRequest {
                topics: MetadataTopics::Names(&[]),
                allow_auto_topic_creation: false,
            };
            self.send_simple(now, RequestKind::Metadata, version, |version, out| {
                request.encode(version, out);
            });
            return Ok(Incoming::Pending);
        }
        self.phase = Phase::Ready;
        Ok(Incoming::Ready)
    }

    fn check_cluster(&mut self, response: &MetadataResponse) -> Result<Incoming, ConnectionError> {
        // A broker that tells no id proves nothing.
        let told = response.cluster_id.as_deref().filter(|id| !id.is_empty());
        if let (Some(told), Some(wanted)) = (told, self.cluster_id.as_deref())
            && told != wanted
        {
            return Err(ConnectionError::new(format_args!(
                "it belongs to the cluster {told}, not to {wanted}"
            )));
        }
        self.phase = Phase::Ready;
        Ok(Incoming::Ready)
    }

    /// KIP-219: the broker reads nothing for this long. Nothing is sent meanwhile, and what is in
    /// flight has all of that time longer to be answered: given up earlier, the connection would be
    /// replaced by one that sends the same batches again, at the cost of the same quota.
    fn throttle(&mut self, now: u64, request: &Request, throttle_time_ms: i32) {
        if throttle_time_ms <= 0 {
            self.window = self.window.saturating_add(1);
            return;
        }
        self.window = 1;
        let time = (throttle_time_ms as u64 * 1_000_000).min(self.config.throttle_max);
        if request.kind.api_key().client_pauses(request.version) {
            self.throttled_until = self.throttled_until.max(now.saturating_add(time));
        }
        for request in &mut self.requests {
            request.deadline = request.deadline.saturating_add(time);
        }
    }

    /// When [`Connection::handle_timeout`] must be called, nanoseconds, monotonic.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.requests.front().map(|request| request.deadline)
    }

    /// Ends a throttle that is over, and checks the deadline of what is in flight.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), ConnectionError> {
        if self.throttled_until <= now {
            self.throttled_until = 0;
        }
        match self.requests.front() {
            Some(request) if request.deadline <= now => Err(ConnectionError::new(format_args!(
                "{:?} was not answered within request_timeout = {:?}",
                request.kind.api_key(),
                std::time::Duration::from_nanos(self.config.request_timeout)
            ))),
            _ => Ok(()),
        }
    }

    /// The batches in flight, oldest request first.
    pub fn batches_mut(&mut self) -> impl Iterator<Item = &mut InFlightBatch> {
        self.requests.iter_mut().flat_map(|request| request.batches.iter_mut())
    }

    /// The connection is gone: everything that was not answered, oldest first.
    pub fn into_unsettled(self) -> impl Iterator<Item = Request> {
        self.requests.into_iter()
    }
}

/// A response's content; that of Produce is in the connection's spare response.
enum Parsed {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    InitProducerId(InitProducerIdResponse),
    Produce,
}

fn parse(
    frame: &[u8],
    request: &Request,
    spare: &mut ProduceResponse,
) -> Result<Parsed, ConnectionError> {
    let (kind, version) = (request.kind, request.version);
    let mut read = || -> Result<Parsed, DecodeError> {
        let (_, body) = split_response(frame, kind.api_key(), version)?;
        Ok(match kind {
            RequestKind::ApiVersions => {
                Parsed::ApiVersions(ApiVersionsResponse::decode(version, body)?)
            }
            RequestKind::Metadata => Parsed::Metadata(MetadataResponse::decode(version, body)?),
            RequestKind::InitProducerId => {
                Parsed::InitProducerId(InitProducerIdResponse::decode(version, body)?)
            }
            RequestKind::Produce { .. } => {
                spare.decode_into(version, body)?;
                Parsed::Produce
            }
        })
    };
    read().map_err(|error| {
        let api = kind.api_key();
        ConnectionError::new(format_args!("unreadable {api:?} v{version} response: {error}"))
    })
}

fn peek_correlation(frame: &[u8]) -> Result<i32, ConnectionError> {
    match frame.first_chunk::<4>() {
        Some(raw) => Ok(i32::from_be_bytes(*raw)),
        None => Err(ConnectionError::new("a response without a correlation id")),
    }
}

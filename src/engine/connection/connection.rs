//! The connection's state: handshake, what is in flight, what was received.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::handshake::HANDSHAKE_FRAME_MAX;
use super::login::Login;
use super::peers::Beginning;
use super::request::{InFlightBatch, Request, RequestKind};
use super::response::{Parsed, parse, peek_correlation};
use super::set_writer::SetWriter;
use super::settings::ConnectionConfig;
use super::unconfirmed::Unconfirmed;
use crate::engine::cluster::BrokerAddress;
use crate::engine::protocol::{
    ApiKey, CreateTopicsResponse, FetchResponse, FindCoordinatorResponse, FrameDecoder,
    InitProducerIdResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, ProduceResponse, SaslAuthenticateResponse,
};
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// Requests kept for reuse.
const FREE_REQUESTS_MAX: usize = 16;

/// How often the kernel is asked for its unsent bytes within a `request_timeout` without answer.
/// By so small a part of it a request may be given up too early or too late.
const UNSENT_CHECKS_PER_TIMEOUT: u64 = 4;

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
    /// What became of topics that were to be created.
    CreateTopics(CreateTopicsResponse),
    /// Records.
    Fetch(FetchResponse),
    /// Offsets.
    ListOffsets(ListOffsetsResponse),
    /// What became of offsets that were to be kept.
    OffsetCommit(OffsetCommitResponse),
    /// Offsets that are kept.
    OffsetFetch(OffsetFetchResponse),
    /// Who keeps them.
    FindCoordinator(FindCoordinatorResponse),
    /// A producer id, or why there is none.
    InitProducerId(InitProducerIdResponse),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Handshake,
    Ready,
}

/// One connection to one broker, without the socket.
pub struct Connection {
    pub(super) config: Arc<ConnectionConfig>,
    pub(super) peer: BrokerAddress,
    pub(super) phase: Phase,
    /// What its peer was first asked, or taken for.
    pub(super) beginning: Beginning,
    pub(super) decoder: FrameDecoder,
    pub(super) requests: VecDeque<Request>,
    /// Requests at the front that are wholly written.
    pub(super) written: usize,
    /// Requests without response whose last bytes the transport took, and has not written yet.
    pub(super) unflushed: VecDeque<Request>,
    next_correlation: i32,
    pub(super) versions: [(ApiKey, Option<i16>); ApiKey::ALL.len()],
    /// `None` where no login is configured.
    pub(super) login: Option<Login>,
    /// When the login was last completed.
    pub(super) logged_in_at: u64,
    pub(super) set_writer: SetWriter,
    free: Vec<Request>,
    spare_response: ProduceResponse,
    pub(super) unanswered_ids: VecDeque<i32>,
    pub(super) unconfirmed: Unconfirmed,
    /// The cluster that the broker must belong to.
    pub(super) cluster_id: Option<Arc<str>>,
    /// Bytes of all requests so far.
    pub(super) sent_bytes: u64,
    /// Bytes that the socket took.
    pub(super) written_bytes: u64,
    /// Bytes that have certainly reached the other end, the broker's machine or a proxy's: its
    /// kernel acknowledged them, or the broker answered a request that ends there.
    left_bytes: u64,
    /// When the driver is to say how much has left: see [`Connection::poll_unsent`].
    unsent_check_at: u64,
    pub(super) throttled_until: u64,
    /// Requests that may be in flight: see [`Connection::window`].
    window: usize,
    /// Something was answered since the handshake.
    pub(super) answered: bool,
    /// When something was last sent or received, nanoseconds, monotonic.
    last_activity: u64,
    /// How long the machine was asleep since, which the monotonic clock does not count.
    slept: u64,
    pub(super) last_sent: u64,
}

impl Connection {
    /// A connection whose socket has just been connected: ApiVersions is to be written. Where it is
    /// configured what the broker is, the connection is ready at once.
    pub fn new(config: Arc<ConnectionConfig>, peer: BrokerAddress, now: u64) -> Self {
        let beginning = config.peers.beginning(now, &peer);
        let login = config.sasl_mechanism.clone().map(Login::new);
        let mut connection = Connection {
            decoder: FrameDecoder::new(config.response_bytes_max.min(HANDSHAKE_FRAME_MAX)),
            config,
            peer,
            phase: Phase::Handshake,
            beginning,
            requests: VecDeque::with_capacity(8),
            written: 0,
            next_correlation: 0,
            versions: ApiKey::ALL.map(|api| (api, None)),
            login,
            logged_in_at: 0,
            unflushed: VecDeque::new(),
            set_writer: SetWriter::default(),
            free: Vec::new(),
            spare_response: ProduceResponse::default(),
            unanswered_ids: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
            cluster_id: None,
            sent_bytes: 0,
            written_bytes: 0,
            left_bytes: 0,
            unsent_check_at: 0,
            throttled_until: 0,
            window: usize::MAX,
            answered: false,
            last_activity: now,
            slept: 0,
            last_sent: 0,
        };
        match beginning {
            Beginning::Ask(version) => connection.send_api_versions(now, version),
            Beginning::Assume => connection.assume(),
        }
        connection
    }

    /// The same, where only a broker of this cluster will do, if it is known: before the connection
    /// is ready, the broker is asked for its cluster. An address may have been given to another.
    pub fn of_cluster(mut self, id: Option<Arc<str>>) -> Self {
        self.cluster_id = id;
        self
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The version to speak, once ready; `None` if broker and client have none in common.
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        self.versions.iter().find(|entry| entry.0 == api)?.1
    }

    /// The requests that are not settled, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.unflushed.iter().chain(&self.requests)
    }

    /// Requests not settled yet.
    pub fn in_flight(&self) -> usize {
        self.requests.len() + self.unflushed.len()
    }

    /// Whether it is ready, and nothing is going on.
    pub fn is_idle(&self) -> bool {
        self.is_ready() && self.has_nothing_to_do()
    }

    /// Whether nothing is in flight, and no login under way.
    pub fn has_nothing_to_do(&self) -> bool {
        self.in_flight() == 0 && !self.logs_in()
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
        if let Some(login) = &mut self.login {
            login.handle_suspended(span);
        }
    }

    pub(super) fn mark_active(&mut self, now: u64) {
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
    pub fn poll_response(&mut self, now: u64) -> Result<Option<Incoming>, Problem> {
        let result = self.next_response(now);
        // A peer that never answered ApiVersions as a broker does may be no broker at all.
        let is_stranger = !self.has_versions();
        if self.is_unanswered_assumption() {
            return result.map_err(|problem| self.handle_unanswered(now, problem));
        }
        result.map_err(|problem| match problem.kind() {
            ProblemKind::Protocol if is_stranger => problem.of_kind(ProblemKind::NotKafka),
            _ => problem,
        })
    }

    fn next_response(&mut self, now: u64) -> Result<Option<Incoming>, Problem> {
        loop {
            let Some(frame) = self.decoder.next_frame().map_err(broken_rule)? else {
                return Ok(None);
            };
            let front = self.requests.front().filter(|_| self.written > 0);
            if front.is_some_and(|request| request.kind == RequestKind::BareToken) {
                let response = SaslAuthenticateResponse::bare(frame);
                self.decoder.accept_empty_frames(false);
                let request = self.take_answered(now);
                self.recycle(request);
                return self.handle_sasl_authenticate(now, response).map(Some);
            }
            let correlation = peek_correlation(frame)?;
            if let Some(at) = self.unanswered_ids.iter().position(|&id| id == correlation) {
                self.unanswered_ids.remove(at);
                continue;
            }
            let request = match self.requests.front() {
                Some(request) if self.written > 0 => request,
                _ => return Err(broken_rule("the broker answered what was not asked")),
            };
            if correlation != request.correlation {
                return Err(broken_rule(format_args!(
                    "the broker answered request {correlation} where {} was due",
                    request.correlation
                )));
            }
            // A response that cannot be read leaves its request among the unsettled.
            let (parsed, surplus) = parse(frame, request, &mut self.spare_response)?;
            if surplus > 0 && self.config.peers.handle_surplus(now, &self.peer) {
                let api = request.kind.api_key();
                log::warn!("{}: {surplus} bytes too many in a {api:?} response", self.peer);
            }
            let request = self.take_answered(now);
            if self.phase == Phase::Ready && !self.answered {
                self.answered = true;
                self.config.peers.handle_worked(now, &self.peer);
            }
            return self.accept(now, request, parsed).map(Some);
        }
    }

    /// Takes out the request whose answer has come.
    fn take_answered(&mut self, now: u64) -> Request {
        let request = self.requests.pop_front().expect("an answer belongs to a request");
        self.written -= 1;
        self.left_bytes = self.left_bytes.max(request.ends_at);
        self.check_unsent_later(now);
        self.unconfirmed.handle_answer(request.correlation);
        request
    }

    fn accept(&mut self, now: u64, request: Request, parsed: Parsed) -> Result<Incoming, Problem> {
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
            Parsed::CreateTopics(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::CreateTopics(response))
            }
            Parsed::Fetch(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::Fetch(response))
            }
            Parsed::ListOffsets(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::ListOffsets(response))
            }
            Parsed::OffsetCommit(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::OffsetCommit(response))
            }
            Parsed::OffsetFetch(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::OffsetFetch(response))
            }
            Parsed::FindCoordinator(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::FindCoordinator(response))
            }
            Parsed::InitProducerId(response) => {
                self.throttle(now, &request, response.throttle_time_ms);
                self.recycle(request);
                Ok(Incoming::InitProducerId(response))
            }
            Parsed::SaslHandshake(response) => {
                self.recycle(request);
                self.handle_sasl_handshake(now, &response)
            }
            Parsed::SaslAuthenticate(response) => {
                self.recycle(request);
                self.handle_sasl_authenticate(now, response)
            }
            Parsed::Produce => {
                let response = std::mem::take(&mut self.spare_response);
                self.throttle(now, &request, response.throttle_time_ms);
                Ok(Incoming::Produce(request, response))
            }
        }
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

    /// When the driver is to say how many bytes the kernel holds, if it can, with
    /// [`Connection::handle_unsent`]. That is while an answer is late for a quarter of
    /// `request_timeout` and more, so that a connection whose requests are answered costs no
    /// system call.
    pub fn poll_unsent(&self) -> Option<u64> {
        (self.in_flight() > 0).then_some(self.unsent_check_at)
    }

    pub(super) fn check_unsent_later(&mut self, now: u64) {
        let wait = self.config.request_timeout / UNSENT_CHECKS_PER_TIMEOUT;
        self.unsent_check_at = now.saturating_add(wait);
    }

    /// The kernel still holds `unsent` bytes of what it took: they are not known to have arrived.
    /// On a link that takes longer than `request_timeout` for one request, requests that were given
    /// up on time would be sent again and again without end. So if more bytes have arrived than at
    /// the last call, the time of each request starts anew that has not wholly arrived, or had not
    /// at the last call. If no more have arrived, deadlines stay.
    pub fn handle_unsent(&mut self, now: u64, unsent: usize) {
        let left = self.written_bytes.saturating_sub(unsent as u64);
        let progress = left > self.left_bytes;
        self.left_bytes = self.left_bytes.max(left);
        let deadline = now.saturating_add(self.config.request_timeout);
        if self.phase == Phase::Ready {
            for request in self.unflushed.iter_mut().chain(&mut self.requests) {
                let was_held_up = request.held_up;
                request.held_up = request.ends_at > left;
                if progress && (request.held_up || was_held_up) {
                    request.deadline = request.deadline.max(deadline);
                }
            }
        }
        self.check_unsent_later(now);
    }

    /// The request in flight whose deadline comes first. Those with acks=0 that encryption has not
    /// let go of stand in a line of their own.
    fn oldest(&self) -> Option<&Request> {
        let fronts = [self.unflushed.front(), self.requests.front()];
        fronts.into_iter().flatten().min_by_key(|request| request.deadline)
    }

    /// When [`Connection::handle_timeout`] must be called, nanoseconds, monotonic.
    pub fn poll_timeout(&self) -> Option<u64> {
        let deadline = self.oldest().map(|request| request.deadline);
        [deadline, self.login_timeout()].into_iter().flatten().min()
    }

    /// Ends a throttle that is over, and checks the deadline of what is in flight.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), Problem> {
        if self.throttled_until <= now {
            self.throttled_until = 0;
        }
        if self.unsent_check_at <= now {
            // The driver could not say.
            self.check_unsent_later(now);
        }
        self.check_login(now)?;
        let Some(request) = self.oldest().filter(|request| request.deadline <= now) else {
            return Ok(());
        };
        let problem = match request.kind {
            RequestKind::ApiVersions => {
                let (first, longest) = (self.config.handshake_timeout, self.config.request_timeout);
                let patience = self.config.peers.patience(now, &self.peer, first, longest);
                let setting = if patience == longest {
                    "request_timeout"
                } else {
                    "connection_setup_timeout"
                };
                let patience = Duration::from_nanos(patience);
                let text =
                    format_args!("ApiVersions was not answered within {setting} = {patience:?}");
                self.handle_refused(now, Problem::new(ProblemKind::TimedOut, text))
            }
            kind => {
                let (api, timeout) = (kind.api_key(), self.config.request_timeout);
                let timeout = Duration::from_nanos(timeout);
                let text =
                    format_args!("{api:?} was not answered within request_timeout = {timeout:?}");
                let problem = Problem::new(ProblemKind::TimedOut, text);
                match self.is_unanswered_assumption() {
                    true => self.handle_unanswered(now, problem),
                    false => problem,
                }
            }
        };
        Err(problem)
    }

    /// The batches in flight, oldest request first.
    pub fn batches_mut(&mut self) -> impl Iterator<Item = &mut InFlightBatch> {
        self.unflushed
            .iter_mut()
            .chain(&mut self.requests)
            .flat_map(|request| request.batches.iter_mut())
    }

    /// The connection is gone: everything that was not answered, oldest first.
    pub fn into_unsettled(self) -> impl Iterator<Item = Request> {
        self.unflushed.into_iter().chain(self.requests)
    }
}

fn broken_rule(words: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemKind::Protocol, words)
}

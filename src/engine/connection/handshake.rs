//! What a connection does before it is ready: it asks which versions the broker speaks, logs in
//! where a login is configured, and makes sure that the broker belongs to the known cluster.

use super::connection::{Connection, Incoming, Phase};
use super::login::{Carrier, Login, LoginAnswer, LoginTask};
use super::peers::Beginning;
use super::request::RequestKind;
use crate::engine::protocol::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, ErrorCode, MetadataRequest, MetadataResponse,
    MetadataTopics, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse, encode_bare_token,
};
use crate::problem::{Problem, ProblemKind};

/// From this version on Metadata tells the cluster's id.
const CLUSTER_ID_MIN: i16 = 2;

/// What this client calls itself (KIP-511).
const SOFTWARE_NAME: &str = "tidegate";

/// Frames of a peer that has not shown yet who it is may be this long, in bytes: the longest is the
/// answer about the cluster, which lists its brokers.
pub(super) const HANDSHAKE_FRAME_MAX: usize = 1 << 20;

/// Characters of a broker's words about a login that are told.
const MESSAGE_CHARS_MAX: usize = 300;

impl Connection {
    pub(super) fn send_api_versions(&mut self, now: u64, version: i16) {
        self.send_simple(now, RequestKind::ApiVersions, version, |version, out| {
            let request = ApiVersionsRequest {
                client_software_name: SOFTWARE_NAME,
                client_software_version: env!("CARGO_PKG_VERSION"),
            };
            request.encode(version, out);
        });
        let (first, longest) = (self.config.handshake_timeout, self.config.request_timeout);
        let patience = self.config.peers.patience(now, &self.peer, first, longest);
        if let Some(request) = self.requests.back_mut() {
            request.deadline = now.saturating_add(patience);
        }
    }

    pub(super) fn handle_api_versions(
        &mut self,
        now: u64,
        version: i16,
        response: &ApiVersionsResponse,
    ) -> Result<Incoming, Problem> {
        if response.error == ErrorCode::UNSUPPORTED_VERSION && version > 0 {
            // The broker does not know this version of ApiVersions itself (KIP-511).
            self.config.peers.handle_answered(now, &self.peer, self.beginning.version());
            let known = response.range(ApiKey::ApiVersions).map_or(0, |range| range.max);
            self.send_api_versions(now, known.clamp(0, version - 1));
            return Ok(Incoming::Pending);
        }
        if response.error != ErrorCode::NONE {
            if response.error == ErrorCode::INVALID_REQUEST {
                self.config.peers.handle_refused(now, &self.peer, self.beginning.version());
            }
            let text =
                format_args!("the broker answered ApiVersions v{version} with {}", response.error);
            return Err(Problem::new(ProblemKind::Broker(response.error), text));
        }
        self.config.peers.handle_answered(now, &self.peer, self.beginning.version());
        self.versions = ApiKey::ALL.map(|api| (api, response.negotiate(api)));
        if self.login.is_some() {
            self.begin_login(now)?;
            return Ok(Incoming::Pending);
        }
        self.ask_cluster(now)
    }

    /// Takes the broker for an old one, which does not know ApiVersions. Kafka 0.9 knows version 1
    /// of Produce and Fetch too, but 0.8.2 answers that in the layout of 0, and the versions differ
    /// in nothing else that this client needs.
    pub(super) fn assume(&mut self) {
        self.versions = ApiKey::ALL.map(|api| match api {
            ApiKey::Produce | ApiKey::Metadata | ApiKey::Fetch | ApiKey::ListOffsets => {
                (api, Some(0))
            }
            api => (api, None),
        });
        self.end_handshake();
    }

    /// Whether it was not asked which versions it speaks, but taken for an old broker.
    pub fn is_assumed(&self) -> bool {
        self.beginning == Beginning::Assume
    }

    /// Whether it is taken for an old broker, and has answered nothing yet that shows it is one.
    pub(super) fn is_unanswered_assumption(&self) -> bool {
        self.is_assumed() && !self.answered
    }

    /// Whether it was taken for an old broker, and the same address has told since, on another
    /// connection, what it speaks.
    pub fn was_assumed_wrongly(&self, now: u64) -> bool {
        self.is_assumed() && self.config.peers.has_told_versions(now, &self.peer)
    }

    /// Whether the broker has said which versions it speaks, or else has answered what it was taken
    /// to speak.
    pub fn has_versions(&self) -> bool {
        if self.is_assumed() {
            return self.answered;
        }
        self.versions.iter().any(|(_, version)| version.is_some())
    }

    fn ask_cluster(&mut self, now: u64) -> Result<Incoming, Problem> {
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
        Ok(self.end_handshake())
    }

    fn end_handshake(&mut self) -> Incoming {
        self.phase = Phase::Ready;
        self.decoder.set_frame_size_max(self.config.response_bytes_max);
        Incoming::Ready
    }

    pub(super) fn check_cluster(
        &mut self,
        response: &MetadataResponse,
    ) -> Result<Incoming, Problem> {
        // A broker that tells no id proves nothing.
        let told = response.cluster_id.as_deref().filter(|id| !id.is_empty());
        if let (Some(told), Some(wanted)) = (told, self.cluster_id.as_deref())
            && told != wanted
        {
            let text = format_args!("it belongs to the cluster {told}, not to {wanted}");
            return Err(Problem::new(ProblemKind::OtherCluster, text));
        }
        Ok(self.end_handshake())
    }

    fn begin_login(&mut self, now: u64) -> Result<(), Problem> {
        let handshake = self.version(ApiKey::SaslHandshake);
        let authenticate = self.version(ApiKey::SaslAuthenticate);
        let Some(login) = &mut self.login else { return Ok(()) };
        let mechanism = login.mechanism().clone();
        let Some(handshake) = handshake else {
            let text = "the broker offers SaslHandshake in no version that this client speaks";
            return Err(Problem::new(ProblemKind::BrokerTooOld, text));
        };
        // A broker expects SaslAuthenticate after version 1, and bare tokens after version 0.
        let (version, carrier) = match authenticate {
            Some(authenticate) if handshake >= 1 => (1, Carrier::Authenticate(authenticate)),
            _ => (0, Carrier::Bare),
        };
        login.begin(carrier);
        self.send_simple(now, RequestKind::SaslHandshake, version, |version, out| {
            SaslHandshakeRequest { mechanism: &mechanism }.encode(version, out);
        });
        Ok(())
    }

    pub(super) fn handle_sasl_handshake(
        &mut self,
        now: u64,
        response: &SaslHandshakeResponse,
    ) -> Result<Incoming, Problem> {
        let computed_by = now.saturating_add(self.config.request_timeout);
        let Some(login) = &mut self.login else { return Ok(Incoming::Pending) };
        let mechanism = login.mechanism();
        let text = match response.error {
            ErrorCode::NONE => {
                login.handle_accepted(computed_by);
                return Ok(Incoming::Pending);
            }
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let theirs = printable(&response.mechanisms.join(", "));
                format!(
                    "the broker does not take the login mechanism {mechanism}, but {theirs}: set \
                     sasl (sasl.mechanism) to one of them"
                )
            }
            ErrorCode::ILLEGAL_SASL_STATE if self.phase == Phase::Ready => {
                "the broker takes no further login of this connection now".to_owned()
            }
            ErrorCode::ILLEGAL_SASL_STATE => "the broker's listener takes no login here: set \
                 security.protocol to PLAINTEXT or SSL, or use the port of its SASL listener"
                .to_owned(),
            error => format!("the broker answered the login mechanism {mechanism} with {error}"),
        };
        Err(Problem::new(ProblemKind::Authentication, text))
    }

    pub(super) fn handle_sasl_authenticate(
        &mut self,
        now: u64,
        response: SaslAuthenticateResponse,
    ) -> Result<Incoming, Problem> {
        let computed_by = now.saturating_add(self.config.request_timeout);
        let Some(login) = &mut self.login else { return Ok(Incoming::Pending) };
        if response.error == ErrorCode::NONE {
            let lifetime = u64::try_from(response.session_lifetime_ms).unwrap_or(0);
            let lifetime = lifetime.saturating_mul(1_000_000);
            login.handle_challenge(now, response.token, lifetime, computed_by);
            return Ok(Incoming::Pending);
        }
        let (mechanism, error) = (login.mechanism(), response.error);
        // The mechanism has taken the broker's refusal from its own messages already, and taken
        // secrets out of it. The words in this response repeat it with them, so they are not shown.
        let message = match login.refusal() {
            Some(refusal) => refusal.to_string(),
            None => response.message.map_or(String::new(), |told| printable(&told)),
        };
        let advice = advice(mechanism);
        let text = match message.as_str() {
            "" => format!("the broker refused the login ({mechanism}): {error}{advice}"),
            told => format!("the broker refused the login ({mechanism}): {told} ({error}){advice}"),
        };
        Err(Problem::new(ProblemKind::Authentication, text))
    }

    /// The step of the login that is to be computed now, off the event loop. Its result goes to
    /// [`Connection::handle_login`].
    pub fn poll_login(&mut self) -> Option<LoginTask> {
        self.login.as_mut()?.take_task()
    }

    /// What came of the login's step. Returns [`Incoming::Ready`] if the connection is ready with
    /// it. An error means: close.
    pub fn handle_login(&mut self, now: u64, answer: LoginAnswer) -> Result<Incoming, Problem> {
        let Some(login) = &mut self.login else { return Ok(Incoming::Pending) };
        match login.handle_answer(now, answer)? {
            None => {
                self.logged_in_at = now;
                match self.phase {
                    Phase::Handshake => self.ask_cluster(now),
                    Phase::Ready => Ok(Incoming::Pending),
                }
            }
            Some((Carrier::Authenticate(version), token)) => {
                self.send_simple(now, RequestKind::SaslAuthenticate, version, |version, out| {
                    SaslAuthenticateRequest { token: &token }.encode(version, out);
                });
                Ok(Incoming::Pending)
            }
            Some((Carrier::Bare, token)) => {
                let mut request = self.new_request();
                request.kind = RequestKind::BareToken;
                encode_bare_token(&token, &mut request.framing);
                request.wire_len = request.framing.len();
                self.decoder.accept_empty_frames(true);
                self.send(now, request);
                Ok(Incoming::Pending)
            }
        }
    }

    /// Whether a login is under way.
    pub fn logs_in(&self) -> bool {
        self.login.as_ref().is_some_and(Login::is_under_way)
    }

    /// Whether a request may be sent now: the broker does not throttle, and no login is under way.
    pub fn may_send(&self, now: u64) -> bool {
        self.is_ready() && now >= self.throttled_until && !self.logs_in()
    }

    /// Something is to be sent: logs in again before that, if the session ends soon or has ended.
    pub fn renew_login(&mut self, now: u64) {
        let is_due = self.login.as_ref().is_some_and(|login| login.again_at() <= now);
        if is_due && self.may_send(now) {
            // It was found out with the first login that the broker has what this needs.
            let _ = self.begin_login(now);
        }
    }

    /// When a connection in use logs in again, or a step of the login must have been computed.
    pub(super) fn login_timeout(&self) -> Option<u64> {
        let login = self.login.as_ref()?;
        let is_used = self.last_sent > self.logged_in_at;
        // While the broker throttles it reads nothing, and a login would wait as anything does.
        let again_at = login.again_at().max(self.throttled_until);
        let again_at = if is_used { again_at } else { u64::MAX };
        Some(again_at.min(login.computed_by())).filter(|&at| at != u64::MAX)
    }

    /// Fails the connection if a login's token took too long to compute. Otherwise logs in again,
    /// if that is due and the connection was used since the last login.
    pub(super) fn check_login(&mut self, now: u64) -> Result<(), Problem> {
        let Some(login) = &self.login else { return Ok(()) };
        if login.computed_by() <= now {
            let mechanism = login.mechanism();
            let text = format_args!(
                "the login ({mechanism}) had no token to send within request_timeout: what gives \
                 the credentials takes too long"
            );
            return Err(Problem::new(ProblemKind::Authentication, text));
        }
        if self.last_sent > self.logged_in_at {
            self.renew_login(now);
        }
        Ok(())
    }

    /// The peer closed the connection, or it broke. Returns the problem with what it may mean.
    pub fn handle_lost(&mut self, now: u64, problem: Problem) -> Problem {
        if self.is_unanswered_assumption() {
            return self.handle_unanswered(now, problem);
        }
        let ended = matches!(problem.kind(), ProblemKind::Closed | ProblemKind::Reset);
        let front = self.requests.front().filter(|_| self.written > 0);
        match front.map(|request| request.kind) {
            // That the broker refuses this client's certificate says nothing of versions.
            Some(RequestKind::ApiVersions) if problem.kind() != ProblemKind::Tls => {
                self.handle_refused(now, problem)
            }
            Some(RequestKind::BareToken) if ended => {
                let words = "as Kafka before 1.0 does when it refuses a login: wrong credentials?";
                let problem = problem.in_words(format_args!("{problem}, {words}"));
                problem.of_kind(ProblemKind::Authentication)
            }
            // A broker that restarts closes connections too, but it has worked before.
            Some(_)
                if ended
                    && self.login.is_none()
                    && !self.answered
                    && !self.config.peers.has_worked(now, &self.peer) =>
            {
                let words =
                    "right after the first request: does this listener want a login (SASL)?";
                problem.in_words(format_args!("{problem}, {words}"))
            }
            _ => problem,
        }
    }

    /// A broker that was taken for an old one is lost, or says what cannot be read, before it has
    /// answered anything. Where it owed an answer it may be no old one.
    pub(super) fn handle_unanswered(&mut self, now: u64, problem: Problem) -> Problem {
        if self.written > 0 {
            self.config.peers.handle_assumed_wrongly(now, &self.peer);
        }
        self.config.peers.in_words_of_assumption(problem)
    }

    /// ApiVersions was sent, and no answer came.
    pub(super) fn handle_refused(&self, now: u64, problem: Problem) -> Problem {
        if problem.kind() == ProblemKind::TimedOut && !self.config.is_proxied {
            self.config.peers.handle_silence(now, &self.peer, self.beginning.version());
        } else {
            self.config.peers.handle_refused(now, &self.peer, self.beginning.version());
        }
        if self.config.peers.may_assume() {
            return self.config.peers.in_words_of_assumption(problem);
        }
        let is_said = problem.message().contains("older than 0.10");
        if self.beginning.version() != 0 || is_said || self.config.is_proxied {
            return problem;
        }
        let tls = if self.config.is_tls { "" } else { " A listener that wants TLS?" };
        problem.in_words(format_args!(
            "{problem} (ApiVersions is refused in every version: a broker older than 0.10? then \
             set broker_version_fallback (broker.version.fallback) to its version.{tls})"
        ))
    }
}

/// What to check when a broker refuses a mechanism's login, where the broker's words do not say it:
/// those of Amazon MSK are "Access denied", whatever is wrong.
fn advice(mechanism: &str) -> &'static str {
    match mechanism {
        "AWS_MSK_IAM" => {
            "; if access is denied, check the access key and its secret, the session token, the \
             region, this machine's clock, and that IAM allows kafka-cluster:Connect"
        }
        _ => "",
    }
}

/// A broker's own words, as far as they can stand in an error and a log.
fn printable(words: &str) -> String {
    let shown = words.chars().take(MESSAGE_CHARS_MAX);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

//! The login of a connection (SASL): which step it is at, and when its session ends.
//!
//! The broker is told the mechanism (SaslHandshake), then tokens go to and fro (SaslAuthenticate)
//! until the mechanism has nothing more to send. What a token holds is computed elsewhere, since it
//! may take long: [`Login::take_task`] hands out what is to be computed, and [`LoginAnswer`] brings
//! the token. While it is computed no request of this connection is unanswered.
//!
//! A broker may end the session (KIP-368): it tells its length with the last answer. Before it ends
//! the client logs in again on the same connection, between other requests. A connection that sends
//! nothing is left alone, and logs in again before its next request.

use std::sync::{Arc, Weak};

use zeroize::Zeroizing;

use crate::engine::policy::{SaslError, SaslExchange};
use crate::engine::random::Random;
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// Of a session's length, after how many hundredths at least the client logs in again; and up to
/// how many more, at random. (As in Java's client.)
const RELOGIN_PERCENT: u64 = 85;
const RELOGIN_SPREAD_PERCENT: u64 = 10;

/// Kafka takes no second login of a connection within this time after the first, in nanoseconds.
const RELOGIN_MIN: u64 = 1_000_000_000;

/// A login as far as it has come. It may be the application's own, whose destructor may panic.
pub struct HeldExchange(Option<Box<dyn SaslExchange>>);

impl HeldExchange {
    /// Its destructor runs under a guard from now on.
    pub fn new(exchange: Box<dyn SaslExchange>) -> Self {
        HeldExchange(Some(exchange))
    }

    /// The exchange, without the guard.
    pub fn take(mut self) -> Option<Box<dyn SaslExchange>> {
        self.0.take()
    }
}

impl Drop for HeldExchange {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            let _inside = user_code::enter();
            // The panic hook has told it.
            let _ = user_code::call(|| drop(exchange));
        }
    }
}

/// One step of a login, to be computed on a thread that may wait.
pub struct LoginTask {
    /// The login as it stands; `None` to begin one.
    pub exchange: Option<HeldExchange>,
    /// What the broker sent; `None` at first.
    pub challenge: Option<Vec<u8>>,
    asker: Weak<()>,
}

impl LoginTask {
    /// Whether the connection is still there that asks for it.
    pub fn is_wanted(&self) -> bool {
        self.asker.strong_count() > 0
    }
}

/// What a login sends. It may hold a password.
pub type Token = Zeroizing<Vec<u8>>;

/// What came of a [`LoginTask`].
pub struct LoginAnswer {
    /// The login, for its next step.
    pub exchange: Option<HeldExchange>,
    /// What the broker has said of a refusal in the mechanism's own messages.
    pub refusal: Option<SaslError>,
    /// What to send; `None` if the login is complete. Or why it cannot go on.
    pub token: Result<Option<Token>, Problem>,
}

/// How tokens are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// In SaslAuthenticate of this version.
    Authenticate(i16),
    /// Bare, as Kafka before 1.0 wants them.
    Bare,
}

enum Step {
    /// Not begun, or complete.
    Idle,
    /// The broker was told the mechanism.
    Handshake,
    /// The next token is being computed.
    Computing,
    /// A token was sent.
    Sent,
}

/// See the module.
pub(super) struct Login {
    mechanism: Arc<str>,
    step: Step,
    carrier: Carrier,
    exchange: Option<HeldExchange>,
    refusal: Option<SaslError>,
    task: Option<LoginTask>,
    /// Tasks are wanted while this lives.
    asker: Arc<()>,
    /// A token must be there by then.
    computed_by: u64,
    /// As the broker said last, in nanoseconds; 0 for no end.
    lifetime: u64,
    /// When the broker said so.
    answered_at: u64,
    /// When to log in again; `u64::MAX` for never.
    again_at: u64,
}

impl Login {
    pub(super) fn new(mechanism: Arc<str>) -> Self {
        Login {
            mechanism,
            step: Step::Idle,
            carrier: Carrier::Bare,
            exchange: None,
            refusal: None,
            task: None,
            asker: Arc::new(()),
            computed_by: u64::MAX,
            lifetime: 0,
            answered_at: 0,
            again_at: u64::MAX,
        }
    }

    pub(super) fn mechanism(&self) -> &Arc<str> {
        &self.mechanism
    }

    /// Whether it is under way: then nothing else may be sent.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.step, Step::Idle)
    }

    /// When to log in again; `u64::MAX` for never.
    pub(super) fn again_at(&self) -> u64 {
        self.again_at
    }

    /// By when a token must have been computed.
    pub(super) fn computed_by(&self) -> u64 {
        if matches!(self.step, Step::Computing) { self.computed_by } else { u64::MAX }
    }

    /// The broker is told the mechanism.
    pub(super) fn begin(&mut self, carrier: Carrier) {
        (self.step, self.carrier, self.again_at) = (Step::Handshake, carrier, u64::MAX);
        (self.exchange, self.refusal, self.lifetime) = (None, None, 0);
    }

    /// The broker takes the mechanism.
    pub(super) fn handle_accepted(&mut self, computed_by: u64) {
        self.ask(None, None, computed_by);
    }

    /// The broker took a token and answered, with a challenge or, at the end, with nothing.
    pub(super) fn handle_challenge(
        &mut self,
        now: u64,
        challenge: Vec<u8>,
        lifetime: u64,
        computed_by: u64,
    ) {
        (self.lifetime, self.answered_at) = (lifetime, now);
        let exchange = self.exchange.take();
        self.ask(exchange, Some(challenge), computed_by);
    }

    fn ask(
        &mut self,
        exchange: Option<HeldExchange>,
        challenge: Option<Vec<u8>>,
        computed_by: u64,
    ) {
        (self.step, self.computed_by) = (Step::Computing, computed_by);
        let asker = Arc::downgrade(&self.asker);
        self.task = Some(LoginTask { exchange, challenge, asker });
    }

    /// What the broker has said of a refusal in the mechanism's own messages.
    pub(super) fn refusal(&self) -> Option<&SaslError> {
        self.refusal.as_ref()
    }

    /// The machine was asleep for `span`, in nanoseconds: the session went on.
    pub(super) fn handle_suspended(&mut self, span: u64) {
        if self.again_at != u64::MAX {
            self.again_at = self.again_at.saturating_sub(span);
        }
    }

    /// What is to be computed now.
    pub(super) fn take_task(&mut self) -> Option<LoginTask> {
        self.task.take()
    }

    /// What to send, and how. `None` once the login is complete.
    pub(super) fn handle_answer(
        &mut self,
        now: u64,
        answer: LoginAnswer,
    ) -> Result<Option<(Carrier, Token)>, Problem> {
        if !matches!(self.step, Step::Computing) {
            return Err(Problem::new(ProblemKind::Authentication, "a token that nobody asked for"));
        }
        (self.exchange, self.refusal) = (answer.exchange, answer.refusal);
        if let Some(token) = answer.token? {
            self.step = Step::Sent;
            return Ok(Some((self.carrier, token)));
        }
        (self.step, self.exchange) = (Step::Idle, None);
        if self.lifetime > 0 {
            // Clients that connected together, after a restart, must not all come back together.
            let spread = Random::new(now).draw() % (RELOGIN_SPREAD_PERCENT + 1);
            let wait = self.lifetime / 100 * (RELOGIN_PERCENT + spread);
            // A session shorter than that cannot be renewed in time; the client tries anyway.
            let least = if self.lifetime > RELOGIN_MIN { RELOGIN_MIN } else { 0 };
            self.again_at = self.answered_at.saturating_add(wait.max(least));
        }
        Ok(None)
    }
}

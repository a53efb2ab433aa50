//! The login of a connection (SASL): which step it is at, and when its session ends.
//!
//! The broker is told the mechanism (SaslHandshake), then tokens go to and fro (SaslAuthenticate)
//! until the mechanism has nothing more to send. What a token holds is computed elsewhere, since it
//! may take long: [`Login::take_task`] hands out what is to be computed, and [`LoginAnswer`] brings
//! the token. While that is going on nothing of the connection's waits for the broker.
//!
//! A broker may end the session (KIP-368): it tells its length with the last answer. Before it ends
//! the client logs in again on the same connection, between other requests. A connection that sends
//! nothing is left alone, and logs in again before its next request.

use std::sync::Arc;

use crate::engine::policy::{SaslError, SaslExchange};
use crate::engine::random::Random;
use crate::problem::{Problem, ProblemKind};

/// Of a session's length, after how many hundredths at least the client logs in again; and up to
/// how many more, at random. (As in Java's client.)
const RELOGIN_PERCENT: u64 = 85;
const RELOGIN_SPREAD_PERCENT: u64 = 10;

/// One step of a login, to be computed on a thread that may wait.
pub struct LoginTask {
    /// The login as it stands; `None` to begin one.
    pub exchange: Option<Box<dyn SaslExchange>>,
    /// What the broker sent; `None` at first.
    pub challenge: Option<Vec<u8>>,
}

/// What came of a [`LoginTask`].
pub struct LoginAnswer {
    /// The login, for its next step.
    pub exchange: Option<Box<dyn SaslExchange>>,
    /// What to send; `None` if the login is complete. Or why it cannot go on.
    pub token: Result<Option<Vec<u8>>, Problem>,
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
    exchange: Option<Box<dyn SaslExchange>>,
    task: Option<LoginTask>,
    /// A token must be there by then.
    computed_by: u64,
    /// As the broker said last, in nanoseconds; 0 for no end.
    lifetime: u64,
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
            task: None,
            computed_by: u64::MAX,
            lifetime: 0,
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
        (self.exchange, self.lifetime) = (None, 0);
    }

    /// The broker takes the mechanism.
    pub(super) fn handle_accepted(&mut self, computed_by: u64) {
        (self.step, self.computed_by) = (Step::Computing, computed_by);
        self.task = Some(LoginTask { exchange: None, challenge: None });
    }

    /// The broker took a token, and answered with another.
    pub(super) fn handle_challenge(&mut self, challenge: Vec<u8>, lifetime: u64, computed_by: u64) {
        (self.step, self.computed_by, self.lifetime) = (Step::Computing, computed_by, lifetime);
        let exchange = self.exchange.take();
        self.task = Some(LoginTask { exchange, challenge: Some(challenge) });
    }

    /// What the broker has said of a refusal in the mechanism's own messages.
    pub(super) fn refusal(&self) -> Option<SaslError> {
        self.exchange.as_ref().and_then(|exchange| exchange.refusal())
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
    ) -> Result<Option<(Carrier, Vec<u8>)>, Problem> {
        if !matches!(self.step, Step::Computing) {
            return Err(Problem::new(ProblemKind::Authentication, "a token that nobody asked for"));
        }
        self.exchange = answer.exchange;
        if let Some(token) = answer.token? {
            self.step = Step::Sent;
            return Ok(Some((self.carrier, token)));
        }
        (self.step, self.exchange) = (Step::Idle, None);
        if self.lifetime > 0 {
            // Clients that connected together, after a restart, must not all come back together.
            let spread = Random::new(now).draw() % (RELOGIN_SPREAD_PERCENT + 1);
            let percent = RELOGIN_PERCENT + spread;
            self.again_at = now.saturating_add(self.lifetime / 100 * percent);
        }
        Ok(None)
    }
}

//! Computes the steps of logins (SASL) on helper threads: hashing a password takes milliseconds,
//! and what gives the credentials may be code of the application's that asks a server.

use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::helper_threads::HelperThreads;
use crate::engine::cluster::BrokerAddress;
use crate::engine::connection::{HeldExchange, LoginAnswer, LoginTask};
use crate::engine::policy::{SaslError, SaslMechanism, SaslPeer};
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// How a producer logs in.
#[derive(Clone)]
pub(super) struct Logins {
    mechanism: Arc<dyn SaslMechanism>,
    threads: Arc<HelperThreads>,
}

impl Logins {
    pub(super) fn new(mechanism: Arc<dyn SaslMechanism>, threads: Arc<HelperThreads>) -> Self {
        Logins { mechanism, threads }
    }

    /// Computes a step. `reply` is called once, on another thread; on the calling one if no other
    /// can be had; and not at all if the connection that asks is gone by then.
    pub(super) fn compute(
        &self,
        peer: BrokerAddress,
        task: LoginTask,
        reply: impl Fn(LoginAnswer) + Clone + Send + 'static,
    ) {
        let (mechanism, answer) = (self.mechanism.clone(), reply.clone());
        let job = move || {
            // Where credentials take long, connections give up, and others ask anew.
            if task.is_wanted() {
                answer(step(&*mechanism, &peer, task));
            }
        };
        if let Err(error) = self.threads.run(job) {
            let text = format!("no thread to compute the login on: {error}");
            let token = Err(Problem::told_by(ProblemKind::System, text, error));
            reply(LoginAnswer { exchange: None, refusal: None, token });
        }
    }
}

/// Asks the mechanism, which may be code of the application's, and may panic.
fn step(mechanism: &dyn SaslMechanism, peer: &BrokerAddress, task: LoginTask) -> LoginAnswer {
    let LoginTask { exchange, challenge, .. } = task;
    let held = exchange.and_then(HeldExchange::take);
    let _inside = user_code::enter();
    let computed = user_code::call(|| {
        let mut exchange = match held {
            Some(exchange) => exchange,
            None => mechanism.begin(&SaslPeer::new(&peer.host, peer.port, SystemTime::now()))?,
        };
        let token = exchange.next(challenge.as_deref())?.map(Zeroizing::new);
        Ok((exchange.refusal(), exchange, token))
    });
    let problem = match computed {
        Ok(Ok((refusal, exchange, token))) => {
            let exchange = Some(HeldExchange::new(exchange));
            return LoginAnswer { exchange, refusal, token: Ok(token) };
        }
        Ok(Err(error)) => {
            let error: SaslError = error;
            Problem::new(ProblemKind::Authentication, format_args!("{}: {error}", mechanism.name()))
        }
        Err(_) => {
            let text = "the login mechanism panicked, or what gives its credentials";
            Problem::new(ProblemKind::Authentication, text)
        }
    };
    LoginAnswer { exchange: None, refusal: None, token: Err(problem) }
}

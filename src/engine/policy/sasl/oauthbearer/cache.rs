//! Keeps a token for as long as it should serve, and fetches one at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use super::TokenProvider;
use super::token::{Expiry, OAuthToken};
use crate::engine::policy::sasl::error::{SaslError, SaslErrorKind};
use crate::logging as log;

/// How much of its lifetime a token serves for logins, in percent; Kafka's own default of
/// `sasl.login.refresh.window.factor`. The rest is for fetching another.
const LIFETIME_USED_PERCENT: u32 = 80;

/// After a fetch has failed, a token that is still good is presented for so long before another is
/// tried for: each try may take many seconds, and holds up the login.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// A checked token.
pub(super) struct Fetched {
    pub(super) token: OAuthToken,
    pub(super) expires: Option<SystemTime>,
    /// From when on another is to be fetched; `None` for one that serves a single login.
    stale: Option<SystemTime>,
}

/// The token that serves now, if any does.
#[derive(Default)]
pub(super) struct Cache {
    /// Held while a token is fetched, which may take long.
    fetching: Mutex<()>,
    /// Held for moments only; taken while `fetching` is held, never the other way round.
    state: Mutex<State>,
    /// Logins that have seen that no token serves, for a test that must know of them.
    #[cfg(test)]
    pub(super) arrived: std::sync::atomic::AtomicUsize,
}

#[derive(Default)]
struct State {
    kept: Option<Arc<Fetched>>,
    /// How many fetches have failed.
    failures: u64,
    /// Until then the kept token is presented, and no other is fetched: the last fetch has failed.
    paused_until: Option<SystemTime>,
    last_failure: Option<SaslError>,
}

impl Cache {
    /// The token that serves at `now`, or one that is fetched.
    pub(super) fn token(
        &self,
        provider: &dyn TokenProvider,
        now: SystemTime,
    ) -> Result<Arc<Fetched>, SaslError> {
        let failures = {
            let state = self.state();
            if let Some(fresh) = state.fresh(now) {
                return Ok(fresh);
            }
            state.failures
        };
        #[cfg(test)]
        self.arrived.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _fetching = match self.fetching.try_lock() {
            Ok(fetching) => fetching,
            // A provider that panics leaves the lock poisoned, and nothing half done behind it.
            Err(TryLockError::Poisoned(fetching)) => fetching.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Another login fetches, which may take long. A token that is still good will do.
                if let Some(valid) = self.state().valid(now) {
                    return Ok(valid);
                }
                self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        {
            // Another login may have fetched meanwhile. Its failure counts for this one too: else
            // all connections would wait, one after the other, for a service that is down.
            let state = self.state();
            if let Some(fresh) = state.fresh(now) {
                return Ok(fresh);
            }
            if state.failures != failures
                && let Some(failure) = &state.last_failure
            {
                return state.valid_or(failure.clone(), now);
            }
        }
        let fetched = fetch(provider, now);
        let mut state = self.state();
        match fetched {
            Ok(fetched) => {
                let fetched = Arc::new(fetched);
                state.kept = fetched.stale.is_some().then(|| fetched.clone());
                state.paused_until = None;
                Ok(fetched)
            }
            Err(error) => {
                state.failures += 1;
                state.last_failure = Some(error.clone());
                state.paused_until = now.checked_add(PAUSE_AFTER_FAILURE);
                let result = state.valid_or(error.clone(), now);
                // The logger is code of the application's.
                drop(state);
                if result.is_ok() {
                    log::warn!("the last token is presented again, as no other was had: {error}");
                }
                result
            }
        }
    }

    /// Presents a token no more that a broker has refused.
    pub(super) fn forget(&self, refused: &Arc<Fetched>) {
        let mut state = self.state();
        state.kept.take_if(|kept| Arc::ptr_eq(kept, refused));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The kept token, while no other is to be fetched.
    fn fresh(&self, now: SystemTime) -> Option<Arc<Fetched>> {
        if self.paused_until.is_some_and(|until| now < until) {
            return self.valid(now);
        }
        self.kept.as_ref().filter(|kept| kept.stale.is_some_and(|stale| now < stale)).cloned()
    }

    /// The kept token, while it has not expired.
    fn valid(&self, now: SystemTime) -> Option<Arc<Fetched>> {
        self.kept.as_ref().filter(|kept| kept.expires.is_some_and(|at| now < at)).cloned()
    }

    /// The kept token, while it has not expired; else what kept another from being fetched.
    fn valid_or(&self, failure: SaslError, now: SystemTime) -> Result<Arc<Fetched>, SaslError> {
        self.valid(now).ok_or(failure)
    }
}

fn fetch(provider: &dyn TokenProvider, now: SystemTime) -> Result<Fetched, SaslError> {
    let told = provider.token();
    let token = told.map_err(|error| SaslError::provider_failed("tokens", error))?;
    token.check()?;
    let expires = match token.expiry {
        Expiry::Unknown => None,
        Expiry::At(at) => Some(at),
        // A lifetime beyond what the clock can tell is as good as none known.
        Expiry::After(lifetime) => now.checked_add(lifetime),
    };
    let lifetime = expires.map(|at| at.duration_since(now).unwrap_or(Duration::ZERO));
    if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
        let words = "the application's provider gave a token that has expired: check the provider, \
                     and this machine's clock";
        return Err(SaslError::new(SaslErrorKind::Credentials, words));
    }
    let stale = lifetime.and_then(|lifetime| now.checked_add(used_part(lifetime)));
    Ok(Fetched { token, expires, stale })
}

fn used_part(lifetime: Duration) -> Duration {
    // Dividing first, as no lifetime times 80 fits a `Duration` in general.
    lifetime / 100 * LIFETIME_USED_PERCENT
}

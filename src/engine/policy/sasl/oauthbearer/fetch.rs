//! Fetches a token, and says how long it serves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::TokenProvider;
use super::token::{Expiry, OAuthToken};
use crate::engine::policy::sasl::error::{SaslError, SaslErrorKind};
use crate::engine::policy::sasl::kept::{Fetched, Serves};

/// How much of its lifetime a token serves for logins, in percent; Kafka's own default of
/// `sasl.login.refresh.window.factor`. The rest is for fetching another.
const LIFETIME_USED_PERCENT: u32 = 80;

/// A checked token of the provider's.
pub(super) fn fetch(
    provider: &dyn TokenProvider,
    now: SystemTime,
) -> Result<Fetched<Arc<OAuthToken>>, SaslError> {
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
    let serves = expires.zip(stale).map(|(expires, stale)| Serves { stale, expires });
    Ok(Fetched { value: Arc::new(token), serves })
}

fn used_part(lifetime: Duration) -> Duration {
    // Dividing first, as no lifetime times 80 fits a `Duration` in general.
    lifetime / 100 * LIFETIME_USED_PERCENT
}

//! Keeps what a login presents for as long as it serves, and fetches it one at a time: tokens, and
//! credentials that expire.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, SystemTime};

use super::error::SaslError;
use crate::locking::lock;
use crate::logging as log;

/// After a fetch has failed, what is still good is presented for so long before another fetch is
/// tried: each try may take many seconds, and holds up the login.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What was fetched, and how long it serves.
pub(crate) struct Fetched<T> {
    pub(crate) value: T,
    /// `None` for what serves one login only.
    pub(crate) serves: Option<Serves>,
}

/// Until when something serves.
#[derive(Clone, Copy)]
pub(crate) struct Serves {
    /// From then on another one is fetched, and this one presented only if that fails.
    pub(crate) stale: SystemTime,
    /// From then on it is of no use.
    pub(crate) expires: SystemTime,
}

/// See the module. `T` is cheap to clone.
pub(crate) struct Kept<T> {
    /// What is kept, for the log: "token".
    what: &'static str,
    /// Held while something is fetched, which may take long.
    fetching: Mutex<()>,
    /// Held for moments only; taken while `fetching` is held, never the other way round.
    state: Mutex<State<T>>,
    pub(super) arrivals: Arrivals,
}

/// Logins that have seen that nothing serves, for a test that must know of them.
#[derive(Default)]
pub(super) struct Arrivals {
    #[cfg(test)]
    pub(super) count: std::sync::atomic::AtomicUsize,
}

impl Arrivals {
    fn add(&self) {
        #[cfg(test)]
        self.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

struct State<T> {
    kept: Option<(T, Serves)>,
    /// How many fetches have failed.
    failures: u64,
    last_failure: Option<SaslError>,
    /// Until then what is kept is presented while it is good, and nothing is fetched.
    paused_until: Option<SystemTime>,
}

impl<T: Clone> Kept<T> {
    /// Nothing is kept yet.
    pub(crate) fn new(what: &'static str) -> Self {
        let state = State { kept: None, failures: 0, last_failure: None, paused_until: None };
        Kept {
            what,
            fetching: Mutex::default(),
            state: Mutex::new(state),
            arrivals: Arrivals::default(),
        }
    }

    /// What serves now, or what `fetch` gets, which is told the time when it begins.
    ///
    /// # Errors
    ///
    /// That of `fetch`, if nothing is kept that is still good; a login that waited for another's
    /// fetch gets that one's.
    pub(crate) fn get(
        &self,
        clock: &dyn Fn() -> SystemTime,
        fetch: impl FnOnce(SystemTime) -> Result<Fetched<T>, SaslError>,
    ) -> Result<T, SaslError> {
        let arrived = clock();
        let failures = {
            let state = self.state();
            if let Some(fresh) = state.fresh(arrived) {
                return Ok(fresh);
            }
            state.failures
        };
        self.arrivals.add();
        let _fetching = match self.fetching.try_lock() {
            Ok(fetching) => fetching,
            // A provider that panics leaves the lock poisoned, and nothing half done behind it.
            Err(TryLockError::Poisoned(fetching)) => fetching.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Another login fetches. What is still good will do meanwhile.
                if let Some(good) = self.state().good(arrived) {
                    return Ok(good);
                }
                lock(&self.fetching)
            }
        };
        // Waiting for another login's fetch may have taken long.
        let now = clock();
        {
            // It may have succeeded. Its failure counts for this login too: else all connections
            // would wait, one after the other, for a service that is down.
            let state = self.state();
            if let Some(fresh) = state.fresh(now) {
                return Ok(fresh);
            }
            if state.failures != failures
                && let Some(failure) = &state.last_failure
            {
                return state.good(now).ok_or_else(|| failure.clone());
            }
        }
        self.keep(now, fetch(now))
    }

    /// What came of a fetch that began at `now`.
    fn keep(
        &self,
        now: SystemTime,
        fetched: Result<Fetched<T>, SaslError>,
    ) -> Result<T, SaslError> {
        let mut state = self.state();
        let error = match fetched {
            Ok(Fetched { value, serves }) => {
                state.kept = serves.map(|serves| (value.clone(), serves));
                state.paused_until = None;
                return Ok(value);
            }
            Err(error) => error,
        };
        state.failures += 1;
        state.last_failure = Some(error.clone());
        state.paused_until = now.checked_add(PAUSE_AFTER_FAILURE);
        let good = state.good(now);
        // The logger is code of the application's.
        drop(state);
        if good.is_some() {
            let what = self.what;
            log::warn!("the last {what} is presented again, as no other was had: {error}");
        }
        good.ok_or(error)
    }

    /// Presents no more what `is_it` says is the one that a broker has refused.
    pub(crate) fn forget(&self, is_it: impl FnOnce(&T) -> bool) {
        self.state().kept.take_if(|(kept, _)| is_it(kept));
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock.
        lock(&self.state)
    }
}

impl<T: Clone> State<T> {
    /// What is kept, while nothing else is to be fetched.
    fn fresh(&self, now: SystemTime) -> Option<T> {
        if self.paused_until.is_some_and(|until| now < until) {
            return self.good(now);
        }
        self.kept_if(|serves| now < serves.stale)
    }

    /// What is kept, while it has not expired.
    fn good(&self, now: SystemTime) -> Option<T> {
        self.kept_if(|serves| now < serves.expires)
    }

    fn kept_if(&self, serves_now: impl FnOnce(&Serves) -> bool) -> Option<T> {
        let kept = self.kept.as_ref().filter(|(_, serves)| serves_now(serves));
        kept.map(|(value, _)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::engine::policy::sasl::error::SaslErrorKind;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Serves from 0 on, is stale at 80 and of no use at 100.
    fn fetched(value: u32) -> Result<Fetched<u32>, SaslError> {
        Ok(Fetched { value, serves: Some(Serves { stale: at(80), expires: at(100) }) })
    }

    fn away() -> Result<Fetched<u32>, SaslError> {
        Err(SaslError::new(SaslErrorKind::Credentials, "it is away"))
    }

    #[test]
    fn after_a_failed_fetch_what_is_good_is_presented_without_another_for_a_while() {
        let kept = Kept::new("number");
        assert_eq!(kept.get(&|| at(0), |_| fetched(1)).ok(), Some(1));
        let tries = Cell::new(0);
        let get = |now| {
            let fetch = |_| {
                tries.set(tries.get() + 1);
                away()
            };
            kept.get(&|| at(now), fetch)
        };
        for (now, tried) in [(79, 0), (80, 1), (89, 1), (90, 2), (99, 2)] {
            assert_eq!((get(now).ok(), tries.get()), (Some(1), tried), "at {now}");
        }
        assert!(get(100).is_err(), "it has expired, whatever the pause");
        assert_eq!(tries.get(), 3);
        assert_eq!(
            kept.get(&|| at(101), |_| fetched(2)).ok(),
            Some(2),
            "nothing is good to wait with"
        );
    }

    #[test]
    fn a_fetch_that_takes_long_holds_up_nobody_who_has_something_good() {
        let kept = Kept::new("number");
        kept.get(&|| at(0), |_| fetched(1)).expect("it is fetched");
        let (begun, begins) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let shared = &kept;
            let slow = scope.spawn(move || {
                let fetch = |_| {
                    begun.send(()).expect("the test waits");
                    gate.recv().expect("the test lets it go");
                    Ok(Fetched { value: 2, serves: None })
                };
                shared.get(&|| at(80), fetch)
            });
            begins.recv().expect("it begins");
            assert_eq!(kept.get(&|| at(80), |_| fetched(3)).ok(), Some(1));
            go.send(()).expect("it waits");
            assert_eq!(slow.join().expect("no panic").ok(), Some(2));
        });
    }
}

//! A user name and a password, and where they come from.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::error::{SaslError, SaslErrorKind};
use super::secret::Secret;
use crate::locking::lock;

/// A user name and its password. `Debug` shows the user name only.
///
/// ```
/// use tidegate::Credentials;
///
/// let credentials = Credentials::new("shop", "pa55word");
/// assert_eq!(credentials.user(), "shop");
/// assert!(!format!("{credentials:?}").contains("pa55word"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: Secret,
}

impl Credentials {
    /// The two parts, which are checked when a login begins: neither may be empty or hold a NUL.
    pub fn new(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Credentials { user: user.into(), password: password.into() }
    }

    /// The user name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    pub(super) fn into_parts(self) -> (String, Secret) {
        (self.user, self.password)
    }

    /// Refuses what no broker takes: both parts must have at least one character, and no NUL
    /// (RFC 4616 section 2, RFC 5802 section 5.1).
    pub(super) fn check(&self) -> Result<(), SaslError> {
        let words = if self.user.is_empty() {
            "the user name is empty: set one"
        } else if self.password.is_empty() {
            "the password is empty: set one"
        } else if self.user.contains('\0') {
            "the user name holds a NUL character, which no broker takes: use another"
        } else if self.password.expose().contains(&0) {
            "the password holds a NUL character, which no broker takes: use another"
        } else {
            return Ok(());
        };
        Err(SaslError::new(SaslErrorKind::Credentials, words))
    }
}

/// Where the credentials of a login come from: asked at every login, so that a change counts from
/// the next connection, or the next login on the same one (KIP-368), on.
///
/// [`Credentials`] never change, [`ReplaceableCredentials`] change when told, and a closure
/// `Fn() -> Result<Credentials, Box<dyn Error + Send + Sync>>` reads them wherever it likes.
///
/// ```
/// use tidegate::{Credentials, Scram};
///
/// let mechanism = Scram::sha_512_from_provider(|| {
///     let password = std::fs::read_to_string("/run/secrets/kafka")?;
///     Ok(Credentials::new("shop", password.trim_end()))
/// });
/// # let _ = mechanism;
/// ```
pub trait CredentialsProvider: Send + Sync {
    /// The credentials to present now. Called on a thread that may wait; a panic fails that login
    /// only.
    ///
    /// # Errors
    ///
    /// The login fails with [`SaslErrorKind::Credentials`] and repeats the error's words, which are
    /// logged and so must hold no secret.
    fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>>;
}

impl<F> CredentialsProvider for F
where
    F: Fn() -> Result<Credentials, Box<dyn Error + Send + Sync>> + Send + Sync,
{
    fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        self()
    }
}

impl CredentialsProvider for Credentials {
    fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        Ok(self.clone())
    }
}

/// Credentials that can be replaced while a producer runs. Clones share them.
///
/// ```
/// use tidegate::{Plain, ReplaceableCredentials};
///
/// let credentials = ReplaceableCredentials::new("shop", "spring");
/// let mechanism = Plain::from_provider(credentials.clone());
/// // Later, and from any thread; connections that exist stay as they are.
/// credentials.replace("shop", "summer");
/// # let _ = mechanism;
/// ```
#[derive(Clone, Debug)]
pub struct ReplaceableCredentials(Arc<Mutex<Credentials>>);

impl ReplaceableCredentials {
    /// The credentials to begin with.
    pub fn new(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        ReplaceableCredentials(Arc::new(Mutex::new(Credentials::new(user, password))))
    }

    /// What every login presents that begins from now on.
    pub fn replace(&self, user: impl Into<String>, password: impl Into<Secret>) {
        let new = Credentials::new(user, password);
        // No code that can panic runs under this lock.
        *lock(&self.0) = new;
    }
}

impl CredentialsProvider for ReplaceableCredentials {
    fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        Ok(lock(&self.0).clone())
    }
}

/// A mechanism's provider, which it can clone and print without showing anything of it.
#[derive(Clone)]
pub(super) struct Source(Arc<dyn CredentialsProvider>);

impl Source {
    pub(super) fn new(provider: impl CredentialsProvider + 'static) -> Self {
        Source(Arc::new(provider))
    }

    /// The credentials to present now, checked.
    pub(super) fn ask(&self) -> Result<Credentials, SaslError> {
        let asked = self.0.credentials();
        let credentials = asked.map_err(|e| SaslError::provider_failed("credentials", e))?;
        credentials.check()?;
        Ok(credentials)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsProvider")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_show_the_user_and_not_the_password() {
        let fixed = Credentials::new("alice", "hunter2");
        let replaceable = ReplaceableCredentials::new("bob", "hunter2");
        let shown =
            format!("{fixed:?} {fixed:#?} {replaceable:?} {:?}", Source::new(fixed.clone()));
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn empty_parts_and_nul_are_refused_without_showing_them() {
        let malformed = [("", "hunter2"), ("alice", ""), ("al\0ice", "hunter2"), ("alice", "h\0i")];
        for (user, password) in malformed {
            let error = Source::new(Credentials::new(user, password)).ask();
            let error = error.expect_err("no broker takes it");
            assert_eq!(error.kind(), SaslErrorKind::Credentials);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("h\0i"), "{shown}");
        }
    }

    #[test]
    fn replaced_credentials_count_from_the_next_login_on() {
        let credentials = ReplaceableCredentials::new("alice", "old");
        let source = Source::new(credentials.clone());
        assert_eq!(source.ask().expect("they are set").password(), &Secret::from("old"));
        credentials.replace("bob", "new");
        assert_eq!(source.ask().expect("they are set"), Credentials::new("bob", "new"));
    }

    #[test]
    fn a_closure_is_asked_at_every_login_and_its_failure_is_told() {
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        let source = Source::new(move || {
            *counted.lock().expect("nobody panics with it") += 1;
            if *counted.lock().expect("nobody panics with it") == 1 {
                Ok(Credentials::new("alice", "hunter2"))
            } else {
                Err("the vault is sealed".into())
            }
        });
        assert_eq!(source.ask().expect("the first succeeds").user(), "alice");
        let error = source.ask().expect_err("the second fails");
        assert_eq!(error.kind(), SaslErrorKind::Credentials);
        assert!(error.to_string().ends_with("failed: the vault is sealed"), "{error}");
        assert_eq!(*count.lock().expect("nobody panics with it"), 2);
    }
}

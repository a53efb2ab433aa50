//! Why a login failed.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// How many characters of a broker's, or of an application's, own words an error repeats.
pub(super) const FOREIGN_WORDS_MAX: usize = 200;

/// A login that failed: a kind for programs, and words for people. Cheap to clone.
///
/// The words say who is at fault and what to do. They hold no password and no token; mechanisms
/// of an application's own must keep to that too, as errors are logged.
///
/// ```
/// use tidegate::JaasConfig;
///
/// if let Err(error) = JaasConfig::parse("PlainLoginModule required username=\"shop") {
///     println!("{error}"); // says where the quote begins, and shows nothing of the text
///     assert!(!error.message().contains("shop"));
/// }
/// # assert!(JaasConfig::parse("PlainLoginModule required username=\"shop").is_err());
/// ```
#[derive(Clone)]
pub struct SaslError(Arc<Parts>);

struct Parts {
    kind: SaslErrorKind,
    text: Box<str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kinds of failed logins, each with what may lie behind it.
///
/// ```
/// use std::time::SystemTime;
/// use tidegate::{Plain, SaslErrorKind, SaslMechanism, SaslPeer};
///
/// let without_password = Plain::new("shop", "");
/// let peer = SaslPeer::new("broker-1", 9093, SystemTime::now());
/// let error = without_password.begin(&peer).err();
/// assert_eq!(error.map(|error| error.kind()), Some(SaslErrorKind::Credentials));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SaslErrorKind {
    /// This side has nothing usable to present: a user name or a password is missing or malformed,
    /// a token has expired, or the application's provider failed.
    Credentials,
    /// The broker refused what was presented: a wrong password, an unknown user, an invalid token.
    Refused,
    /// The broker broke the rules of the mechanism.
    Protocol,
    /// The broker could not prove that it knows the password: it may be an impostor.
    ServerNotVerified,
    /// The broker asked for more than a limit of this client allows.
    Limit,
    /// The operating system gave no random numbers.
    System,
}

impl SaslError {
    /// A failed login, in words that hold no secret.
    pub fn new(kind: SaslErrorKind, words: impl fmt::Display) -> SaslError {
        SaslError(Arc::new(Parts { kind, text: words.to_string().into(), source: None }))
    }

    /// An application's provider failed. Its own words are repeated: they must hold no secret.
    ///
    /// A provider of this client's own gives a [`SaslError`], which is told as it is.
    pub(super) fn provider_failed(what: &str, source: Box<dyn Error + Send + Sync>) -> SaslError {
        let source = match source.downcast::<SaslError>() {
            Ok(own) => return *own,
            Err(source) => source,
        };
        let told = foreign_words(&source.to_string());
        let text = format!("the application's provider of {what} failed: {told}").into();
        let kind = SaslErrorKind::Credentials;
        SaslError(Arc::new(Parts { kind, text, source: Some(source) }))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> SaslErrorKind {
        self.0.kind
    }

    /// What happened, in words: the same as its `Display`.
    pub fn message(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.text)
    }
}

impl Error for SaslError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Somebody else's words, fit for a log: at most [`FOREIGN_WORDS_MAX`] characters, on one line and
/// without control characters.
pub(super) fn foreign_words(words: &str) -> String {
    let fit = |c: char| if c.is_control() { ' ' } else { c };
    let mut told: String = words.chars().take(FOREIGN_WORDS_MAX).map(fit).collect();
    if words.chars().nth(FOREIGN_WORDS_MAX).is_some() {
        told.push('…');
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_error_is_told_and_kept_as_the_source() {
        let source = std::io::Error::other("the vault is sealed\nask the operator");
        let error = SaslError::provider_failed("credentials", Box::new(source));
        assert_eq!(error.kind(), SaslErrorKind::Credentials);
        let words = "the application's provider of credentials failed: the vault is sealed ask \
                     the operator";
        assert_eq!(error.to_string(), words);
        assert_eq!(format!("{error:?}"), format!("Credentials: {words}"));
        let kept = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        assert!(kept.is_some());
    }

    #[test]
    fn foreign_words_are_short_and_on_one_line() {
        assert_eq!(foreign_words("no\r\nsuch\u{1b}[31m user"), "no  such [31m user");
        let long = "ü".repeat(FOREIGN_WORDS_MAX + 1);
        let told = foreign_words(&long);
        assert_eq!(told.chars().count(), FOREIGN_WORDS_MAX + 1);
        assert!(told.ends_with("ü…"));
    }
}

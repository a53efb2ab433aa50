//! Bytes that nobody may see.

use std::fmt;

use zeroize::Zeroizing;

/// A password, a token or a key: owned bytes that are never printed and are overwritten when the
/// value is dropped.
///
/// Text is kept as its UTF-8. A `String` or a `Vec` that is given away is not copied, so that no
/// second copy stays behind; of a `&str` the caller's own text stays. Each clone is a copy that is
/// overwritten on its own.
///
/// ```
/// use tidegate::Secret;
///
/// let password = Secret::from("open sesame");
/// assert_eq!(format!("{password:?}"), "Secret(..)");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes, for the code that presents them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The text, where text was given; else nothing.
    #[cfg(feature = "tls")]
    pub(crate) fn as_text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the length: a short password would show that it is short.
        f.write_str("Secret(..)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(Zeroizing::new(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Secret(Zeroizing::new(bytes))
    }
}

/// Whether two secrets are the same, in a time that depends on their lengths only.
impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        let pairs = self.0.iter().zip(other.0.iter());
        let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
        self.0.len() == other.0.len() && difference == 0
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
        assert_eq!(secret.expose(), b"hunter2");
    }

    #[test]
    fn secrets_are_equal_when_their_bytes_are() {
        assert_eq!(Secret::from("a b"), Secret::from(b"a b".to_vec()));
        assert_ne!(Secret::from("a b"), Secret::from("a c"));
        assert_ne!(Secret::from("a b"), Secret::from("a b "));
        assert!(Secret::from("").is_empty());
    }
}

//! Text that must not be seen: passwords, and PEM text that may hold private keys.

use std::fmt;

use zeroize::Zeroizing;

/// A text that no `Debug` output shows, overwritten in memory when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over, without a copy.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_seen() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("hunter2", "(hidden)"));
    }
}

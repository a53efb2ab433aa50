//! `sasl.jaas.config` as Java programs write it, and the mechanism that it configures.

mod tokenizer;

use std::fmt;
use std::sync::Arc;

use self::tokenizer::{Token, Tokenizer};
use super::credentials::Credentials;
use super::error::{SaslError, SaslErrorKind, foreign_words};
use super::mechanism::SaslMechanism;
use super::plain::Plain;
use super::scram::Scram;
use super::secret::Secret;

/// Bytes of a configuration that are read. Real ones have some hundred.
const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// Options of a module. Kafka's own modules know less than ten.
const OPTIONS_MAX: usize = 100;

const CONTROL_FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

const PLAIN_MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM_MODULE: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";
const OAUTH_MODULE: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";

/// What this client can do with which module, for errors.
const SUPPORTED: &str = "supported are PLAIN with \
                         org.apache.kafka.common.security.plain.PlainLoginModule, and \
                         SCRAM-SHA-256 and SCRAM-SHA-512 with \
                         org.apache.kafka.common.security.scram.ScramLoginModule";

/// The value of Kafka's `sasl.jaas.config`: one login module with its options.
///
/// ```
/// use tidegate::JaasConfig;
///
/// let config = JaasConfig::parse(
///     r#"org.apache.kafka.common.security.scram.ScramLoginModule required
///          username="shop"
///          password="a \"quoted\" word";"#,
/// )?;
/// let mechanism = config.mechanism("SCRAM-SHA-512")?;
/// assert_eq!(mechanism.name(), "SCRAM-SHA-512");
/// # Ok::<(), tidegate::SaslError>(())
/// ```
///
/// `Debug` shows the module's class only.
pub struct JaasConfig {
    module: String,
    options: Vec<(String, Secret)>,
}

impl JaasConfig {
    /// Reads `MODULE FLAG (NAME=VALUE)* ;` by the rules of Kafka's `JaasConfig` class:
    ///
    /// * Values and names may be quoted, by `"` or `'`. In quotes a backslash begins an escape:
    ///   `\n`, `\t`, `\r`, `\f`, `\b`, `\a`, `\v`, up to three octal digits; before anything else
    ///   it stands for that. (Java's properties files take one level of backslashes away before.)
    /// * Unquoted, a value ends at a blank, `=`, `;`, a quote or `/`, and a backslash is itself.
    /// * `/`, `//` and `/* */` begin comments outside of quotes.
    /// * The flag is `required`, `requisite`, `sufficient` or `optional`, in any case. With a
    ///   single module it has no effect.
    /// * Of an option that is there twice, the last one counts.
    ///
    /// Java ends a quoted value at the end of its line if the quote is missing. That is an error
    /// here.
    ///
    /// # Errors
    ///
    /// [`SaslErrorKind::Credentials`], which says where what is missing (lines and columns from 1),
    /// and never repeats a part of the text, as it may be one of a password.
    pub fn parse(text: &str) -> Result<JaasConfig, SaslError> {
        if text.len() > CONFIG_BYTES_MAX {
            let bytes = text.len();
            return Err(unusable(format_args!(
                "it has {bytes} bytes, this client reads at most {CONFIG_BYTES_MAX}"
            )));
        }
        let mut tokens = Tokenizer::new(text);
        let module = match tokens.next()? {
            Token::Word(module) => text_of(&module),
            Token::End => return Err(unusable("it names no login module")),
            _ => return Err(tokens.unusable("a login module's class is expected")),
        };
        let is_flag = |flag: &str| CONTROL_FLAGS.iter().any(|f| f.eq_ignore_ascii_case(flag));
        match tokens.next()? {
            Token::Word(flag) if is_flag(&text_of(&flag)) => {}
            _ => {
                return Err(tokens.unusable(
                    "a control flag is expected behind the login module's class: required, \
                     requisite, sufficient or optional",
                ));
            }
        }
        let options = options(&mut tokens)?;
        match tokens.next()? {
            Token::End => Ok(JaasConfig { module, options }),
            _ => Err(tokens.unusable(
                "something follows the semicolon, but Kafka's clients have one login module: \
                 remove the rest, or quote a value that holds a semicolon",
            )),
        }
    }

    /// The class of the login module.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The value of an option, if it is there.
    pub fn option(&self, name: &str) -> Option<&Secret> {
        // The last one counts, as in Java.
        self.options.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// All options, in their order.
    #[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
    pub(crate) fn options(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The mechanism of this name (`sasl.mechanism`), with the credentials of this configuration.
    ///
    /// `PlainLoginModule` needs `username` and `password`; `ScramLoginModule` too, and takes
    /// `tokenauth=true` for a delegation token. Other options have no effect, as in Java. The
    /// class may stand in a shaded package, such as `kafkashaded.org.apache...`.
    ///
    /// # Errors
    ///
    /// [`SaslErrorKind::Credentials`]: an option is missing, the module and the mechanism do not
    /// belong together, or this client has no such mechanism. `OAuthBearerLoginModule` does not say
    /// where tokens come from: make an [`OAuthBearer`](super::OAuthBearer), or set
    /// `sasl.oauthbearer.token.endpoint.url` beside it in properties.
    pub fn mechanism(&self, mechanism: &str) -> Result<Arc<dyn SaslMechanism>, SaslError> {
        let is_shaded = |class: &str| {
            let outer = self.module.strip_suffix(class);
            outer.is_some_and(|outer| outer.is_empty() || outer.ends_with('.'))
        };
        if mechanism == "OAUTHBEARER" || is_shaded(OAUTH_MODULE) {
            return Err(self.needs_provider());
        }
        let scram = is_shaded(SCRAM_MODULE);
        if !scram && !is_shaded(PLAIN_MODULE) {
            let module = foreign_words(&self.module);
            return Err(unusable(format_args!("its login module is {module}; {SUPPORTED}")));
        }
        match (mechanism, scram) {
            ("PLAIN", false) => {
                let (user, password) = self.user_and_password()?;
                Ok(Arc::new(Plain::new(user, password)))
            }
            ("SCRAM-SHA-256", true) => self.scram(Scram::sha_256),
            ("SCRAM-SHA-512", true) => self.scram(Scram::sha_512),
            _ => {
                let (mechanism, module) = (foreign_words(mechanism), foreign_words(&self.module));
                Err(unusable(format_args!(
                    "its login module is {module}, which does not serve sasl.mechanism = \
                     {mechanism}; {SUPPORTED}"
                )))
            }
        }
    }

    fn scram(
        &self,
        new: impl Fn(String, Secret) -> Scram,
    ) -> Result<Arc<dyn SaslMechanism>, SaslError> {
        let (user, password) = self.user_and_password()?;
        let scram = new(user, password);
        let token = self.option("tokenauth");
        let is_token = token.is_some_and(|value| value.expose().eq_ignore_ascii_case(b"true"));
        Ok(Arc::new(if is_token { scram.delegation_token() } else { scram }))
    }

    fn user_and_password(&self) -> Result<(String, Secret), SaslError> {
        let option = |name: &str| {
            let value = self.option(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| {
                let what =
                    format_args!("its option {name} is missing or empty: set {name}=\"...\"");
                unusable(what)
            })
        };
        let (user, password) = (option("username")?, option("password")?);
        let credentials = Credentials::new(text_of(user), password.clone());
        credentials.check()?;
        Ok(credentials.into_parts())
    }

    fn needs_provider(&self) -> SaslError {
        let is_unsecured = |(name, _): &(String, Secret)| name.starts_with("unsecured");
        unusable(if self.options.iter().any(is_unsecured) {
            "OAUTHBEARER with unsecured tokens is for tests of Java's own, and this client makes \
             no such tokens: set an OAuthBearer mechanism in code, with a closure that returns a \
             token"
        } else {
            "OAUTHBEARER needs a place where tokens come from, and callback handlers are Java \
             classes: set sasl.oauthbearer.token.endpoint.url, or an OAuthBearer mechanism in \
             code, with a closure that returns a token"
        })
    }
}

impl fmt::Debug for JaasConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JaasConfig").field("module", &self.module).finish_non_exhaustive()
    }
}

/// The options, and the semicolon behind them.
fn options(tokens: &mut Tokenizer<'_>) -> Result<Vec<(String, Secret)>, SaslError> {
    let mut options = Vec::new();
    loop {
        let name = match tokens.next()? {
            Token::Semicolon => return Ok(options),
            Token::Word(name) => text_of(&name),
            Token::End => {
                return Err(tokens.unusable(
                    "the semicolon at the end is missing. Outside of quotes a / begins a comment: \
                     quote values that hold one",
                ));
            }
            Token::Equals | Token::Other => {
                return Err(tokens.unusable("an option's name is expected"));
            }
        };
        if options.len() == OPTIONS_MAX {
            return Err(tokens.unusable(format_args!("it has more than {OPTIONS_MAX} options")));
        }
        let hint = "an option must be name=\"value\"; quote a value that holds blanks, quotes, =, \
                    ; or /";
        if !matches!(tokens.next()?, Token::Equals) {
            return Err(tokens.unusable(hint));
        }
        match tokens.next()? {
            Token::Word(value) => options.push((name, value)),
            _ => return Err(tokens.unusable(hint)),
        }
    }
}

/// A word as text: the tokenizer makes words of characters only.
fn text_of(word: &Secret) -> String {
    String::from_utf8_lossy(word.expose()).into_owned()
}

fn unusable(what: impl fmt::Display) -> SaslError {
    let words = format_args!("the JAAS configuration cannot be used: {what}");
    SaslError::new(SaslErrorKind::Credentials, words)
}

#[cfg(test)]
mod tests;

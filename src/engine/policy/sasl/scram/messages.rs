//! The messages that a broker sends in SCRAM (RFC 5802 section 7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::engine::policy::sasl::error::{SaslError, SaslErrorKind, foreign_words};

/// Bytes of a message of a broker's. Kafka's have about 100.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Kafka's own minimum (`ScramMechanism`), and that of RFC 7677 section 4. With fewer, whoever
/// listens, or pretends to be the broker, tries passwords quickly.
pub(super) const ITERATIONS_MIN: u32 = 4_096;

/// About a second of computing: a broker that asks for more only keeps this client busy.
pub(super) const ITERATIONS_MAX: u32 = 1_000_000;

/// The broker's first message.
pub(super) struct ServerFirst<'a> {
    /// All of it, as it is signed.
    pub(super) text: &'a str,
    /// The client's nonce and the broker's.
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// Reads `r=NONCE,s=SALT,i=ITERATIONS`; optional extensions behind it have no meaning here.
    pub(super) fn parse(message: &'a [u8], client_nonce: &str) -> Result<Self, SaslError> {
        let text = text_of(message)?;
        refuse_error(text)?;
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        if first.starts_with("m=") {
            return Err(protocol("it asks for an extension that this client does not know"));
        }
        let nonce = first.strip_prefix("r=").ok_or_else(|| protocol("it has no nonce"))?;
        let salt = parts.next().and_then(|part| part.strip_prefix("s="));
        let iterations = parts.next().and_then(|part| part.strip_prefix("i="));
        let broker_nonce = nonce
            .strip_prefix(client_nonce)
            .ok_or_else(|| protocol("its nonce does not begin with the client's"))?;
        if broker_nonce.is_empty() {
            return Err(protocol("its nonce adds nothing to the client's"));
        }
        if !broker_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(protocol("its nonce holds characters that are not printable"));
        }
        let salt = salt.ok_or_else(|| protocol("it has no salt"))?;
        let salt = BASE64.decode(salt).map_err(|_| protocol("its salt is not base64"))?;
        if salt.is_empty() {
            return Err(protocol("its salt is empty"));
        }
        let iterations = iterations.ok_or_else(|| protocol("it has no number of iterations"))?;
        Ok(ServerFirst { text, nonce, salt, iterations: parse_iterations(iterations)? })
    }
}

/// The signature of the broker's last message, `v=SIGNATURE`.
pub(super) fn server_signature(message: &[u8]) -> Result<Vec<u8>, SaslError> {
    if message.is_empty() {
        let words = "the broker accepted the login without proving that it knows the password: it \
                     may be an impostor. Check its address";
        return Err(SaslError::new(SaslErrorKind::ServerNotVerified, words));
    }
    let text = text_of(message)?;
    refuse_error(text)?;
    let first = text.split(',').next().unwrap_or_default();
    let signature = first.strip_prefix("v=").ok_or_else(|| protocol("it has no signature"))?;
    BASE64.decode(signature).map_err(|_| protocol("its signature is not base64"))
}

fn parse_iterations(digits: &str) -> Result<u32, SaslError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(protocol("its number of iterations is no number"));
    }
    match digits.parse::<u32>() {
        Ok(iterations) if iterations < ITERATIONS_MIN => Err(SaslError::new(
            SaslErrorKind::Protocol,
            format_args!(
                "the broker asks for {iterations} iterations of SCRAM: fewer than \
                 {ITERATIONS_MIN} are weak, and Kafka's brokers have none such. It may be an \
                 impostor that collects proofs to try passwords against"
            ),
        )),
        Ok(iterations) if iterations <= ITERATIONS_MAX => Ok(iterations),
        // What no u32 holds is more as well.
        _ => Err(SaslError::new(
            SaslErrorKind::Limit,
            format_args!(
                "the broker asks for {} iterations of SCRAM, this client computes at most \
                 {ITERATIONS_MAX}: create the user's credentials with fewer",
                foreign_words(digits)
            ),
        )),
    }
}

fn text_of(message: &[u8]) -> Result<&str, SaslError> {
    if message.len() > MESSAGE_BYTES_MAX {
        let bytes = message.len();
        let words = format_args!(
            "the broker's SCRAM message has {bytes} bytes, this client reads at most \
             {MESSAGE_BYTES_MAX}"
        );
        return Err(SaslError::new(SaslErrorKind::Limit, words));
    }
    std::str::from_utf8(message).map_err(|_| protocol("it is not UTF-8"))
}

/// The broker's own error, `e=VALUE`, which ends the exchange.
fn refuse_error(text: &str) -> Result<(), SaslError> {
    let Some(value) = text.strip_prefix("e=") else { return Ok(()) };
    let told = foreign_words(value.split(',').next().unwrap_or_default());
    let words = format_args!(
        "the broker refused the login with \"{told}\": check the user name, the password, and that \
         the user has credentials for this SCRAM mechanism"
    );
    Err(SaslError::new(SaslErrorKind::Refused, words))
}

fn protocol(what: &str) -> SaslError {
    let words = format_args!("the broker's SCRAM message breaks RFC 5802: {what}");
    SaslError::new(SaslErrorKind::Protocol, words)
}

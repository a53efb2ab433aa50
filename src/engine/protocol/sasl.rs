//! SaslHandshake v0–1 and SaslAuthenticate v0–2: how a client logs in (KIP-43, KIP-152, KIP-368).

use super::ErrorCode;
use super::api::ApiKey;
use super::header::{begin_frame, end_frame};
use super::primitives::{DecodeError, Reader, Writer};

/// Bytes that a mechanism's name takes at least in a response.
const MECHANISM_BYTES_MIN: usize = 2;

/// Mechanisms that are kept of a response: for a person to read.
const MECHANISMS_MAX: usize = 32;

/// Names the mechanism that the client will log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslHandshakeRequest<'a> {
    /// Its name, such as `SCRAM-SHA-512`.
    pub mechanism: &'a str,
}

impl SaslHandshakeRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::SaslHandshake.versions().contains(version));
        Writer::new(out, false).string(self.mechanism);
    }
}

/// Whether the broker takes the mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslHandshakeResponse {
    /// UNSUPPORTED_SASL_MECHANISM, ILLEGAL_SASL_STATE or NONE.
    pub error: ErrorCode,
    /// The mechanisms that the listener takes, the first 32 of them.
    pub mechanisms: Vec<String>,
}

impl SaslHandshakeResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::SaslHandshake.versions().contains(version));
        let mut r = Reader::new(body, false);
        let error = ErrorCode(r.i16("error_code")?);
        let count = r.array("mechanisms", MECHANISM_BYTES_MIN)?;
        let mut mechanisms = Vec::with_capacity(count.min(MECHANISMS_MAX));
        for _ in 0..count {
            let mechanism = r.string("mechanism")?;
            if mechanisms.len() < MECHANISMS_MAX {
                mechanisms.push(mechanism.to_owned());
            }
        }
        r.finish("sasl_handshake_response")?;
        Ok(SaslHandshakeResponse { error, mechanisms })
    }
}

/// One token of the client's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslAuthenticateRequest<'a> {
    /// What the mechanism wants sent. It may hold a password.
    pub token: &'a [u8],
}

impl SaslAuthenticateRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::SaslAuthenticate.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::SaslAuthenticate.is_flexible(version));
        w.length(self.token.len());
        w.raw(self.token);
        w.no_tags();
    }
}

/// The broker's answer to a token.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslAuthenticateResponse {
    /// SASL_AUTHENTICATION_FAILED, ILLEGAL_SASL_STATE or NONE.
    pub error: ErrorCode,
    /// What the broker says of the error.
    pub message: Option<String>,
    /// The mechanism's next token.
    pub token: Vec<u8>,
    /// After so many milliseconds the broker wants another login; 0 for never. Told from v1 on.
    pub session_lifetime_ms: i64,
}

impl SaslAuthenticateResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::SaslAuthenticate.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::SaslAuthenticate.is_flexible(version));
        let error = ErrorCode(r.i16("error_code")?);
        let message = r.nullable_string("error_message")?.map(str::to_owned);
        let token = r.bytes("auth_bytes")?.to_vec();
        let session_lifetime_ms = if version >= 1 { r.i64("session_lifetime_ms")? } else { 0 };
        r.skip_tags("tags")?;
        r.finish("sasl_authenticate_response")?;
        Ok(SaslAuthenticateResponse { error, message, token, session_lifetime_ms })
    }

    /// The answer to a token that was sent bare: all that arrived is the mechanism's.
    pub fn bare(frame: &[u8]) -> Self {
        let (error, message) = (ErrorCode::NONE, None);
        SaslAuthenticateResponse { error, message, token: frame.to_vec(), session_lifetime_ms: 0 }
    }
}

/// Appends a token as it follows SaslHandshake v0: its length and its bytes, without header.
pub fn encode_bare_token(token: &[u8], out: &mut Vec<u8>) {
    let start = begin_frame(out);
    out.extend_from_slice(token);
    end_frame(out, start, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c64_a_handshake_names_the_mechanism_and_hears_which_there_are() {
        let mut body = Vec::new();
        SaslHandshakeRequest { mechanism: "PLAIN" }.encode(1, &mut body);
        assert_eq!(body, b"\0\x05PLAIN");
        let answer = b"\0\x21\0\0\0\x02\0\x06GSSAPI\0\x05PLAIN";
        let response = SaslHandshakeResponse::decode(1, answer).expect("valid");
        assert_eq!(response.error, ErrorCode::UNSUPPORTED_SASL_MECHANISM);
        assert_eq!(response.mechanisms, ["GSSAPI", "PLAIN"]);
        assert!(SaslHandshakeResponse::decode(0, b"\0\0\x7f\xff\xff\xff").is_err());
    }

    #[test]
    fn tokens_travel_in_every_version() {
        let mut bodies = [Vec::new(), Vec::new(), Vec::new()];
        for (version, body) in bodies.iter_mut().enumerate() {
            SaslAuthenticateRequest { token: b"abc" }.encode(version as i16, body);
        }
        assert_eq!(
            bodies,
            [b"\0\0\0\x03abc".to_vec(), b"\0\0\0\x03abc".to_vec(), b"\x04abc\0".to_vec()]
        );
        let v0 = SaslAuthenticateResponse::decode(0, b"\0\0\xff\xff\0\0\0\x01x").expect("valid");
        assert_eq!((v0.token.as_slice(), v0.session_lifetime_ms), (&b"x"[..], 0));
        let lifetime = 4_000_i64.to_be_bytes();
        let v1 = [b"\0\0\xff\xff\0\0\0\0".as_slice(), &lifetime].concat();
        let v1 = SaslAuthenticateResponse::decode(1, &v1).expect("valid");
        assert_eq!((v1.token.len(), v1.session_lifetime_ms), (0, 4_000));
        let v2 = [b"\0\x3a\x05nope\x01".as_slice(), &lifetime, &[0]].concat();
        let v2 = SaslAuthenticateResponse::decode(2, &v2).expect("valid");
        assert_eq!(v2.error, ErrorCode::SASL_AUTHENTICATION_FAILED);
        assert_eq!(v2.message.as_deref(), Some("nope"));
    }

    #[test]
    fn bare_tokens_have_a_length_and_nothing_else() {
        let mut out = Vec::new();
        encode_bare_token(b"\0user\0word", &mut out);
        assert_eq!(out, b"\0\0\0\x0a\0user\0word");
        assert_eq!(SaslAuthenticateResponse::bare(b"").token, b"");
    }
}

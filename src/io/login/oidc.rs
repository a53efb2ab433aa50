//! Tokens of an identity provider: the client credentials grant (RFC 6749 section 4.4, KIP-768), or
//! a file.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::http::{self, Request, Timeouts};
use super::json;
use super::url::{Url, push_encoded};
use crate::config::{Oidc, TokenFile};
use crate::engine::policy::{
    OAuthBearer, OAuthToken, SaslError, SaslErrorKind, SaslMechanism, TokenProvider,
};
use crate::error::BuildError;
use crate::io::tls::TlsClient;
use crate::logging as log;

/// Bytes of a token's file that are read.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Characters of an identity provider's words about an error that are told.
const WORDS_MAX: usize = 200;

/// OAUTHBEARER with tokens of this identity provider.
pub(super) fn mechanism(settings: &Oidc) -> Result<Arc<dyn SaslMechanism>, BuildError> {
    let conflict = |what: &str| BuildError::Conflict(format!("the login OAUTHBEARER: {what}"));
    let url = Url::parse(&settings.endpoint);
    let url = url.map_err(|why| conflict(&format!("the token endpoint is no URL: {why}")))?;
    if settings.client_id.is_empty() || settings.client_secret.is_empty() {
        return Err(conflict("the client's id or its secret is empty"));
    }
    if std::str::from_utf8(settings.client_secret.expose()).is_err() {
        return Err(conflict("the client's secret is no text"));
    }
    let tls = if url.is_https() {
        Some(TlsClient::new(&settings.tls)?)
    } else {
        log::warn!(
            "the token endpoint {} is asked without encryption: whoever is on the way can read \
             the client's secret",
            url.authority()
        );
        None
    };
    Ok(Arc::new(OAuthBearer::new(Endpoint { settings: settings.clone(), url, tls })))
}

/// OAUTHBEARER with the token in a file.
pub(super) fn from_file(file: &TokenFile) -> Arc<dyn SaslMechanism> {
    Arc::new(OAuthBearer::new(InFile(file.clone())))
}

/// A token endpoint.
struct Endpoint {
    settings: Oidc,
    url: Url,
    tls: Option<Arc<TlsClient>>,
}

impl Endpoint {
    fn request(&self) -> Request<'_> {
        let settings = &self.settings;
        let mut body = Zeroizing::new("grant_type=client_credentials".to_owned());
        let scope = settings.scope.iter().map(|scope| ("scope", scope.as_str()));
        let others =
            settings.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in scope.chain(others) {
            body.push('&');
            push_encoded(&mut body, name);
            body.push('=');
            push_encoded(&mut body, value);
        }
        let secret = String::from_utf8_lossy(settings.client_secret.expose());
        let id = settings.client_id.as_str();
        let mut pair = Zeroizing::new(String::new());
        if settings.url_encode {
            push_encoded(&mut pair, id);
            pair.push(':');
            push_encoded(&mut pair, &secret);
        } else {
            for part in [id, ":", &*secret] {
                pair.push_str(part);
            }
        }
        let basic = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*pair))));
        let form = "application/x-www-form-urlencoded".to_owned();
        let headers = vec![
            ("Authorization", basic),
            ("Content-Type", Zeroizing::new(form)),
            ("Accept", Zeroizing::new("application/json".to_owned())),
        ];
        Request { method: "POST", url: &self.url, headers, body }
    }
}

impl Endpoint {
    /// What an identity provider says of its error (RFC 6749 section 5.2). One that repeats what it
    /// was asked with must not put it into logs.
    fn refusal(&self, answer: &serde_json::Value) -> String {
        let secret = String::from_utf8_lossy(self.settings.client_secret.expose());
        let mut encoded = Zeroizing::new(String::new());
        push_encoded(&mut encoded, &secret);
        let pair = Zeroizing::new(format!("{}:{secret}", self.settings.client_id));
        let basic = Zeroizing::new(STANDARD.encode(&*pair));
        let values = self.settings.parameters.iter().map(|(_, value)| value.as_str());
        let told: Vec<&str> = [&*secret, &encoded, &basic].into_iter().chain(values).collect();
        let mut words = String::new();
        for name in ["error", "error_description"] {
            if let Some(text) = json::text(answer, name) {
                words.push_str(": ");
                if told.iter().any(|part| !part.is_empty() && text.contains(part)) {
                    words.push_str("(it repeats the question)");
                } else {
                    words.extend(text.chars().filter(|c| !c.is_control()).take(WORDS_MAX));
                }
            }
        }
        words
    }
}

impl TokenProvider for Endpoint {
    fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
        if let Some(tls) = &self.tls {
            tls.refresh();
        }
        let Oidc { connect_timeout, read_timeout, .. } = self.settings;
        let timeouts = Timeouts { connect: connect_timeout, answer: read_timeout };
        let response =
            http::send(&self.request(), self.tls.as_ref(), timeouts).map_err(|failure| {
                let words = failure.words;
                refused(match failure.is_about_trust {
                    true => format!(
                        "the token endpoint {words}: whom to trust there is what the system \
                         trusts, or https.ca.location (Oidc::tls), not ssl.truststore.location"
                    ),
                    false => format!("the token endpoint {words}"),
                })
            })?;
        let place = format!("the token endpoint {}", self.url.authority());
        let answer = json::object(&response.body);
        if !matches!(response.status, 200 | 201) {
            let status = response.status;
            let words = answer.as_ref().map_or(String::new(), |answer| self.refusal(answer));
            return Err(refused(format!("{place} answered with status {status}{words}")));
        }
        let answer = answer.ok_or_else(|| refused(format!("{place} gave no JSON object")))?;
        let token = json::text(&answer, "access_token")
            .ok_or_else(|| refused(format!("{place} gave no access_token")))?;
        // Some say 0 for "not told".
        let seconds = json::seconds(&answer, "expires_in").filter(|seconds| *seconds > 0);
        let lifetime = seconds.map(Duration::from_secs);
        Ok(with(token, lifetime, &self.settings.extensions))
    }
}

/// Why there is no token. The words are this client's, and told as they are.
fn refused(words: String) -> Box<dyn Error + Send + Sync> {
    Box::new(SaslError::new(SaslErrorKind::Credentials, words))
}

/// A token that is kept in a file.
struct InFile(TokenFile);

impl TokenProvider for InFile {
    fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
        let InFile(TokenFile { path, extensions }) = self;
        let told = |error: String| refused(format!("the token file {}: {error}", path.display()));
        let metadata = std::fs::metadata(path).map_err(|error| told(error.to_string()))?;
        // Others may never end, or never begin.
        if !metadata.is_file() {
            return Err(told("it is no file".to_owned()));
        }
        let bytes = metadata.len();
        if bytes > FILE_BYTES_MAX {
            return Err(told(format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
        let text = Zeroizing::new(text);
        Ok(with(text.trim(), None, extensions))
    }
}

/// A token with its lifetime: what was told of it, or else what it says itself.
fn with(token: &str, lifetime: Option<Duration>, extensions: &[(String, String)]) -> OAuthToken {
    let mut made = OAuthToken::new(token);
    if let Some(lifetime) = lifetime {
        made = made.lifetime(lifetime);
    } else if let Some(expires) = expiry_of_jwt(token) {
        made = made.expires_at(expires);
    }
    for (key, value) in extensions {
        made = made.extension(key, value);
    }
    made
}

/// The claim `exp` of a JWT (RFC 7519 section 4.1.4), in seconds since 1970.
fn expiry_of_jwt(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?);
    let seconds = json::seconds(&json::object(&claims)?, "exp")?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;

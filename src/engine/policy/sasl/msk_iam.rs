//! AWS_MSK_IAM: a request that is signed with credentials of AWS (Signature Version 4), as a login.
//!
//! The messages are those of Amazon's own `aws-msk-iam-auth`: the client sends a presigned request
//! as a JSON object, and a broker that takes it answers with another.

mod region;
mod signature;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use zeroize::Zeroizing;

use self::signature::{Request, Stamp};
use super::error::{SaslError, SaslErrorKind};
use super::mechanism::{SaslExchange, SaslMechanism, SaslPeer};
use super::secret::Secret;

/// Bytes of a broker's answer that are read. Those of MSK have about 80.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Credentials of AWS. `Debug` shows the id of the access key only.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tidegate::AwsCredentials;
///
/// let in_an_hour = SystemTime::now() + Duration::from_secs(3_600);
/// let credentials = AwsCredentials::new("AKIDEXAMPLE", "key-secret")
///     .session_token("token-secret")
///     .expires_at(in_an_hour);
/// assert_eq!(credentials.expiry(), Some(in_an_hour));
/// assert!(!format!("{credentials:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct AwsCredentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    expires_at: Option<SystemTime>,
}

impl AwsCredentials {
    /// An access key: its id and its secret.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<Secret>) -> Self {
        AwsCredentials {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
            expires_at: None,
        }
    }

    /// The token that goes with a temporary access key.
    pub fn session_token(mut self, token: impl Into<Secret>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// Until when they are good. Default: without end.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// Until when they are good, if that has an end.
    pub fn expiry(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Refuses what cannot be signed with at `now`.
    fn check(&self, now: SystemTime) -> Result<(), SaslError> {
        let token = self.session_token.as_ref().map_or(&[][..], Secret::expose);
        let words = if self.access_key_id.is_empty() {
            "the access key's id is empty: give the id and the secret of an access key of AWS"
        } else if self.secret_access_key.is_empty() {
            "the secret of the access key is empty: give the id and the secret of an access key \
             of AWS"
        } else if !is_plain(self.access_key_id.as_bytes()) || self.access_key_id.contains('/') {
            "the access key's id holds characters that no id of AWS has: check where it comes from"
        } else if self.session_token.as_ref().is_some_and(Secret::is_empty) {
            "the session token is empty: give it, or none for an access key that is not temporary"
        } else if !is_plain(token) {
            "the session token holds characters that no token of AWS has: check where it comes from"
        } else if self.expires_at.is_some_and(|at| at <= now) {
            "the credentials of AWS have expired: get new ones, and check this machine's clock"
        } else {
            return Ok(());
        };
        Err(SaslError::new(SaslErrorKind::Credentials, words))
    }
}

/// Whether this can stand in JSON as it is, and needs no other encoding than that of URLs.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Where credentials of AWS come from. [`AwsCredentials`] are a provider, and closures
/// `Fn() -> Result<AwsCredentials, Box<dyn Error + Send + Sync>>` are.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{AwsCredentials, AwsMskIam, Producer};
///
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1);
/// # let cluster = cluster.aws_credentials("AKIDEXAMPLE", "wJalrXUtnFEMI").start()?;
/// // Asked for each login, so that a key can be replaced. At MSK itself, TLS is needed too.
/// let vault = || Ok(AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI"));
/// let login = AwsMskIam::with_credentials(vault).region("eu-west-1");
/// let producer = Producer::builder(&cluster.bootstrap_servers()).sasl(login).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait AwsCredentialsProvider: Send + Sync {
    /// The credentials to sign with now. Called for each login, on a thread that may wait; a panic
    /// fails that login only.
    ///
    /// # Errors
    ///
    /// The login fails with [`SaslErrorKind::Credentials`] and repeats the error's words, which are
    /// logged and so must hold no secret.
    fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>>;
}

impl AwsCredentialsProvider for AwsCredentials {
    fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>> {
        Ok(self.clone())
    }
}

impl<F> AwsCredentialsProvider for F
where
    F: Fn() -> Result<AwsCredentials, Box<dyn Error + Send + Sync>> + Send + Sync,
{
    fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>> {
        self()
    }
}

/// The mechanism AWS_MSK_IAM: a request to connect, signed for the broker at which a login begins.
#[derive(Clone)]
pub struct MskIam {
    provider: Arc<dyn AwsCredentialsProvider>,
    region: Option<String>,
    region_otherwise: Option<String>,
}

impl MskIam {
    /// Signs with what `provider` gives. A [`SaslError`] of the provider's is told as it is.
    pub fn new(provider: Arc<dyn AwsCredentialsProvider>) -> Self {
        MskIam { provider, region: None, region_otherwise: None }
    }

    /// The region of all brokers, whatever their names say.
    pub fn region(mut self, region: Option<String>) -> Self {
        self.region = region;
        self
    }

    /// The region of brokers whose names have none.
    pub fn region_otherwise(mut self, region: Option<String>) -> Self {
        self.region_otherwise = region;
        self
    }

    /// Whether a text can be the name of a region: letters, digits and hyphens.
    pub fn is_region(text: &str) -> bool {
        region::is_safe(text)
    }

    fn region_of<'a>(&'a self, host: &'a str) -> Result<&'a str, SaslError> {
        let given = self.region.as_deref().or_else(|| region::of_host(host));
        let words = match given.or(self.region_otherwise.as_deref()) {
            Some(region) if region::is_safe(region) => return Ok(region),
            Some(_) => {
                "the region is none of AWS: it must be like eu-west-1. Check AwsMskIam::region, \
                 and AWS_REGION and AWS_DEFAULT_REGION"
                    .to_owned()
            }
            None => {
                let host = super::error::foreign_words(host);
                format!(
                    "the region of AWS that the broker {host} is in is not known, as its name has \
                     none: give it with AwsMskIam::region, or set AWS_REGION"
                )
            }
        };
        Err(SaslError::new(SaslErrorKind::Credentials, words))
    }
}

impl SaslMechanism for MskIam {
    fn name(&self) -> &str {
        "AWS_MSK_IAM"
    }

    fn begin(&self, peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
        let given = self.provider.credentials();
        let failed = |error| SaslError::provider_failed("credentials of AWS", error);
        let credentials = given.map_err(failed)?;
        credentials.check(peer.now)?;
        let region = self.region_of(peer.host)?;
        let wrong = |words: &str| SaslError::new(SaslErrorKind::Credentials, words);
        let stamp = Stamp::of(peer.now).ok_or_else(|| {
            wrong(
                "this machine's clock is before 1970 or after 9999, so that nothing can be signed",
            )
        })?;
        if peer.host.is_empty() || !is_plain(peer.host.as_bytes()) {
            return Err(wrong("the broker's host name holds characters that cannot be signed"));
        }
        let request = Request {
            host: peer.host,
            region,
            access_key_id: &credentials.access_key_id,
            secret_access_key: credentials.secret_access_key.expose(),
            session_token: credentials.session_token.as_ref().map(Secret::expose),
            stamp,
        };
        Ok(Box::new(Exchange { step: Step::Begin(request.message()) }))
    }
}

impl fmt::Debug for MskIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MskIam").field("region", &self.region).finish_non_exhaustive()
    }
}

/// One login.
struct Exchange {
    step: Step,
}

/// What comes next.
enum Step {
    Begin(Zeroizing<Vec<u8>>),
    /// The broker accepts, with a JSON object; a refusal is an error of the protocol around.
    Answer,
    /// Completed or failed.
    Over,
}

impl SaslExchange for Exchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        let words = match (std::mem::replace(&mut self.step, Step::Over), challenge) {
            (Step::Begin(mut message), None | Some([])) => {
                self.step = Step::Answer;
                return Ok(Some(std::mem::take(&mut *message)));
            }
            (Step::Answer, Some(answer)) if accepts(answer) => return Ok(None),
            // As Amazon's own client: a broker that says nothing has not judged the signature.
            (Step::Answer, None | Some([])) => {
                "the broker accepted without an answer, which AWS_MSK_IAM must have: it is no \
                 broker of Amazon MSK, or something on the way answers in its place"
            }
            (Step::Answer, Some(_)) => {
                "the broker's answer is no JSON object with a version: it does not speak \
                 AWS_MSK_IAM as Amazon MSK does"
            }
            _ => "the broker sent a message out of turn: AWS_MSK_IAM has one of a broker's",
        };
        Err(SaslError::new(SaslErrorKind::Protocol, words))
    }
}

/// Whether this is the answer of a broker that has let the client in: `version` and `request-id`.
fn accepts(answer: &[u8]) -> bool {
    if answer.len() > ANSWER_BYTES_MAX {
        return false;
    }
    let read = serde_json::from_slice::<serde_json::Value>(answer).ok();
    let version = read.as_ref().and_then(|object| object.get("version"));
    version.is_some_and(|version| version.as_str().is_some_and(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;

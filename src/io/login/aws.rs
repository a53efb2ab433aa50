//! Credentials of AWS from where AWS's own tools look, in their order, and kept until they expire.
//!
//! A source that is set up and fails ends the search: another one might give another identity, and
//! the reason would stay hidden. (So does botocore; the SDK for Java goes on.)

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::http::{self, Request, Response, Timeouts};
use super::url::Url;
use super::{aws_files, aws_services};
use crate::config::{AwsMskIam, TlsConfig};
use crate::engine::policy::{
    AwsCredentials, AwsCredentialsProvider, Fetched, Kept, MskIam, SaslError, SaslErrorKind,
    SaslMechanism, Serves,
};
use crate::error::BuildError;
use crate::io::tls::TlsClient;

/// Credentials that expire within this time are fetched again.
const FETCHED_BEFORE_EXPIRY: Duration = Duration::from_secs(5 * 60);

/// Services on this machine and beside it: where there is none, nobody answers at all.
const NEAR: Timeouts = Timeouts { connect: Duration::from_secs(1), answer: Duration::from_secs(5) };
/// Services of AWS in a region.
const FAR: Timeouts = Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(10) };
/// How long a program may take that gives credentials. Some ask a person or a service.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

/// AWS_MSK_IAM with the credentials of these settings.
pub(super) fn mechanism(settings: &AwsMskIam) -> Result<Arc<dyn SaslMechanism>, BuildError> {
    with_surroundings(settings, Surroundings::real())
}

fn with_surroundings(
    settings: &AwsMskIam,
    surroundings: Surroundings,
) -> Result<Arc<dyn SaslMechanism>, BuildError> {
    let conflict = |what: &str| Err(BuildError::Conflict(format!("the login AWS_MSK_IAM: {what}")));
    if settings.region.as_ref().is_some_and(|region| !MskIam::is_region(region)) {
        return conflict("the region is none of AWS: give one like eu-west-1");
    }
    if settings.profile.as_ref().is_some_and(String::is_empty) {
        return conflict("the profile's name is empty: give a name, or no profile");
    }
    if settings.profile.is_some() && settings.credentials.is_some() {
        return conflict("credentials are given, and a profile to read others from: give one");
    }
    let region_otherwise = surroundings.region();
    let provider = match &settings.credentials {
        Some(provider) => provider.clone(),
        None => Arc::new(Chain::new(surroundings, settings)),
    };
    let mechanism = MskIam::new(provider);
    let mechanism = mechanism.region(settings.region.clone()).region_otherwise(region_otherwise);
    Ok(Arc::new(mechanism))
}

/// Why a source gave no credentials, in words that hold no secret.
#[derive(Debug)]
pub(super) enum Miss {
    /// It is not set up here.
    Absent(String),
    /// It is, and does not work.
    Failed(String),
}

pub(super) type Looked = Result<AwsCredentials, Miss>;

pub(super) fn absent(words: impl Into<String>) -> Looked {
    Err(Miss::Absent(words.into()))
}

pub(super) fn failed(words: impl Into<String>) -> Looked {
    Err(Miss::Failed(words.into()))
}

/// Looks up a variable of the environment.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What is looked at in the process and on the machine. Tests have others.
pub(super) struct Surroundings {
    pub lookup: Box<Lookup>,
    pub clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// Where the container's agent and the instance's metadata are.
    pub container: &'static str,
    pub instance: &'static str,
    pub instance_over_ipv6: &'static str,
    pub near: Timeouts,
    pub far: Timeouts,
    pub process_timeout: Duration,
    pub tls: OnceLock<Arc<TlsClient>>,
}

impl Surroundings {
    fn real() -> Surroundings {
        Surroundings {
            lookup: Box::new(|name| std::env::var(name).ok()),
            clock: Box::new(SystemTime::now),
            container: "http://169.254.170.2",
            instance: "http://169.254.169.254",
            instance_over_ipv6: "http://[fd00:ec2::254]",
            near: NEAR,
            far: FAR,
            process_timeout: PROCESS_TIMEOUT,
            tls: OnceLock::new(),
        }
    }

    /// A variable of the environment without blanks around it, if anything is left.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let value = Zeroizing::new((self.lookup)(name)?);
        Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    pub(super) fn region(&self) -> Option<String> {
        self.variable("AWS_REGION").or_else(|| self.variable("AWS_DEFAULT_REGION"))
    }

    /// Sends a request, over TLS where the URL says so.
    pub(super) fn send(
        &self,
        request: &Request<'_>,
        timeouts: Timeouts,
    ) -> Result<Response, String> {
        let tls = if request.url.is_https() { Some(self.tls()?) } else { None };
        http::send(request, tls, timeouts).map_err(|failure| match failure.is_about_trust {
            true => format!("{}: whom to trust there is what the system trusts", failure.words),
            false => failure.words,
        })
    }

    /// Made when it is first needed: most sources are asked without encryption, on this machine.
    fn tls(&self) -> Result<&Arc<TlsClient>, String> {
        if self.tls.get().is_none() {
            let made = TlsClient::new(&TlsConfig::new()).map_err(|error| error.to_string())?;
            let _ = self.tls.set(made);
        }
        let tls = self.tls.get().expect("it was set just now, or by another thread");
        tls.refresh();
        Ok(tls)
    }
}

/// Where credentials come from if the application gives none. Those that expire are kept.
struct Chain {
    surroundings: Surroundings,
    profile: Option<String>,
    region: Option<String>,
    kept: Kept<AwsCredentials>,
}

impl AwsCredentialsProvider for Chain {
    fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>> {
        Ok(self.kept_or_fetched()?)
    }
}

impl Chain {
    fn new(surroundings: Surroundings, settings: &AwsMskIam) -> Chain {
        Chain {
            surroundings,
            profile: settings.profile.clone(),
            region: settings.region.clone(),
            kept: Kept::new("access key of AWS"),
        }
    }

    fn kept_or_fetched(&self) -> Result<AwsCredentials, SaslError> {
        self.kept.get(&*self.surroundings.clock, |now| {
            let told = |words| SaslError::new(SaslErrorKind::Credentials, words);
            let value = self.fetch().map_err(told)?;
            let serves = value.expiry().map(|expires| Serves {
                stale: expires.checked_sub(FETCHED_BEFORE_EXPIRY).unwrap_or(now),
                expires,
            });
            Ok(Fetched { value, serves })
        })
    }

    /// The credentials of the first source that has any, or why there are none.
    fn fetch(&self) -> Result<AwsCredentials, String> {
        let around = &self.surroundings;
        let region = self.region.as_deref();
        if let Some(profile) = &self.profile {
            let looked = aws_files::look(around, Some(profile), region);
            return looked.map_err(|(Miss::Absent(why) | Miss::Failed(why))| {
                format!("no credentials of AWS from the profile that was asked for: {why}")
            });
        }
        let sources: [(&str, &dyn Fn() -> Looked); 5] = [
            ("the environment", &|| environment(around)),
            ("a web identity", &|| aws_services::web_identity(around, region)),
            ("the files of AWS", &|| aws_files::look(around, None, region)),
            ("the container", &|| aws_services::container(around)),
            ("the instance's metadata", &|| aws_services::instance(around)),
        ];
        let mut reasons = Vec::new();
        for (name, look) in sources {
            match look() {
                Ok(credentials) => return Ok(credentials),
                Err(Miss::Absent(why)) => reasons.push(format!("{name}: {why}")),
                Err(Miss::Failed(why)) => {
                    return Err(format!("no credentials of AWS from {name}: {why}"));
                }
            }
        }
        Err(format!(
            "no credentials of AWS were found. Set up one of what was looked at, or give them with \
             AwsMskIam::with_credentials. {}",
            reasons.join("; ")
        ))
    }
}

/// `AWS_ACCESS_KEY_ID` and what belongs to it.
fn environment(around: &Surroundings) -> Looked {
    let id = around.variable("AWS_ACCESS_KEY_ID");
    let secret = around.variable("AWS_SECRET_ACCESS_KEY");
    match (id, secret) {
        (Some(id), Some(secret)) => {
            let credentials = AwsCredentials::new(id, secret);
            Ok(match around.variable("AWS_SESSION_TOKEN") {
                Some(token) => credentials.session_token(token),
                None => credentials,
            })
        }
        (None, None) => absent("AWS_ACCESS_KEY_ID is not set"),
        (Some(_), None) => {
            failed("AWS_ACCESS_KEY_ID is set, but not AWS_SECRET_ACCESS_KEY: set both or neither")
        }
        (None, Some(_)) => {
            failed("AWS_SECRET_ACCESS_KEY is set, but not AWS_ACCESS_KEY_ID: set both or neither")
        }
    }
}

/// A URL that the surroundings name. It is not repeated, as it may hold a password.
pub(super) fn url_of(text: &str, name: &str) -> Result<Url, Miss> {
    Url::parse(text).map_err(|why| Miss::Failed(format!("{name} is no URL: {why}")))
}

#[cfg(test)]
pub(super) mod tests;

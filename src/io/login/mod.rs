//! What mechanisms of logins present, where it is not at hand: tokens of identity providers,
//! credentials of AWS. All of it runs on the threads that logins are computed on (`logins`), which
//! may wait.
//!
//! * `oidc`: tokens over HTTPS, or from a file; `json`: what services answer in.
//! * `aws`: credentials of AWS from where AWS's tools look; `aws_services`: the services that give
//!   them, `aws_files`: the files they are kept in.
//! * `http`, `url`: the requests.

#[cfg(feature = "aws-msk-iam")]
mod aws;
#[cfg(feature = "aws-msk-iam")]
mod aws_files;
#[cfg(feature = "aws-msk-iam")]
mod aws_services;
#[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
mod http;
#[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
mod json;
#[cfg(feature = "oidc")]
mod oidc;
#[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
mod url;

use std::sync::Arc;

use crate::config::Login;
use crate::engine::policy::SaslMechanism;
use crate::error::BuildError;

/// The mechanism of a login, with what it needs to present something.
///
/// # Errors
///
/// [`BuildError`] for settings that cannot work, whatever is answered.
pub fn mechanism(login: &Login) -> Result<Arc<dyn SaslMechanism>, BuildError> {
    match login {
        Login::Mechanism(mechanism) => Ok(mechanism.clone()),
        #[cfg(feature = "oidc")]
        Login::Oidc(settings) => oidc::mechanism(settings),
        #[cfg(feature = "oidc")]
        Login::TokenFile(file) => Ok(oidc::from_file(file)),
        #[cfg(feature = "aws-msk-iam")]
        Login::AwsMskIam(settings) => aws::mechanism(settings),
    }
}

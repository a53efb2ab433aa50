//! How a producer logs in: a mechanism, or where what a mechanism presents is to be had.

#[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
use std::fmt;
#[cfg(feature = "oidc")]
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "oidc")]
use std::time::Duration;

#[cfg(feature = "oidc")]
use super::tls::TlsConfig;
#[cfg(feature = "aws-msk-iam")]
use crate::engine::policy::AwsCredentialsProvider;
use crate::engine::policy::SaslMechanism;
#[cfg(feature = "oidc")]
use crate::engine::policy::Secret;

/// How a producer logs in at brokers: see [`ProducerConfig::sasl`](super::ProducerConfig::sasl).
///
/// Made from any [`SaslMechanism`], and with the features for them from an `Oidc`, a `TokenFile` or
/// an `AwsMskIam`.
///
/// ```
/// use tidegate::{Login, ProducerConfig, Scram};
///
/// let mut config = ProducerConfig::new("broker-1:9093");
/// config.sasl = Some(Login::from(Scram::sha_512("shop", "secret")));
/// assert_eq!(config.sasl.as_ref().map(Login::mechanism_name), Some("SCRAM-SHA-512"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Login {
    /// With this mechanism.
    Mechanism(Arc<dyn SaslMechanism>),
    /// With tokens of an identity provider.
    #[cfg(feature = "oidc")]
    Oidc(Box<Oidc>),
    /// With the token in a file.
    #[cfg(feature = "oidc")]
    TokenFile(TokenFile),
    /// With a signature of AWS.
    #[cfg(feature = "aws-msk-iam")]
    AwsMskIam(AwsMskIam),
}

impl Login {
    /// The mechanism's name: `sasl.mechanism`.
    pub fn mechanism_name(&self) -> &str {
        match self {
            Login::Mechanism(mechanism) => mechanism.name(),
            #[cfg(feature = "oidc")]
            Login::Oidc(_) | Login::TokenFile(_) => "OAUTHBEARER",
            #[cfg(feature = "aws-msk-iam")]
            Login::AwsMskIam(_) => "AWS_MSK_IAM",
        }
    }
}

impl<M: SaslMechanism + 'static> From<M> for Login {
    fn from(mechanism: M) -> Self {
        Login::Mechanism(Arc::new(mechanism))
    }
}

#[cfg(feature = "oidc")]
impl From<Oidc> for Login {
    fn from(settings: Oidc) -> Self {
        Login::Oidc(Box::new(settings))
    }
}

#[cfg(feature = "oidc")]
impl From<TokenFile> for Login {
    fn from(file: TokenFile) -> Self {
        Login::TokenFile(file)
    }
}

#[cfg(feature = "aws-msk-iam")]
impl From<AwsMskIam> for Login {
    fn from(settings: AwsMskIam) -> Self {
        Login::AwsMskIam(settings)
    }
}

/// How long a connection to an identity provider may take, and how long its answer: ten seconds.
#[cfg(feature = "oidc")]
const OIDC_TIMEOUT: Duration = Duration::from_secs(10);

/// Logs in with OAUTHBEARER and tokens of an identity provider: those of the client credentials
/// grant (RFC 6749 section 4.4, KIP-768), which a service gets with an id and a secret of its own.
///
/// A token serves until 80 % of its lifetime have passed; then another one is fetched, while the
/// old one goes on to serve if that fails. The lifetime is `expires_in` of the answer, or else the
/// claim `exp` of a token that is a JWT. Tokens are fetched on a thread of tidegate's own; one that
/// cannot be had is told as a problem of the login, and asked for again with growing pauses. There
/// is no way through an HTTP proxy. Needs the feature `oidc`.
///
/// ```
/// use tidegate::{Oidc, Producer, TlsConfig};
///
/// let login = Oidc::new("https://id.example/oauth/token", "shop", "secret").scope("kafka");
/// let builder = Producer::builder("broker-1:9093").tls(TlsConfig::new()).sasl(login);
/// # let _ = builder;
/// ```
#[cfg(feature = "oidc")]
#[derive(Clone)]
pub struct Oidc {
    pub(crate) endpoint: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: Secret,
    pub(crate) scope: Option<String>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) extensions: Vec<(String, String)>,
    pub(crate) url_encode: bool,
    pub(crate) tls: TlsConfig,
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
}

#[cfg(feature = "oidc")]
impl Oidc {
    /// Asks the token endpoint at this URL, of `https` (or `http`, where nobody listens on the
    /// way), with the id and the secret of the client.
    /// `sasl.oauthbearer.token.endpoint.url`, `sasl.oauthbearer.client.credentials.client.id`,
    /// `sasl.oauthbearer.client.credentials.client.secret`.
    pub fn new(
        token_endpoint: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<Secret>,
    ) -> Self {
        Oidc {
            endpoint: token_endpoint.into(),
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            scope: None,
            parameters: Vec::new(),
            extensions: Vec::new(),
            url_encode: false,
            tls: TlsConfig::new(),
            connect_timeout: OIDC_TIMEOUT,
            read_timeout: OIDC_TIMEOUT,
        }
    }

    /// What the token is to allow, in the words of the identity provider, with blanks between them.
    /// Default: none is asked for. `sasl.oauthbearer.scope`.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Adds a parameter to the question, such as `audience` or `resource`, which some identity
    /// providers want.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Adds an extension for the broker (KIP-342), such as `logicalCluster` and `identityPoolId` of
    /// Confluent Cloud. `sasl.oauthbearer.extensions`.
    pub fn extension(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((key.into(), value.into()));
        self
    }

    /// Whether id and secret are encoded as in URLs before they are put together, as RFC 6749
    /// section 2.3.1 says and many identity providers do not expect (KIP-1025). Default: false.
    /// `sasl.oauthbearer.header.urlencode`.
    pub fn url_encode(mut self, encode: bool) -> Self {
        self.url_encode = encode;
        self
    }

    /// Whom to trust at the token endpoint. Default: what the system trusts.
    /// `https.ca.location` and `https.ca.pem`.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// How long each attempt to connect may take. Default: 10 s. `sasl.login.connect.timeout.ms`.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the whole answer may take from then on. Default: 10 s.
    /// `sasl.login.read.timeout.ms`.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }
}

#[cfg(feature = "oidc")]
impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Logs in with OAUTHBEARER and the token that a file holds, as Kubernetes and agents of identity
/// providers put it there (KIP-768, a `sasl.oauthbearer.token.endpoint.url` of `file`).
///
/// The file is read for a login once 80 % of the last token's lifetime have passed. The lifetime is
/// the claim `exp` of a JWT; for a token without, the file is read for each login. Needs the
/// feature `oidc`.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use std::time::Duration;
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{Producer, TokenFile};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("token");
/// # let check = |token: &str| (token == "token-of-shop").then_some(Duration::from_secs(60));
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).check_tokens(check).start()?;
/// // An agent of the identity provider writes the file, and writes it again before it expires.
/// std::fs::write(&path, "token-of-shop\n")?;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .sasl(TokenFile::new(&path))
///     .build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "oidc")]
#[derive(Clone)]
pub struct TokenFile {
    pub(crate) path: PathBuf,
    pub(crate) extensions: Vec<(String, String)>,
}

#[cfg(feature = "oidc")]
impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(feature = "oidc")]
impl TokenFile {
    /// The token is in this file, with nothing else but ends of lines.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        TokenFile { path: path.into(), extensions: Vec::new() }
    }

    /// Adds an extension for the broker: see [`Oidc::extension`].
    pub fn extension(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((key.into(), value.into()));
        self
    }
}

/// Logs in at Amazon MSK with `AWS_MSK_IAM`: each login is a request that is signed with
/// credentials of AWS (Signature Version 4), and IAM's policies say what it may do.
///
/// By default credentials come from where AWS's own tools look, in their order: the environment
/// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), a web identity
/// (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`), the usual files (`~/.aws/credentials`,
/// `~/.aws/config`, or what `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name; a profile's
/// `credential_process` is run), the container (`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or
/// `..._FULL_URI`), and the instance's metadata (IMDSv2). One that is set up and fails ends the
/// search. Those that expire are fetched again five minutes before. Needs the feature
/// `aws-msk-iam`, and TLS: MSK's listeners for IAM are on port 9098 (9198 from outside).
///
/// ```
/// use tidegate::{AwsMskIam, Producer, TlsConfig};
///
/// let builder = Producer::builder("b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com:9098")
///     .tls(TlsConfig::new())
///     .sasl(AwsMskIam::new());
/// # let _ = builder;
/// ```
#[cfg(feature = "aws-msk-iam")]
#[derive(Clone, Default)]
pub struct AwsMskIam {
    pub(crate) credentials: Option<Arc<dyn AwsCredentialsProvider>>,
    pub(crate) profile: Option<String>,
    pub(crate) region: Option<String>,
}

#[cfg(feature = "aws-msk-iam")]
impl AwsMskIam {
    /// With the credentials that AWS's own tools would use here.
    pub fn new() -> Self {
        AwsMskIam::default()
    }

    /// With these credentials, or those of a provider of your own. It is asked for each login, and
    /// has to keep what should be kept.
    pub fn with_credentials(credentials: impl AwsCredentialsProvider + 'static) -> Self {
        AwsMskIam { credentials: Some(Arc::new(credentials)), ..AwsMskIam::default() }
    }

    /// With those of this profile in the usual files, and from nowhere else. Default: what
    /// `AWS_PROFILE` names, or else `default`. `awsProfileName` in `sasl.jaas.config`.
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// The region that brokers are in. Default: the one in the broker's name
    /// (`...kafka.REGION.amazonaws.com`), or else that of `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }
}

#[cfg(feature = "aws-msk-iam")]
impl fmt::Debug for AwsMskIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsMskIam")
            .field("profile", &self.profile)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

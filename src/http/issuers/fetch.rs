//! Asking an issuer where its keys are, and for its keys.
//!
//! What is fetched here decides who gets in: it comes over TLS from the address that
//! was configured or that the issuer names, never by way of a redirect, and bounded
//! in time and size. An error tells no byte of what was answered.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;

use super::super::reach::{CaError, Lost, Way};
use crate::auth::oidc::{KeySet, KeySetError};
use crate::domain::{WebAddress, WebAddressError, root_cause};

/// For one answer as a whole.
const ANSWER: Duration = Duration::from_secs(10);
/// Of one answer. The largest issuers' are a tenth of this.
const MAX_BYTES: usize = 256 * 1024;
const METADATA: &str = "/.well-known/openid-configuration";

/// Where an issuer is asked.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub issuer: WebAddress,
    /// Where its keys are; where there is none, the issuer says so.
    pub jwks_uri: Option<WebAddress>,
    /// Who vouches for its certificate, as PEM; without it, whom the machine trusts.
    pub ca_file: Option<PathBuf>,
}

pub(super) struct Fetched {
    pub keys: KeySet,
    pub endpoints: Endpoints,
}

/// Where people sign in, as far as the issuer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub authorization: Option<WebAddress>,
    pub token: Option<WebAddress>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("TLS cannot be set up ({0}); install ca-certificates, or set ca_file")]
    Setup(String),
    #[error("{address}: {cause}")]
    Unreachable { address: String, cause: String },
    #[error(
        "{address} through the proxy {proxy}: {cause}; mend HTTPS_PROXY or ALL_PROXY of this \
         server, or name the host in NO_PROXY, if it needs none"
    )]
    Proxy { address: String, proxy: String, cause: String },
    #[error("{address} answers with status {status}")]
    Status { address: String, status: u16 },
    #[error("{address} answers with a redirect, which is not followed")]
    Redirect { address: String },
    #[error("{address} answers with more than {MAX_BYTES} bytes")]
    TooLarge { address: String },
    #[error("{address} is not the metadata of an issuer: JSON with `issuer` and `jwks_uri`")]
    Metadata { address: String },
    #[error(
        "{address} is the metadata of another issuer; oidc.issuer must be what stands in it, to \
         the letter"
    )]
    OtherIssuer { address: String },
    #[error("the issuer's `jwks_uri` {0}")]
    KeysAddress(WebAddressError),
    #[error("what is at {address} {cause}")]
    Keys { address: String, cause: KeySetError },
}

/// The members that matter here (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
}

/// Asks anew each time, over connections of its own: nothing is kept, so that what
/// was changed on either side counts.
pub(super) async fn fetch(source: &Source) -> Result<Fetched, FetchError> {
    let (keys_at, endpoints) = match &source.jwks_uri {
        Some(configured) => (configured.clone(), Endpoints::default()),
        None => ask(source).await?,
    };
    let address = keys_at.to_string();
    let text = Asked::new(source, &keys_at)?.get(&address).await?;
    match KeySet::parse(&text) {
        Ok(keys) => Ok(Fetched { keys, endpoints }),
        Err(cause) => Err(FetchError::Keys { address, cause }),
    }
}

async fn ask(source: &Source) -> Result<(WebAddress, Endpoints), FetchError> {
    let issuer = source.issuer.as_str();
    let address = format!("{}{METADATA}", issuer.trim_end_matches('/'));
    let text = Asked::new(source, &source.issuer)?.get(&address).await?;
    let Ok(metadata) = serde_json::from_slice::<Metadata>(&text) else {
        return Err(FetchError::Metadata { address });
    };
    let Metadata { issuer: named, jwks_uri, authorization_endpoint, token_endpoint } = metadata;
    if named != issuer {
        return Err(FetchError::OtherIssuer { address });
    }
    let keys_at = within(source, &jwks_uri).map_err(FetchError::KeysAddress)?;
    let optional = |address: Option<String>| within(source, &address?).ok();
    let endpoints = Endpoints {
        authorization: optional(authorization_endpoint),
        token: optional(token_endpoint),
    };
    Ok((keys_at, endpoints))
}

/// An issuer that is reached over TLS leads nowhere without it: not even to a service
/// on this machine's loopback.
fn within(source: &Source, named: &str) -> Result<WebAddress, WebAddressError> {
    let address = WebAddress::parse(named)?;
    if source.issuer.is_encrypted() && !address.is_encrypted() {
        return Err(WebAddressError::Plain);
    }
    Ok(address)
}

/// One host, and how it is reached.
struct Asked {
    client: Client,
    way: Way,
}

impl Asked {
    fn new(source: &Source, host_of: &WebAddress) -> Result<Self, FetchError> {
        let (way, builder) = Way::to(host_of, source.ca_file.as_deref(), ANSWER)?;
        let built = builder.https_only(source.issuer.is_encrypted()).build();
        let client = built.map_err(|error| FetchError::Setup(root_cause(&error)))?;
        Ok(Self { client, way })
    }

    async fn get(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let named = || address.to_owned();
        let failed = |error: reqwest::Error| self.lost(named(), &error);
        let mut answer = self.client.get(address).send().await.map_err(failed)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(FetchError::Redirect { address: named() });
        }
        if !status.is_success() {
            return Err(FetchError::Status { address: named(), status: status.as_u16() });
        }
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if text.len().saturating_add(piece.len()) > MAX_BYTES {
                return Err(FetchError::TooLarge { address: named() });
            }
            text.extend_from_slice(&piece);
        }
        Ok(text)
    }

    fn lost(&self, address: String, error: &reqwest::Error) -> FetchError {
        match self.way.lost(error) {
            Lost { cause, proxy: Some(proxy) } => FetchError::Proxy { address, proxy, cause },
            Lost { cause, proxy: None } => FetchError::Unreachable { address, cause },
        }
    }
}

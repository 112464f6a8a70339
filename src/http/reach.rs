//! How our own HTTP clients reach a host, and whom they trust over TLS where a configuration
//! says so, in place of the machine's certificate authorities.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, redirect};

use crate::domain::{WebAddress, root_cause};
use crate::outward::{distrusts, proxy_to};

const CONNECT: Duration = Duration::from_secs(5);

/// Why nobody can be trusted by a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{} holds no certificate in PEM form", path.display())]
    Empty { path: PathBuf },
}

/// The way to one host.
#[derive(Debug)]
pub(super) struct Way {
    /// Through which it leads, if any.
    proxy: Option<String>,
}

/// A request without a whole answer.
pub(super) struct Lost {
    pub cause: String,
    /// That it is about, if any.
    pub proxy: Option<String>,
}

impl Way {
    /// And a client that goes it: by no redirect, and with `answer` for one answer as a whole.
    /// `ca_file`: who vouches for the host's certificate, as PEM; without it, whom the machine
    /// trusts.
    pub fn to(
        address: &WebAddress,
        ca_file: Option<&Path>,
        answer: Duration,
    ) -> Result<(Self, ClientBuilder), CaError> {
        // The process's default; that it was set before is no fault.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(answer)
            .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")));
        if address.is_loopback() {
            builder = builder.no_proxy();
        }
        if let Some(file) = ca_file {
            builder = trusting(builder, file)?;
        }
        Ok((Self { proxy: proxy_to(address) }, builder))
    }

    /// What a certificate is about is the host's fault and no proxy's.
    pub fn lost(&self, error: &reqwest::Error) -> Lost {
        let cause =
            if error.is_timeout() { "no answer in time".to_owned() } else { root_cause(error) };
        let is_proxys = error.is_connect() && !distrusts(error);
        Lost { cause, proxy: self.proxy.clone().filter(|_| is_proxys) }
    }
}

/// Trusts those alone whom the certificates in `file` (PEM) vouch for.
fn trusting(builder: ClientBuilder, file: &Path) -> Result<ClientBuilder, CaError> {
    let path = || file.to_owned();
    let pem = std::fs::read(file)
        .map_err(|error| CaError::Unreadable { path: path(), cause: error.to_string() })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(builder.tls_certs_only(certificates)),
        _ => Err(CaError::Empty { path: path() }),
    }
}

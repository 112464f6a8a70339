//! Whom our own HTTP clients trust over TLS where a configuration says so, in place of the
//! machine's certificate authorities.

use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder};

/// Why nobody can be trusted by a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{} holds no certificate in PEM form", path.display())]
    Empty { path: PathBuf },
}

/// Trusts those alone whom the certificates in `file` (PEM) vouch for.
pub(super) fn trusting(builder: ClientBuilder, file: &Path) -> Result<ClientBuilder, CaError> {
    let path = || file.to_owned();
    let pem = std::fs::read(file)
        .map_err(|error| CaError::Unreadable { path: path(), cause: error.to_string() })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(builder.tls_certs_only(certificates)),
        _ => Err(CaError::Empty { path: path() }),
    }
}

//! A certificate that the server has and the client believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::Outcome;

/// Its files, both PEM.
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificate {
    pub fn make(folder: &Path) -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (chain, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&chain, made.cert.pem())?;
        write_private(&key, &made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&chain)?)?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { chain, key, client: Arc::new(client) })
    }

    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.client))
    }
}

fn write_private(path: &Path, text: &str) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

//! TLS: a certificate and its key from PEM files, replaceable while serving.
//!
//! The only file that sets rustls up; its cryptography is ring's, like all of ours.
//! A reload that fails changes nothing: the old certificate stays in use and the
//! caller gets the error.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::domain::Timestamp;

use super::certificate;

/// Where certificate and key stand, both PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, then the intermediate ones.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} can be read or changed by every user: run chmod 600 {}", path.display(), path.display())]
    KeyExposed { path: PathBuf },
    #[error("{} holds no certificate in PEM form", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key in PEM form", path.display())]
    NoKey { path: PathBuf },
    #[error("the key in {} is of a kind that is not supported", path.display())]
    UnsupportedKey { path: PathBuf },
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The certificate in use. Clones share it.
#[derive(Clone)]
pub struct TlsReloader {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    config: ServerConfig,
}

impl TlsReloader {
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::new(Current(RwLock::new(certified_key(&files, &provider)?)));
        // TLS 1.2 and 1.3. actix announces http/1.1 (ALPN) itself, and h2 not, for
        // lack of its feature.
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        Ok(Self { files, provider, current, config })
    }

    /// Reads the files again. New connections get what was read; after an error
    /// they get what they got before.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.replace(&self.files)
    }

    /// The same from other files.
    pub fn replace(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let fresh = certified_key(files, &self.provider)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// When the certificate in use expires; `None` where it does not say.
    pub(super) fn expiry(&self) -> Option<Timestamp> {
        let current = Arc::clone(&self.current.0.read().unwrap_or_else(PoisonError::into_inner));
        certificate::expiry(current.cert.first()?)
    }

    pub(super) fn server_config(&self) -> ServerConfig {
        self.config.clone()
    }
}

/// What new connections are shown. A poisoned lock is entered: the pointer in it
/// is replaced whole or not at all.
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(..)")
    }
}

fn certified_key(
    files: &TlsFiles,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let TlsFiles { certificate, key } = files;
    let chain = certificates(certificate)?;
    let private = private_key(key)?;
    let signing = provider
        .key_provider
        .load_private_key(private)
        .map_err(|_| TlsError::UnsupportedKey { path: key.clone() })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { certificate: certificate.clone(), key: key.clone() })
        }
        Err(_) => Err(TlsError::NoCertificate { path: certificate.clone() }),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path)
        .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
    }
}

/// Readable by a group is allowed: Debian's `ssl-cert` is how several services
/// share one key.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if facts.permissions().mode() & 0o027 != 0 {
        return Err(TlsError::KeyExposed { path: path.to_owned() });
    }
    let size = usize::try_from(facts.len()).unwrap_or_default();
    let mut pem = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.read_to_end(&mut pem).map_err(unreadable)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn files(dir: &Path, certificate: &str, key: &str) -> TlsFiles {
        TlsFiles {
            certificate: write(dir, "cert.pem", certificate, 0o644),
            key: write(dir, "key.pem", key, 0o600),
        }
    }

    fn fault(files: TlsFiles) -> String {
        TlsReloader::load(files).err().unwrap().to_string()
    }

    #[test]
    fn a_certificate_and_its_key_are_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        assert!(TlsReloader::load(files(dir.path(), &certificate, &key)).is_ok());
    }

    #[test]
    fn every_fault_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        let good = files(dir.path(), &certificate, &key);
        let missing = TlsFiles { certificate: dir.path().join("none"), ..good.clone() };
        assert!(fault(missing).contains("none cannot be read"));
        let missing = TlsFiles { key: dir.path().join("none"), ..good.clone() };
        assert!(fault(missing).contains("none cannot be read"));
        let swapped = TlsFiles { certificate: good.key.clone(), key: good.key.clone() };
        assert!(fault(swapped).contains("key.pem holds no certificate"));
        let other =
            TlsFiles { key: write(dir.path(), "other.pem", &pair().1, 0o600), ..good.clone() };
        assert!(fault(other).contains("does not belong to"));
        let empty = TlsFiles { key: write(dir.path(), "empty.pem", "", 0o600), ..good.clone() };
        assert!(fault(empty).contains("empty.pem holds no private key"));
        for mode in [0o604, 0o602, 0o620, 0o644, 0o777] {
            let exposed =
                TlsFiles { key: write(dir.path(), "open.pem", &key, mode), ..good.clone() };
            assert!(fault(exposed).contains("chmod 600"), "{mode:o}");
        }
        let shared = TlsFiles { key: write(dir.path(), "group.pem", &key, 0o640), ..good };
        assert!(TlsReloader::load(shared).is_ok());
    }

    #[test]
    fn a_reload_takes_effect_or_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        let reloader = TlsReloader::load(files(dir.path(), &certificate, &key)).unwrap();
        let shown = || reloader.current.0.read().unwrap().cert.clone();
        let before = shown();
        files(dir.path(), &certificate, &pair().1);
        assert!(matches!(reloader.reload(), Err(TlsError::Mismatch { .. })));
        assert_eq!(shown(), before);
        let (certificate, key) = pair();
        files(dir.path(), &certificate, &key);
        reloader.reload().unwrap();
        assert_ne!(shown(), before);
    }

    type Versions = &'static [&'static rustls::SupportedProtocolVersion];
    static TLS12: Versions = &[&rustls::version::TLS12];
    static TLS13: Versions = &[&rustls::version::TLS13];

    /// One request over TLS by a client that trusts `certificate` alone.
    fn healthy(address: std::net::SocketAddr, certificate: &str, versions: Versions) -> bool {
        use std::io::Write;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = std::net::TcpStream::connect(address).unwrap();
        let mut tls = rustls::StreamOwned::new(client, stream);
        let asked =
            tls.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok()
            && tls.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    #[tokio::test]
    async fn a_reload_serves_new_connections_the_new_certificate() {
        use crate::http::{AppState, Server, ServerOptions, Stop};
        let dir = tempfile::tempdir().unwrap();
        let (old, key) = pair();
        let reloader = TlsReloader::load(files(dir.path(), &old, &key)).unwrap();
        let mut options = ServerOptions::new(([127, 0, 0, 1], 0).into());
        options.workers = std::num::NonZeroUsize::MIN;
        options.tls = Some(reloader.clone());
        let server = Server::start(options, AppState::starting()).unwrap();
        let address = server.address();
        let trusts = async |certificate: &str, versions: Versions| {
            let certificate = certificate.to_owned();
            tokio::task::spawn_blocking(move || healthy(address, &certificate, versions))
                .await
                .unwrap()
        };
        assert!(trusts(&old, TLS13).await);
        assert!(trusts(&old, TLS12).await);
        let (new, key) = pair();
        files(dir.path(), &new, &key);
        reloader.reload().unwrap();
        assert!(trusts(&new, rustls::ALL_VERSIONS).await);
        assert!(!trusts(&old, rustls::ALL_VERSIONS).await);
        server.stop(Stop::Graceful).await.unwrap();
    }
}

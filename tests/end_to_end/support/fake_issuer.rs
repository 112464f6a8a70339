//! An issuer within the test process that answers and signs whatever a test wants.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::ServerConfig;
use serde_json::{Value, json};

pub const AUDIENCE: &str = "https://tenure.test";

/// A private key (ES256), and how it signs.
pub struct Signer {
    pair: EcdsaKeyPair,
    pub key_id: String,
}

impl Signer {
    pub fn new(key_id: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
        Self { pair, key_id: key_id.to_owned() }
    }

    /// Its uncompressed point.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub fn jwk(&self) -> Value {
        let (x, y) = self.public()[1..].split_at(32);
        let (x, y) = (BASE64.encode(x), BASE64.encode(y));
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.key_id, "alg": "ES256", "use": "sig"})
    }

    pub fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.key_id})
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).expect("signed");
        format!("{message}.{}", BASE64.encode(signature))
    }

    /// With the header that it should have.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

/// What a signature is made of.
pub fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

/// Good claims of a token that was issued at `now` (seconds since 1970) for an hour.
pub fn claims(issuer: &str, tenant: &str, scope: &str, now: i64) -> Value {
    json!({
        "iss": issuer, "sub": "m4rker-alice", "aud": AUDIENCE, "iat": now, "exp": now + 3_600,
        "jti": "m4rker-1", "tenant": tenant, "scope": scope,
    })
}

/// How a path is answered.
#[derive(Clone)]
pub enum Page {
    Body(u16, String),
    Redirect(String),
    /// The connection stays open, and nothing comes.
    Silence,
}

type Pages = Arc<Mutex<HashMap<String, Page>>>;

/// A server on loopback that may be several issuers, each at a path of its own.
pub struct FakeIssuer {
    address: SocketAddr,
    scheme: &'static str,
    pages: Pages,
    asked: Arc<Mutex<Vec<String>>>,
}

const METADATA: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

impl FakeIssuer {
    pub fn start() -> Self {
        Self::serve(None)
    }

    /// For `127.0.0.1`, with a certificate that vouches for itself.
    pub fn start_tls(certificate: &str, key: &str) -> Self {
        Self::serve(Some(tls_by(certificate, key)))
    }

    fn serve(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (pages, asked) = (Pages::default(), Arc::new(Mutex::new(Vec::new())));
        let issuer = Self { address, scheme, pages: pages.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tls, pages, asked) = (tls.clone(), pages.clone(), asked.clone());
                std::thread::spawn(move || match tls {
                    None => answer(stream, &pages, &asked),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).expect("a config");
                        answer(rustls::StreamOwned::new(connection, stream), &pages, &asked);
                    }
                });
            }
        });
        issuer
    }

    /// As in `iss`, of the issuer at `path` (empty, or with a slash in front).
    pub fn name(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Answers `address` (from the server's root) so from now on.
    pub fn put(&self, address: &str, page: Page) {
        self.pages.lock().expect("unpoisoned").insert(address.to_owned(), page);
    }

    pub fn put_metadata(&self, path: &str, metadata: &Value) {
        self.put(&format!("{path}{METADATA}"), Page::Body(200, metadata.to_string()));
    }

    pub fn put_keys(&self, path: &str, keys: &[Value]) {
        let set = json!({ "keys": keys }).to_string();
        self.put(&format!("{path}{KEYS}"), Page::Body(200, set));
    }

    /// Good metadata for the issuer at `path`.
    pub fn metadata(&self, path: &str) -> Value {
        let at = self.name(path);
        json!({
            "issuer": at, "jwks_uri": format!("{at}{KEYS}"),
            "authorization_endpoint": format!("{at}/auth"), "token_endpoint": format!("{at}/token"),
        })
    }

    /// An issuer at `path` that is as it should be, with these keys.
    pub fn put_issuer(&self, path: &str, keys: &[Value]) {
        self.put_metadata(path, &self.metadata(path));
        self.put_keys(path, keys);
    }

    /// How often the keys at `path` were asked for.
    pub fn fetches(&self, path: &str) -> usize {
        let keys = format!("{path}{KEYS}");
        self.asked.lock().expect("unpoisoned").iter().filter(|asked| **asked == keys).count()
    }

    /// Whether somebody asked for this.
    pub fn was_asked(&self, address: &str) -> bool {
        self.asked.lock().expect("unpoisoned").iter().any(|asked| asked == address)
    }
}

fn answer(stream: impl Read + Write, pages: &Pages, asked: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
        if first.is_empty() {
            first.clone_from(&line);
        }
        line.clear();
    }
    let Some(path) = first.split(' ').nth(1) else { return };
    asked.lock().expect("unpoisoned").push(path.to_owned());
    let page = pages.lock().expect("unpoisoned").get(path).cloned();
    let (status, header, body) = match page.unwrap_or(Page::Body(404, "nothing".to_owned())) {
        Page::Body(status, body) => (status, String::new(), body),
        Page::Redirect(to) => (302, format!("Location: {to}\r\n"), String::new()),
        Page::Silence => {
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat());
    let _ = stream.get_mut().flush();
}

/// How to speak TLS with this certificate and its key (PEM).
pub fn tls_by(certificate: &str, key: &str) -> Arc<ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.expect("PEM")], key.expect("PEM"));
    Arc::new(config.expect("a certificate and its key"))
}

/// Used where a connection to nothing must be refused at once.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    assert!(TcpStream::connect(address).is_err(), "somebody else listens at {address}");
    address
}

//! An issuer of access tokens, as far as a server has to do with one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use crate::harness::Outcome;

const AUDIENCE: &str = "https://tenure.example.org";

/// Serves its keys until the process ends.
pub struct Issuer {
    address: SocketAddr,
    key: Ed25519KeyPair,
}

impl Issuer {
    pub fn start() -> Outcome<Self> {
        let secret = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| "there is no randomness")?;
        let key = Ed25519KeyPair::from_pkcs8(secret.as_ref()).map_err(|_| "no key")?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let issuer = Self { address: listener.local_addr()?, key };
        let (discovery, keys) = (issuer.discovery(), issuer.keys());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who goes away early asks again.
                let _ = answer(stream, &discovery, &keys);
            }
        });
        Ok(issuer)
    }

    /// The table of the configuration that trusts it.
    pub fn table(&self) -> String {
        format!(
            "[[oidc]]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\ntenants = {{ \"dev\" = \"dev\" }}\n\
             scopes = {{ \"read\" = \"Secret.Read\" }}\n",
            self.name()
        )
    }

    /// An access token (RFC 9068) that reads tenant `dev` for an hour.
    pub fn token(&self) -> Outcome<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "1" });
        let claims = json!({
            "iss": self.name(), "aud": AUDIENCE, "sub": "bench", "client_id": "bench",
            "iat": now, "exp": now + 3600, "jti": "1", "scope": "read", "tenant": "dev",
        });
        let part = |part: &serde_json::Value| BASE64.encode(part.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = BASE64.encode(self.key.sign(signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }

    fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    fn discovery(&self) -> String {
        json!({ "issuer": self.name(), "jwks_uri": format!("{}/keys", self.name()) }).to_string()
    }

    fn keys(&self) -> String {
        let public = BASE64.encode(self.key.public_key());
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "1", "x": public,
        });
        json!({ "keys": [key] }).to_string()
    }
}

fn answer(stream: TcpStream, discovery: &str, keys: &str) -> Outcome<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let body = if first.starts_with("GET /keys ") { keys } else { discovery };
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    Ok(write!(&stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}")?)
}

//! Requests over HTTP. The only file of the client that names the HTTP library.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Method as HttpMethod, redirect};
use zeroize::Zeroizing;

use super::error::{ClientError, Refusal};
use super::{Condition, Credential};
use crate::api::problem::Problem;
use crate::domain::{WebAddress, root_cause};
use crate::outward::{distrusts, proxy_to};

const CONNECT: Duration = Duration::from_secs(5);
/// For one answer as a whole, without a body that is sent.
const ANSWER: Duration = Duration::from_secs(30);
/// A body takes longer on a slow line: bytes a second.
const SLOW: u64 = 32 * 1024;
/// How long a connection is kept for a next request.
const IDLE: Duration = Duration::from_secs(3);
/// Before each further attempt, unless the server names another wait.
const WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];
/// A server that asks for more is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest answer is a page of descriptions.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

/// What may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing.
    Safe,
    /// Only where it is certain that it was not applied.
    IfNotApplied,
}

/// A request, as often as it is sent.
pub(super) struct Ask {
    method: Method,
    path: String,
    json: Option<Zeroizing<Vec<u8>>>,
    condition: Option<(HeaderName, String)>,
}

impl Ask {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, json: None, condition: None }
    }

    pub(super) fn json(self, body: Zeroizing<Vec<u8>>) -> Self {
        Self { json: Some(body), ..self }
    }

    pub(super) fn on(self, condition: &Condition) -> Self {
        let condition = match condition {
            Condition::None => None,
            Condition::Absent => Some((header::IF_NONE_MATCH, "*".to_owned())),
            Condition::Unchanged(version) => {
                Some((header::IF_MATCH, format!("\"{}\"", version.as_str())))
            }
        };
        Self { condition, ..self }
    }
}

/// One that is no refusal.
pub(super) struct Answer {
    address: String,
    repeat: Repeat,
    headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// It says less, or something else, than ours do.
    pub(super) fn not_understood(&self) -> ClientError {
        let error = ClientError::Answer { address: self.address.clone() };
        not_ours(self.repeat, error, "it is not understood")
    }
}

/// What an answer that is not ours comes to: `error`, but behind one to a change that may
/// have been made. What stands between answers so when its own patience ends.
fn not_ours(repeat: Repeat, error: ClientError, cause: &str) -> ClientError {
    match (repeat, error) {
        (
            Repeat::IfNotApplied,
            ClientError::Answer { address } | ClientError::Foreign { address, .. },
        ) => ClientError::Unknown { address, cause: cause.to_owned() },
        (_, error) => error,
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    /// Without a slash at its end.
    address: String,
    /// Through which that is reached, if any.
    proxy: Option<String>,
}

impl Transport {
    pub(super) fn new(
        address: &WebAddress,
        credential: &Credential,
        ca: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        let (name, value) = proof(credential)?;
        headers.insert(name, value);
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            // Servers and what stands before them close what is idle; a request that is sent
            // into that is lost.
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true);
        let builder = if address.is_loopback() { builder.no_proxy() } else { builder };
        let client = match (address.is_encrypted(), ca) {
            (true, Some(ca)) => secured(trusting(builder.https_only(true), ca)?)?,
            (true, None) => secured(builder.https_only(true))?,
            // Plain HTTP goes to this machine's loopback alone, for which no certificate need
            // be read: that takes longer than all else.
            (false, _) => secured(builder.tls_certs_only([]))?,
        };
        let proxy = proxy_to(address);
        let address = address.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, address, proxy })
    }

    /// Sends it, again where that is right, until there is an answer or no more patience.
    pub(super) async fn send(&self, ask: &Ask, repeat: Repeat) -> Result<Answer, ClientError> {
        let mut waits = WAITS.into_iter();
        loop {
            let attempt = self.attempt(ask, repeat).await;
            let asked_for = match &attempt {
                Err(Attempt::NotApplied { after, .. }) => *after,
                _ => None,
            };
            match (attempt, waits.next()) {
                (Ok(answer), _) => return Ok(answer),
                (Err(Attempt::NotApplied { .. }), Some(wait))
                    if asked_for.unwrap_or_default() <= LONGEST_WAIT =>
                {
                    tokio::time::sleep(asked_for.unwrap_or(wait)).await;
                }
                (Err(Attempt::NotApplied { error, .. } | Attempt::Final(error)), _) => {
                    return Err(error);
                }
            }
        }
    }

    async fn attempt(&self, ask: &Ask, repeat: Repeat) -> Result<Answer, Attempt> {
        let sent = self.request(ask).send().await;
        let lost = |error: reqwest::Error| self.lost(&error, repeat);
        let mut answer = sent.map_err(lost)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Zeroizing::new(Vec::with_capacity(
            answer.content_length().map_or(0, |length| MAX_BYTES.min(length as usize)),
        ));
        while let Some(piece) = answer.chunk().await.map_err(lost)? {
            if body.len().saturating_add(piece.len()) > MAX_BYTES {
                let error = ClientError::Answer { address: self.address.clone() };
                return Err(Attempt::Final(not_ours(repeat, error, "it is too long")));
            }
            body.extend_from_slice(&piece);
        }
        let answer = Answer { address: self.address.clone(), repeat, headers, body };
        if status.is_success() {
            Ok(answer)
        } else {
            Err(self.refused(ask, status.as_u16(), &answer))
        }
    }

    fn request(&self, ask: &Ask) -> reqwest::RequestBuilder {
        let method = match ask.method {
            Method::Get => HttpMethod::GET,
            Method::Head => HttpMethod::HEAD,
            Method::Put => HttpMethod::PUT,
            Method::Post => HttpMethod::POST,
            Method::Delete => HttpMethod::DELETE,
        };
        let sent = ask.json.as_ref().map_or(0, |json| json.len() as u64);
        let mut request = self.client.request(method, format!("{}{}", self.address, ask.path));
        request = request.timeout(ANSWER + Duration::from_secs(sent / SLOW));
        if let Some(json) = &ask.json {
            request = request.header(header::CONTENT_TYPE, "application/json").body(json.to_vec());
        }
        if let Some((name, value)) = &ask.condition {
            request = request.header(name, value);
        }
        request
    }

    /// A request without a whole answer.
    fn lost(&self, error: &reqwest::Error, repeat: Repeat) -> Attempt {
        let address = self.address.clone();
        let cause =
            if error.is_timeout() { "no answer in time".to_owned() } else { root_cause(error) };
        if error.is_connect() && distrusts(error) {
            return Attempt::Final(ClientError::Untrusted { address, cause });
        }
        if error.is_connect() {
            let error = match self.proxy.clone() {
                Some(proxy) => ClientError::Proxy { address, proxy, cause },
                None => ClientError::Unreachable { address, cause },
            };
            return Attempt::NotApplied { error, after: None };
        }
        match repeat {
            Repeat::Safe => {
                Attempt::NotApplied { error: ClientError::NoAnswer { address, cause }, after: None }
            }
            Repeat::IfNotApplied => Attempt::Final(ClientError::Unknown { address, cause }),
        }
    }

    fn refused(&self, ask: &Ask, status: u16, answer: &Answer) -> Attempt {
        let address = self.address.clone();
        let problem = serde_json::from_slice::<Problem>(&answer.body).ok();
        let refusal = match problem {
            Some(problem) => Refusal::of(problem),
            None if ask.method == Method::Head => Refusal::without_body(status),
            None => {
                let error = ClientError::Foreign { address, status };
                let cause = format!("status {status}, and not from Tenure");
                return Attempt::Final(match status {
                    ..500 => error,
                    _ => not_ours(answer.repeat, error, &cause),
                });
            }
        };
        let passes_soon = refusal.passes_soon();
        let error = ClientError::Refused(Box::new(refusal));
        let seconds = answer.header("retry-after").and_then(|text| text.parse().ok());
        match passes_soon {
            true => Attempt::NotApplied { error, after: seconds.map(Duration::from_secs) },
            false => Attempt::Final(error),
        }
    }
}

/// How an attempt failed.
enum Attempt {
    /// It may be made again, `after` a wait where the server named one.
    NotApplied {
        error: ClientError,
        after: Option<Duration>,
    },
    Final(ClientError),
}

fn proof(credential: &Credential) -> Result<(HeaderName, HeaderValue), ClientError> {
    let (name, value) = match credential {
        Credential::Token(token) => {
            (header::AUTHORIZATION, Zeroizing::new(format!("Bearer {}", token.as_str())))
        }
        Credential::ApiKey(key) => (API_KEY, key.clone()),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| ClientError::Credential)?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn trusting(builder: ClientBuilder, ca: &Path) -> Result<ClientBuilder, ClientError> {
    let path = || PathBuf::from(ca);
    let pem =
        std::fs::read(ca).map_err(|cause| ClientError::CaUnreadable { path: path(), cause })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(builder.tls_certs_only(certificates)),
        _ => Err(ClientError::CaEmpty { path: path() }),
    }
}

fn secured(builder: ClientBuilder) -> Result<reqwest::Client, ClientError> {
    // The process's default; that it was set before is no fault.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder.build().map_err(|error| ClientError::Setup(root_cause(&error)))
}

//! Keeping the keys of each issuer current, apart from requests.
//!
//! Each issuer has a task of its own. It fetches at the start, from time to time,
//! and when a token names a key that is not at hand; strangers can send such tokens,
//! so that those of them are answered by one fetch in 30 s. What is fetched replaces
//! what was there; where fetching fails, the last set stays until it is 24 hours old.

mod fetch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::auth::oidc::Issuer;
use crate::domain::WebAddress;
use crate::vault::Vault;

use super::sign_in::{Offer, SignIn};
use super::state::AppState;
use fetch::{Endpoints, FetchError, Fetched, Source};

/// Where an issuer's keys come from, and how it lets people sign in.
#[derive(Debug, Clone)]
pub struct IssuerSource {
    pub issuer: WebAddress,
    /// Asked of the issuer where there is none.
    pub jwks_uri: Option<WebAddress>,
    /// PEM; in place of whom the machine trusts.
    pub ca_file: Option<PathBuf>,
    pub refresh: Duration,
    /// As which Swagger UI signs in.
    pub client_id: Option<String>,
}

/// Between two fetches that tokens with an unknown key cause.
const BETWEEN_WANTED: Duration = Duration::from_secs(30);
/// After a failure, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The tasks; they end with this.
pub struct IssuerWatch(Vec<JoinHandle<()>>);

impl IssuerWatch {
    /// Begins to fetch the keys of the vault's issuers, without waiting for any: a
    /// server whose issuer cannot be reached serves all others. Must be called within
    /// a tokio runtime.
    pub fn start(sources: Vec<IssuerSource>, vault: &Arc<Vault>, state: &AppState) -> Self {
        let tasks = sources.into_iter().enumerate().filter_map(|(place, source)| {
            let name = source.issuer.as_str();
            let issuer = vault.issuers().iter().find(|issuer| issuer.name() == name)?;
            let watched = Watched {
                place,
                issuer: Arc::clone(issuer),
                vault: Arc::clone(vault),
                sign_in: Arc::clone(state.sign_in()),
                source,
                said: None,
            };
            Some(tokio::spawn(watched.keep_current()))
        });
        Self(tasks.collect())
    }
}

impl Drop for IssuerWatch {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

struct Watched {
    /// Among the issuers configured.
    place: usize,
    issuer: Arc<Issuer>,
    vault: Arc<Vault>,
    sign_in: Arc<SignIn>,
    source: IssuerSource,
    /// The last line of the log about it, which is not repeated.
    said: Option<String>,
}

impl Watched {
    async fn keep_current(mut self) {
        let source = Source {
            issuer: self.source.issuer.clone(),
            jwks_uri: self.source.jwks_uri.clone(),
            ca_file: self.source.ca_file.clone(),
        };
        let mut failures = 0_u32;
        let mut wanted_again = Instant::now();
        loop {
            let outcome = fetch::fetch(&source).await;
            failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
            self.take(outcome);
            let wanted = async {
                sleep_until(wanted_again).await;
                self.issuer.key_wanted().await;
            };
            tokio::select! {
                () = sleep(pause(failures, self.source.refresh)) => {}
                () = wanted => wanted_again = Instant::now() + BETWEEN_WANTED,
            }
        }
    }

    fn take(&mut self, outcome: Result<Fetched, FetchError>) {
        let name = self.issuer.name();
        match outcome {
            Ok(Fetched { keys, endpoints }) => {
                let line = format!(
                    "issuer {name}: {} keys, and {} that are of no use here",
                    keys.len(),
                    keys.passed_over()
                );
                self.issuer.install(keys, self.vault.now());
                self.offer(endpoints);
                self.say(log::Level::Info, line);
            }
            Err(error) => {
                let follows = if self.issuer.has_keys(self.vault.now()) {
                    "the last ones are used, for up to 24 hours"
                } else {
                    "its tokens are answered with 503 until they can"
                };
                let line = format!("issuer {name}: its keys cannot be fetched: {error}; {follows}");
                self.say(log::Level::Warn, line);
            }
        }
    }

    fn offer(&self, endpoints: Endpoints) {
        let Endpoints { authorization: Some(authorization), token } = endpoints else { return };
        let scopes = &self.issuer.policy().scopes;
        let offer = Offer {
            authorization,
            token,
            client_id: self.source.client_id.clone(),
            scopes: scopes.iter().map(|(word, scope)| (word.to_string(), *scope)).collect(),
        };
        self.sign_in.offer(self.place, offer);
    }

    fn say(&mut self, level: log::Level, line: String) {
        if self.said.as_ref() != Some(&line) {
            log::log!(level, "{line}");
            self.said = Some(line);
        }
    }
}

/// Until the next fetch that nobody asks for.
fn pause(failures: u32, refresh: Duration) -> Duration {
    match failures.checked_sub(1) {
        None => refresh,
        Some(before) => {
            let doubled = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(before));
            doubled.min(LAST_RETRY).min(refresh)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_soon_and_then_less_often() {
        let pauses =
            |refresh| [0, 1, 2, 3, 6, 7, u32::MAX].map(|failures| pause(failures, refresh));
        let seconds = Duration::from_secs;
        assert_eq!(pauses(seconds(600)), [600, 1, 2, 4, 30, 30, 30].map(seconds));
        assert_eq!(pauses(seconds(2)), [2, 1, 2, 2, 2, 2, 2].map(seconds));
    }
}

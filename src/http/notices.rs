//! Carrying notices to a receiver: a webhook, as Standard Webhooks 1.0.0 has it.
//!
//! Each message has an id that stays the same however often it is sent, the time of
//! sending, and a signature over both and the body, so that the receiver can tell who sent
//! it and drop what it had before. It goes to the address that was configured, never by
//! way of a redirect. What is not taken (2xx) is sent again, less and less often, for as
//! long as it takes: only the telling waits for a receiver.
//!
//! Neither the address, which may hold a token, nor what was answered is in an error or a
//! log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use super::reach::{CaError, Lost, Way};
use crate::crypto::{WebhookKey, random, sha256};
use crate::domain::{SecretNaming, Timestamp, WebAddress, root_cause};
use crate::vault::Vault;
use crate::vault::notices::{Messenger, Notice, NoticeKind};

/// For one answer as a whole.
const ANSWER: Duration = Duration::from_secs(15);
/// After a failure, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error("notify.ca_file: {0}")]
    Ca(#[from] CaError),
    #[error("TLS cannot be set up ({0}); install ca-certificates, or set notify.ca_file")]
    Setup(String),
    #[error("the receiver at notify.url cannot be reached: {0}")]
    Unreachable(String),
    #[error(
        "the receiver at notify.url cannot be reached through the proxy {proxy}: {cause}; mend \
         HTTPS_PROXY or ALL_PROXY, or name the host in NO_PROXY, if it needs none"
    )]
    Proxy { proxy: String, cause: String },
    #[error("the receiver at notify.url answers with status {0}, and not with 200 to 299")]
    Status(u16),
    #[error("the receiver at notify.url answers with a redirect, which is not followed")]
    Redirect,
}

/// A receiver, and the key that is shared with it.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    way: Way,
    url: WebAddress,
    key: WebhookKey,
    names: SecretNaming,
}

impl Webhook {
    /// `ca_file`: who vouches for the receiver's certificate, as PEM; without it, whom the
    /// machine trusts.
    pub fn new(
        url: WebAddress,
        key: WebhookKey,
        names: SecretNaming,
        ca_file: Option<&Path>,
    ) -> Result<Self, WebhookError> {
        let (way, builder) = Way::to(&url, ca_file, ANSWER)?;
        // Plain HTTP goes to this machine's loopback alone, for which no certificate is asked.
        let builder =
            if url.is_encrypted() { builder.https_only(true) } else { builder.tls_certs_only([]) };
        let built = builder.build();
        let client = built.map_err(|error| WebhookError::Setup(root_cause(&error)))?;
        Ok(Self { client, way, url, key, names })
    }

    /// Sends a message that says nothing, once.
    pub async fn test(&self, now: Timestamp) -> Result<(), WebhookError> {
        let id = hex::encode(random::<16>());
        let event = Event {
            id: &id,
            kind: "test",
            tenant: None,
            name: None,
            expires_on: None,
            within_seconds: None,
            at: now.to_string(),
        };
        let body = body(now, vec![event]);
        self.send(&message_id(&[&id]), &body, now).await
    }

    async fn send(&self, id: &str, body: &[u8], now: Timestamp) -> Result<(), WebhookError> {
        let timestamp = now.unix_seconds();
        let request = self
            .client
            .post(self.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", self.key.sign(id, timestamp, body))
            .body(body.to_vec());
        let answer = request.send().await.map_err(|error| self.lost(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(WebhookError::Redirect),
            status => Err(WebhookError::Status(status.as_u16())),
        }
    }

    fn lost(&self, error: &reqwest::Error) -> WebhookError {
        match self.way.lost(error) {
            Lost { cause, proxy: Some(proxy) } => WebhookError::Proxy { proxy, cause },
            Lost { cause, proxy: None } => WebhookError::Unreachable(cause),
        }
    }

    fn message(&self, notices: &[Notice], now: Timestamp) -> (String, Vec<u8>) {
        let names: Vec<_> = notices.iter().map(|notice| self.name(notice)).collect();
        let events = notices.iter().zip(&names).map(|(notice, name)| event(notice, name));
        let ids: Vec<_> = notices.iter().map(|notice| notice.id.as_str()).collect();
        (message_id(&ids), body(now, events.collect()))
    }

    fn name(&self, notice: &Notice) -> String {
        let (tenant, name) = (notice.tenant.as_str(), notice.name.as_str());
        match self.names {
            SecretNaming::Plain => name.to_owned(),
            SecretNaming::Hashed => self.key.hide(tenant, name),
        }
    }
}

/// The body of a message.
#[derive(Serialize)]
struct Body<'m> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Data<'m>,
}

#[derive(Serialize)]
struct Data<'m> {
    events: Vec<Event<'m>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'m> {
    id: &'m str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    within_seconds: Option<u64>,
    at: String,
}

fn event<'m>(notice: &'m Notice, name: &'m str) -> Event<'m> {
    let Notice { id, kind, tenant, name: _, expires_on, at } = notice;
    let (kind, within_seconds) = match kind {
        NoticeKind::Expiring { within } => ("expiring", Some(within.as_secs())),
        NoticeKind::Expired => ("expired", None),
        NoticeKind::Swept => ("swept", None),
    };
    Event {
        id,
        kind,
        tenant: Some(tenant.as_str()),
        name: Some(name),
        expires_on: Some(expires_on.to_string()),
        within_seconds,
        at: at.to_string(),
    }
}

fn body(now: Timestamp, events: Vec<Event<'_>>) -> Vec<u8> {
    let data = Data { events };
    let body = Body { kind: "tenure.secrets", timestamp: now.to_string(), data };
    // Writing strings to memory does not fail.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// The same for the same events. It holds no dot.
fn message_id(events: &[&str]) -> String {
    let digest = hex::encode(sha256(events.concat().as_bytes()));
    format!("msg_{}", digest.get(..32).unwrap_or_default())
}

/// The task that tells; it ends with this.
pub struct NoticeWatch(JoinHandle<()>);

impl NoticeWatch {
    /// Looks for what is due from time to time. Must be called within a tokio runtime.
    pub fn start(webhook: Webhook, every: Duration, vault: &Arc<Vault>) -> Self {
        let vault = Arc::clone(vault);
        Self(tokio::spawn(async move {
            let mut courier = Courier { webhook, vault: Arc::clone(&vault), said: None };
            let mut every = interval(every);
            loop {
                every.tick().await;
                vault.tell_due(&mut courier).await;
            }
        }))
    }

    /// Returns when nothing is told any more.
    pub async fn stop(mut self) {
        self.0.abort();
        // That it was aborted is all that it can say.
        let _ = (&mut self.0).await;
    }
}

impl Drop for NoticeWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Courier {
    webhook: Webhook,
    vault: Arc<Vault>,
    /// What went wrong last, which is not repeated in the log.
    said: Option<WebhookError>,
}

#[async_trait]
impl Messenger for Courier {
    async fn tell(&mut self, notices: &[Notice]) {
        let (id, body) = self.webhook.message(notices, self.vault.now().wall());
        let mut wait = FIRST_RETRY;
        while let Err(error) = self.webhook.send(&id, &body, self.vault.now().wall()).await {
            self.complain(error);
            sleep(wait).await;
            wait = wait.saturating_mul(2).min(LAST_RETRY);
        }
        if self.said.take().is_some() {
            log::info!("notices are taken again");
        }
    }
}

impl Courier {
    fn complain(&mut self, error: WebhookError) {
        if self.said.as_ref() != Some(&error) {
            log::warn!("notices wait: {error}; they are sent again until they are taken");
            self.said = Some(error);
        }
    }
}

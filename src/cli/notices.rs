//! Notices of secrets that come to their end: whom the configuration has told of them, and
//! `tenure notify test`.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::access::{self, DevStore};
use super::args::{NotifyArgs, NotifyCommand};
use super::clock::SystemClock;
use super::data::PrivateText;
use super::failure::CliError;
use super::internal;
use super::maintain::Output;
use crate::config::{self, Config, NoticeEvent};
use crate::crypto::WebhookKey;
use crate::domain::{Clock, TenantName};
use crate::http::{NoticeWatch, Webhook, WebhookError};
use crate::vault::Vault;
use crate::vault::notices::{Expired, NoticePolicy};

/// What is told; `None`: nothing, to nobody.
pub(super) fn policy(config: &Config) -> Option<NoticePolicy> {
    let config::Notify { url, expiring_within, events, tenants, .. } = &config.notify;
    url.as_ref()?;
    let told = |event| events.contains(&event);
    let within = expiring_within.iter().filter(|_| told(NoticeEvent::Expiring));
    let sweep = &config.sweep;
    // What nobody sweeps is not told to be swept.
    let swept = told(NoticeEvent::Swept) && !sweep.every.is_zero();
    // Each was proved to be a name when the configuration was read.
    let tenants = tenants.iter().filter_map(|name| TenantName::parse(name).ok()).collect();
    Some(NoticePolicy {
        expiring_within: within.map(|within| within.as_duration()).collect(),
        expired: if told(NoticeEvent::Expired) { Expired::Told } else { Expired::Untold },
        swept_after: swept.then(|| sweep.retain.as_duration()),
        tenants: Some(tenants).filter(|_| !config.notify.tenants.is_empty()),
    })
}

/// Begins to tell who is to be told.
pub(super) fn start(webhook: Webhook, config: &Config, vault: &Arc<Vault>) -> NoticeWatch {
    NoticeWatch::start(webhook, config.notify.every.as_duration(), vault)
}

/// Whom the configuration has told, with the key and the certificates that it names.
pub(super) fn webhook(config: &Config) -> Result<Option<Webhook>, CliError> {
    let config::Notify { url: Some(url), secret_file: Some(file), ca_file, names, .. } =
        &config.notify
    else {
        return Ok(None);
    };
    let webhook = Webhook::new(url.clone(), read_key(file)?, *names, ca_file.as_deref());
    webhook.map(Some).map_err(|error| match error {
        WebhookError::Ca(_) => CliError::usage(error),
        error => internal(error),
    })
}

fn read_key(path: &Path) -> Result<WebhookKey, CliError> {
    let named = format!("{}, which notify.secret_file names,", path.display());
    let text = PrivateText { path, forbidden: 0o077, named }.read(|| {
        format!(
            "there is no {0}, which notify.secret_file names; to make one: (umask 077; printf \
             'whsec_%s\\n' \"$(openssl rand -base64 32)\" > {0})",
            path.display()
        )
    })?;
    WebhookKey::parse(&text)
        .map_err(|error| CliError::usage(format!("{}: it {error}", path.display())))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    delivered: bool,
}

pub(super) async fn run(args: &NotifyArgs, output: Output) -> Result<(), CliError> {
    let NotifyCommand::Test { store } = &args.command;
    let config = access::configure(store, DevStore::Allowed, Vec::new())?;
    let webhook = webhook(&config)?.ok_or_else(|| {
        CliError::usage("nobody is told: set notify.url and notify.secret_file (docs/notify.md)")
    })?;
    webhook.test(SystemClock.read().wall).await.map_err(CliError::unavailable)?;
    output.show(&Tested { delivered: true }, || "the receiver took the test\n".to_owned())
}

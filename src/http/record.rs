//! What of a request's outcome is recorded, and in whose chain.
//!
//! A change has its entry in its own commit, so what is left are reads, and what was
//! refused or failed after the credential was found to be good; and, summed, what was
//! turned away before that. It all goes by what the path says: a handler that is added
//! cannot forget it.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpResponse;

use crate::api::audit::AuditOp;
use crate::auth::{Origin, Principal};
use crate::domain::{Now, TenantName};
use crate::vault::{About, Act, TurnedAway, Unrecorded, Vault};

use super::path;
use super::problem::{self, Refused};
use super::routes::{ApiKeyCall, Captures, SecretCall};

type Outcome = Result<HttpResponse, Refused>;

/// Who asked for what, with a good credential.
pub(super) struct Asking<'r, O> {
    pub vault: &'r Arc<Vault>,
    pub principal: &'r Principal,
    pub now: Now,
    pub captures: Captures<'r>,
    /// Asked where there is something to record.
    pub origin: O,
}

/// Whether an outcome of success has an entry of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    /// In the commit of the change.
    Change,
}

impl<O: FnOnce() -> Origin> Asking<'_, O> {
    /// What is answered: a read that cannot be recorded is not.
    pub async fn answered_with(self, call: SecretCall, outcome: Outcome) -> Outcome {
        let (op, kind) = match call {
            SecretCall::Read => (AuditOp::SecretRead, Kind::Read),
            SecretCall::List => (AuditOp::SecretList, Kind::Read),
            SecretCall::Write | SecretCall::WriteAll => (AuditOp::SecretWrite, Kind::Change),
            SecretCall::Delete => (AuditOp::SecretDelete, Kind::Change),
        };
        let Some(result) = self.to_record(kind, &outcome) else { return outcome };
        let about = match self.principal.tenant_id() {
            Some(tenant) => About::Secret { tenant, name: path::secret_name(self.captures.tail) },
            // Of the server itself: it was refused, whichever tenant it asked for.
            None => About::System { tenant: None },
        };
        let vault = self.vault;
        recorded(vault, kind, self.act(op, about, result, None), outcome).await
    }

    /// The same of API keys, in the system's chain.
    pub async fn answered_of_keys(self, call: ApiKeyCall, outcome: Outcome) -> Outcome {
        let (op, kind) = match call {
            ApiKeyCall::Create => (AuditOp::ApiKeyCreate, Kind::Change),
            ApiKeyCall::List => (AuditOp::ApiKeyList, Kind::Read),
            ApiKeyCall::Show => (AuditOp::ApiKeyShow, Kind::Read),
            ApiKeyCall::Revoke => (AuditOp::ApiKeyRevoke, Kind::Change),
        };
        let Some(result) = self.to_record(kind, &outcome) else { return outcome };
        let tenant = self.principal.tenant().map(|tenant| tenant.as_str().into());
        let about = About::System { tenant };
        let id = path::api_key_id(self.captures.tail).map(|id| id.to_string());
        let vault = self.vault;
        recorded(vault, kind, self.act(op, about, result, id), outcome).await
    }

    /// The result to be recorded, if there is something to record.
    fn to_record(&self, kind: Kind, outcome: &Outcome) -> Option<&'static str> {
        match outcome {
            Ok(_) => (kind == Kind::Read && self.vault.records_reads()).then_some(Act::OK),
            Err(refused) => (!refused.is_recorded()).then(|| refused.code().as_str()),
        }
    }

    /// In the chain of the credential's own tenant, whichever it asked for: what it says
    /// of another does not tell whether there is one.
    fn act(self, op: AuditOp, about: About, result: &'static str, id: Option<String>) -> Act {
        let other = self.other_tenant().map(|tenant| format!("asked for tenant {tenant}"));
        let detail = match (id, other) {
            (Some(id), Some(other)) => Some(format!("{id}, {other}")),
            (one, other) => one.or(other),
        };
        let caller = self.principal.requested_by((self.origin)());
        Act { at: self.now.wall(), op, about, result, caller, detail: detail.map(Into::into) }
    }

    fn other_tenant(&self) -> Option<TenantName> {
        let own = self.principal.tenant();
        if own.is_some_and(|own| self.captures.segment == own.as_str()) {
            return None;
        }
        path::tenant(self.captures.segment).ok().filter(|asked| Some(asked) != own)
    }
}

async fn recorded(vault: &Arc<Vault>, kind: Kind, act: Act, outcome: Outcome) -> Outcome {
    match kind {
        // What was read leaves only when it is known that it did.
        Kind::Read => match vault.record_read(act).await {
            Ok(()) => outcome,
            Err(Unrecorded) => Err(problem::audit_unavailable()),
        },
        Kind::Change => {
            vault.record_refusal(act).await;
            outcome
        }
    }
}

/// A request that was turned away before anything was done for it: without a good
/// credential, or too often with one. `reason`: what its sender is not told.
pub(super) fn turned_away(
    vault: &Vault,
    from: Option<IpAddr>,
    refused: &Refused,
    reason: Option<&'static str>,
    now: Now,
) {
    let code = refused.code().as_str();
    let why = TurnedAway { code, reason: reason.unwrap_or(code) };
    vault.record_turned_away(from, why, now.wall());
}

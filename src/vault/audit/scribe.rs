//! Entries in writing.
//!
//! There is one for every request, and most of it is what the one before says too. So what a
//! credential tells of its holder is written once for those acts of it that follow one
//! another, and the room for texts is used again, in each thread.

use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::bounded;
use super::queue::{About, Act};
use crate::api::audit::{AuditActor, AuditEntry, AuditOp};
use crate::auth::{Actor, Caller, CredentialId, CredentialKind, Holder};
use crate::domain::{SecretName, Timestamp};

const HAS_JSON: &str = "texts have JSON, and memory takes it";

/// # Panics
/// Never: an entry is made of texts alone.
pub(super) fn text(entry: &AuditEntry) -> String {
    serde_json::to_string(entry).expect(HAS_JSON)
}

thread_local! {
    static SCRIBE: RefCell<Scribe> = const { RefCell::new(Scribe::new()) };
}

/// What an entry says of an act.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub at: Timestamp,
    pub op: AuditOp,
    pub tenant: Option<&'a str>,
    pub name: Option<&'a str>,
    pub result: &'a str,
    pub caller: &'a Caller,
    pub detail: Option<&'a str>,
}

impl<'a> From<&'a Act> for Facts<'a> {
    fn from(act: &'a Act) -> Self {
        let Act { at, op, about, result, caller, detail } = act;
        let (tenant, name) = match about {
            About::Secret { name, .. } => (None, name.as_ref().map(SecretName::as_str)),
            About::System { tenant } => (tenant.as_deref(), None),
        };
        Self { at: *at, op: *op, tenant, name, result, caller, detail: detail.as_deref() }
    }
}

/// Hands over the text of an act's entry, as [`text`] would write it.
///
/// # Panics
/// If `read` writes one itself.
pub(super) fn write<'a, T>(facts: impl Into<Facts<'a>>, read: impl FnOnce(&str) -> T) -> T {
    SCRIBE.with_borrow_mut(|scribe| read(scribe.write(facts.into())))
}

struct Scribe {
    /// Of the act before.
    holder: Option<Arc<Holder>>,
    /// Members of an entry: who it was.
    who: String,
    /// Of the act before, and in writing.
    from: Option<IpAddr>,
    from_text: String,
    at: String,
    entry: String,
}

impl Scribe {
    const fn new() -> Self {
        Self {
            holder: None,
            who: String::new(),
            from: None,
            from_text: String::new(),
            at: String::new(),
            entry: String::new(),
        }
    }

    /// The members in the order of [`AuditEntry`].
    fn write(&mut self, facts: Facts<'_>) -> &str {
        let Facts { at, op, tenant, name, result, caller: Caller { actor, origin }, detail } =
            facts;
        self.turn_to(actor);
        self.turn_to_address(origin.address);
        rewrite(&mut self.at, at);
        let from = origin.address.map(|_| self.from_text.as_str());
        let entry = &mut self.entry;
        entry.clear();
        member(entry, "{\"at\":", Some(&self.at));
        member(entry, ",\"op\":", Some(op.word()));
        member(entry, ",\"tenant\":", tenant);
        member(entry, ",\"name\":", name);
        member(entry, ",\"result\":", Some(result));
        entry.push(',');
        entry.push_str(&self.who);
        member(entry, ",\"from\":", from);
        member(entry, ",\"request\":", origin.request.as_deref());
        member(entry, ",\"detail\":", detail);
        entry.push('}');
        entry
    }

    fn turn_to_address(&mut self, from: Option<IpAddr>) {
        if let Some(address) = from
            && self.from != from
        {
            rewrite(&mut self.from_text, address);
            self.from = from;
        }
    }

    fn turn_to(&mut self, actor: &Actor) {
        let holder = match actor {
            Actor::Holder(holder) => Some(holder),
            Actor::Local { .. } | Actor::Server | Actor::Stranger => None,
        };
        match (&self.holder, holder) {
            (Some(before), Some(holder)) if Arc::ptr_eq(before, holder) => {}
            _ => {
                self.who = members_of(&Who::of(actor));
                self.holder = holder.cloned();
            }
        }
    }
}

fn rewrite(text: &mut String, shown: impl Display) {
    text.clear();
    // A string takes all that is written to it.
    let _ = write!(text, "{shown}");
}

fn member(entry: &mut String, begin: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    entry.push_str(begin);
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        entry.push('"');
        entry.push_str(text);
        entry.push('"');
    } else {
        entry.push_str(&serde_json::to_string(text).expect(HAS_JSON));
    }
}

/// Without the braces around them.
fn members_of(who: &Who) -> String {
    let object = serde_json::to_string(who).expect(HAS_JSON);
    object.trim_start_matches('{').trim_end_matches('}').to_owned()
}

/// Who acts, in the words of an entry.
#[derive(Serialize)]
pub(super) struct Who {
    pub by: AuditActor,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

impl Who {
    pub fn of(actor: &Actor) -> Self {
        match actor {
            Actor::Holder(holder) => Self::of_holder(holder),
            Actor::Local { uid } => {
                Self { subject: uid.map(|uid| uid.to_string()), ..Self::nobody(AuditActor::Local) }
            }
            Actor::Server => Self::nobody(AuditActor::Server),
            Actor::Stranger => Self::nobody(AuditActor::Stranger),
        }
    }

    fn of_holder(Holder { id, identity }: &Holder) -> Self {
        let by = match identity.kind {
            CredentialKind::Biscuit => AuditActor::Token,
            CredentialKind::ApiKey => AuditActor::ApiKey,
            CredentialKind::Oidc => AuditActor::AccessToken,
        };
        let credential = match id {
            // The last block: what was narrowed is revoked by it alone.
            CredentialId::Biscuit(blocks) => blocks.last().map(ToString::to_string),
            CredentialId::ApiKey(id) => Some(id.to_string()),
            CredentialId::Oidc(id) => id.as_deref().map(bounded),
        };
        let issuer = identity.issuer.as_deref().map(bounded);
        Self { by, credential, subject: Some(identity.subject.to_string()), issuer }
    }

    const fn nobody(by: AuditActor) -> Self {
        Self { by, credential: None, subject: None, issuer: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Identity, Origin, Subject};
    use crate::domain::TenantId;
    use crate::vault::audit::{self, By};

    fn holder(subject: &str) -> Actor {
        let identity = Identity::of_biscuit(Subject::parse(subject).unwrap());
        Actor::Holder(Arc::new(Holder { id: CredentialId::Oidc(Some("a\"b".into())), identity }))
    }

    /// The same by way of all its members.
    fn entry(act: &Act) -> AuditEntry {
        let (tenant, name) = match &act.about {
            About::Secret { name, .. } => (None, name.as_ref().map(|name| name.as_str().into())),
            About::System { tenant } => (tenant.as_deref().map(Into::into), None),
        };
        AuditEntry {
            tenant,
            name,
            result: act.result.into(),
            detail: act.detail.as_deref().map(Into::into),
            ..audit::entry(By { caller: &act.caller, at: act.at }, act.op)
        }
    }

    /// Or an entry would depend on how it came to be written.
    #[test]
    fn an_act_is_written_as_an_entry_is() {
        let tenant = TenantId::from_bytes([1; 16]);
        let abouts = [
            About::Secret { tenant, name: Some(SecretName::parse("db-1_x").unwrap()) },
            About::Secret { tenant, name: None },
            About::System { tenant: Some("sha256:\"{}\\".into()) },
            About::System { tenant: None },
        ];
        let actors = [
            holder("one"),
            holder("Jörg {\"x\"}"),
            Actor::Local { uid: Some(7) },
            Actor::Local { uid: None },
            Actor::Server,
            Actor::Stranger,
        ];
        let address = "2001:db8::1".parse().ok();
        let origins = [
            Origin::default(),
            Origin { request: Some("r-1".into()), address },
            Origin { request: None, address: "192.0.2.1".parse().ok() },
        ];
        let details = [None, Some("asked for \u{1b} \"x\"".into())];
        // Each with each.
        for place in 0..4 * 6 * 3 * 2 {
            let pick = |from: usize, of: usize| place / from % of;
            let (actor, origin) = (pick(4, actors.len()), pick(4 * 6, origins.len()));
            let caller = Caller { actor: actors[actor].clone(), origin: origins[origin].clone() };
            let act = Act {
                at: Timestamp::from_unix_micros(1_900_000_000_123_456 + place as i64 * 1_000),
                op: AuditOp::ALL[place % AuditOp::ALL.len()],
                about: abouts[pick(1, abouts.len())].clone(),
                result: if place % 2 == 0 { Act::OK } else { "not_found" },
                caller,
                detail: details[pick(4 * 6 * 3, details.len())].clone(),
            };
            write(&act, |written| assert_eq!(written, text(&entry(&act))));
        }
    }
}

//! Looking through a chain.

use crate::api::admin::{Failure, FailureKind, Reply};
use crate::api::audit::{AuditEntry, AuditFilter, AuditFrom, NumberedEntry};
use crate::crypto::AuditKey;
use crate::domain::Timestamp;
use crate::store::{LedgerSeal, PlacedBlock, Space, StoreError};

use super::super::Vault;
use super::super::maintenance::{failure, find_tenant};
use super::super::seal::SpaceSeal;
use super::checkpoint::is_piece;

/// What is answered at most at once.
pub(in crate::vault) const MOST: usize = 1_000;
/// How many pages of a chain are looked through for one answer. Who asked goes on from
/// where it ended.
const PAGES: usize = 16;
/// How far back of the newest entry a look for the newest ones begins; doubled until
/// enough are found.
const LOOK_BACK: u64 = 4_096;

/// Some entries, and from which on to ask for more; `None` at the end.
struct Found {
    entries: Vec<NumberedEntry>,
    next: Option<u64>,
}

/// Entries of a tenant's chain or of the system's, oldest first.
pub(in crate::vault) async fn query(
    vault: &Vault,
    tenant: Option<&str>,
    filter: &AuditFilter,
    from: AuditFrom,
    limit: usize,
) -> Result<Reply, Failure> {
    let wanted = Wanted::parse(filter)?;
    let limit = limit.clamp(1, MOST);
    let tenant = tenant.map(|name| find_tenant(vault, name)).transpose()?;
    let (space, (keys, seal)) = match &tenant {
        None => (Space::System, (vault.system.keys(), vault.system.seal())),
        Some(tenant) => (Space::Tenant(tenant.id), tenant.keys()),
    };
    let log = Log { vault, space, key: keys.anchor.audit(), seal };
    let Found { entries, next } = match from {
        AuditFrom::Entry(from) => log.forwards(from, &wanted, limit, PAGES).await?,
        AuditFrom::Newest => log.newest(&wanted, limit).await?,
    };
    let chain = tenant.as_ref().map(|tenant| tenant.name.to_string());
    let chain_id = tenant.as_ref().map(|tenant| tenant.id.to_string());
    Ok(Reply::Audit { chain, chain_id, entries, next })
}

/// A filter whose times were understood.
struct Wanted<'f> {
    filter: &'f AuditFilter,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'f> Wanted<'f> {
    fn parse(filter: &'f AuditFilter) -> Result<Self, Failure> {
        let moment = |flag: &str, text: &Option<String>| {
            text.as_deref()
                .map(Timestamp::parse)
                .transpose()
                .map_err(|error| failure(FailureKind::Usage, format!("{flag} {error}")))
        };
        let since = moment("--since", &filter.since)?;
        let until = moment("--until", &filter.until)?;
        Ok(Self { filter, since, until })
    }

    fn is(&self, entry: &AuditEntry) -> bool {
        let AuditFilter { name, since: _, until: _, subject, op, result } = self.filter;
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        same(name, entry.name.as_deref())
            && same(subject, entry.subject.as_deref())
            && same(result, Some(&entry.result))
            && op.as_deref().is_none_or(|op| is_among(entry.op.word(), op))
            && self.is_in_time(&entry.at)
    }

    fn is_in_time(&self, at: &str) -> bool {
        if (self.since, self.until) == (None, None) {
            return true;
        }
        // A clock that was beyond the calendar had written no time.
        let Ok(at) = Timestamp::parse(at) else { return false };
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Whether an operation is the one, or one of the kind: `secret` is `secret.write` too.
fn is_among(word: &str, wanted: &str) -> bool {
    word.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

struct Log<'v> {
    vault: &'v Vault,
    space: Space,
    key: &'v AuditKey,
    seal: &'v SpaceSeal,
}

impl Log<'_> {
    async fn forwards(
        &self,
        from: u64,
        wanted: &Wanted<'_>,
        limit: usize,
        pages: usize,
    ) -> Result<Found, StoreError> {
        let (mut entries, mut next) = (Vec::new(), from);
        // The block that holds `from` may begin before it.
        let mut at = from.saturating_sub(MOST_IN_A_BLOCK);
        for _ in 0..pages {
            let page = self.vault.store.chain(self.space, at).await?;
            for placed in &page.blocks {
                at = placed.first.saturating_add(1);
                if placed.end() <= from {
                    continue;
                }
                let opened = self.opened(placed)?;
                for found in opened.into_iter().filter(|found| found.number >= from) {
                    if entries.len() == limit {
                        return Ok(Found { entries, next: Some(found.number) });
                    }
                    next = found.number.saturating_add(1);
                    if wanted.is(&found.entry) {
                        entries.push(found);
                    }
                }
            }
            if !page.more {
                return Ok(Found { entries, next: None });
            }
            // Decrypting is CPU work: let the requests of this thread go on.
            tokio::task::yield_now().await;
        }
        Ok(Found { entries, next: Some(next) })
    }

    /// Looks back further and further. What is appended meanwhile is among the newest
    /// too, or not.
    async fn newest(&self, wanted: &Wanted<'_>, limit: usize) -> Result<Found, StoreError> {
        let mut back = LOOK_BACK.max(limit as u64);
        let end = self.next().await?;
        loop {
            let from = end.saturating_sub(back);
            let mut found = self.forwards(from, wanted, usize::MAX, usize::MAX).await?;
            if found.entries.len() >= limit || from == 0 {
                let surplus = found.entries.len().saturating_sub(limit);
                found.entries.drain(..surplus);
                return Ok(found);
            }
            back = back.saturating_mul(2);
        }
    }

    /// The number of the next entry.
    async fn next(&self) -> Result<u64, StoreError> {
        let Some(sealed) = self.vault.store.ledger(self.space).await? else { return Ok(0) };
        let damaged = |_| StoreError::Corrupted { what: format!("the ledger of {}", self.space) };
        Ok(self.seal.open(&sealed).map_err(damaged)?.chain.next)
    }

    fn opened(&self, placed: &PlacedBlock) -> Result<Vec<NumberedEntry>, StoreError> {
        opened(self.space, self.key, placed)
    }
}

/// The entries of a block; none of a piece of a checkpoint.
pub(super) fn opened(
    space: Space,
    key: &AuditKey,
    placed: &PlacedBlock,
) -> Result<Vec<NumberedEntry>, StoreError> {
    let PlacedBlock { first, block, link: _ } = placed;
    if is_piece(&block.bytes) {
        return Ok(Vec::new());
    }
    let damaged =
        || StoreError::Corrupted { what: format!("the audit of {space} (entry {first})") };
    let entries = key.read(&block.bytes).map_err(|_| damaged())?;
    let numbered = entries.iter().zip(*first..).map(|(entry, number)| {
        let entry = serde_json::from_str(&entry.text).map_err(|_| damaged())?;
        Ok(NumberedEntry { number, entry })
    });
    numbered.collect()
}

const MOST_IN_A_BLOCK: u64 = (AuditKey::MOST_BYTES / LEAST_BYTES) as u64;
/// No entry is shorter.
pub(super) const LEAST_BYTES: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_meant_by_its_name_or_its_kind() {
        for (wanted, is) in [
            ("secret.write", true),
            ("secret", true),
            ("secret.", false),
            ("sec", false),
            ("", false),
        ] {
            assert_eq!(is_among("secret.write", wanted), is, "{wanted:?}");
        }
        assert!(is_among("seal", "seal"));
        assert!(!is_among("seal", "secret"));
    }
}

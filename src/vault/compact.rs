//! Giving back the space of what was deleted or replaced: which databases, and how
//! it went.

use crate::api::admin::{CompactedDatabase, Databases, Failure, FailureKind, Progress, Report};
use crate::store::{DatabaseUse, Store};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompactMode {
    Compact,
    LookOnly,
}

/// Looks at all databases, and compacts those chosen, one after the other. The
/// first failure ends it; those before stay compacted.
pub(super) async fn compact(
    store: &dyn Store,
    databases: &Databases,
    mode: CompactMode,
    report: &Report,
) -> Result<Vec<CompactedDatabase>, Failure> {
    report(Progress { what: "looking".to_owned(), done: 0, of: None });
    let usage = store.usage().await?;
    if let Databases::One(name) = databases
        && !usage.iter().any(|used| used.name == *name)
    {
        return Err(no_such_database(name, &usage));
    }
    let mut found = Vec::with_capacity(usage.len());
    for used in usage {
        let chosen = is_chosen(&used, databases);
        let bytes_after = match mode {
            CompactMode::Compact if chosen => compact_one(store, &used.name, report).await?,
            _ => None,
        };
        let DatabaseUse { name: database, bytes, live } = used;
        found.push(CompactedDatabase { database, bytes, live_bytes: live, chosen, bytes_after });
    }
    Ok(found)
}

fn is_chosen(used: &DatabaseUse, databases: &Databases) -> bool {
    match databases {
        Databases::Wasteful => used.is_mostly_garbage(),
        // A damaged one must not keep the others from it.
        Databases::All => used.live.is_some(),
        Databases::One(name) => used.name == *name,
    }
}

async fn compact_one(
    store: &dyn Store,
    name: &str,
    report: &Report,
) -> Result<Option<u64>, Failure> {
    let progress = |done, of| report(Progress { what: name.to_owned(), done, of: Some(of) });
    let compacted = store.compact(name, &progress).await.map_err(|error| {
        let Failure { kind, message } = error.into();
        Failure { kind, message: format!("compacting {name}: {message}") }
    })?;
    Ok(compacted.map(|compacted| compacted.after))
}

fn no_such_database(name: &str, usage: &[DatabaseUse]) -> Failure {
    let names: Vec<_> = usage.iter().map(|used| used.name.as_str()).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Failure {
        kind: FailureKind::NotFound,
        message: format!("there is no database '{name}'; there are: {there}"),
    }
}

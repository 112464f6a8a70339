//! Credentials that were refused, summed: anyone can send as many as they like, and none of
//! them says who it is.
//!
//! There is an entry for each address and reason every ten seconds, for so many of them at
//! most, and one for each reason beyond.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queue::{About, Act};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::domain::Timestamp;

const INTERVAL: Duration = Duration::from_secs(10);
/// Sums of one interval. Whoever has more addresses than that is summed over them.
const MOST: usize = 1_024;

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TurnedAway {
    /// What they were told.
    pub code: &'static str,
    /// What they were not.
    pub reason: &'static str,
}

#[derive(Default)]
pub(super) struct Refusals(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    /// When the first of them came.
    since: Option<Timestamp>,
    counts: HashMap<(Whence, TurnedAway), u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whence {
    /// Nobody knows where one without comes from.
    Address(Option<IpAddr>),
    Others,
}

impl Refusals {
    pub(super) fn count(&self, from: Option<IpAddr>, why: TurnedAway, now: Timestamp) {
        let mut sums = self.lock();
        sums.since.get_or_insert(now);
        let is_room = sums.counts.len() < MOST;
        let whence = match Whence::Address(from) {
            known if is_room || sums.counts.contains_key(&(known, why)) => known,
            _ => Whence::Others,
        };
        *sums.counts.entry((whence, why)).or_default() += 1;
    }

    /// The sums of an interval that has ended.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Act> {
        let mut sums = self.lock();
        // A clock that was set back ends it too.
        let is_due = |since: Timestamp| now < since || now >= since.saturating_add(INTERVAL);
        if sums.since.is_some_and(is_due) { sums.end(now) } else { Vec::new() }
    }

    /// All that there are.
    pub(super) fn all(&self, now: Timestamp) -> Vec<Act> {
        self.lock().end(now)
    }

    /// A count may be one too few after a panic, and nothing worse.
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    fn end(&mut self, now: Timestamp) -> Vec<Act> {
        self.since = None;
        let act = |((whence, why), count)| act(whence, why, count, now);
        mem::take(&mut self.counts).into_iter().map(act).collect()
    }
}

fn act(whence: Whence, why: TurnedAway, count: u64, at: Timestamp) -> Act {
    let TurnedAway { code, reason } = why;
    let (from, others) = match whence {
        Whence::Address(address) => (address, ""),
        Whence::Others => (None, ", from other addresses"),
    };
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    Act {
        at,
        op: AuditOp::CredentialRefused,
        about: About::System { tenant: None },
        result: code,
        caller: Caller::stranger(from),
        detail: Some(format!("{times}{others}: {reason}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRED: TurnedAway = TurnedAway { code: "token_expired", reason: "expired" };
    const FORGED: TurnedAway = TurnedAway { code: "credential_invalid", reason: "signature" };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_000 + seconds)
    }

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    fn said(mut acts: Vec<Act>) -> Vec<String> {
        acts.sort_by_key(|act| (act.caller.origin.address, act.result));
        let said = |act: &Act| {
            let from = act.caller.origin.address.map_or("-".to_owned(), |from| from.to_string());
            format!("{from} {} {}", act.result, act.detail.as_deref().unwrap())
        };
        acts.iter().map(said).collect()
    }

    #[test]
    fn each_address_and_reason_has_one_sum_an_interval() {
        let refusals = Refusals::default();
        for (from, why, times) in [(1, EXPIRED, 2), (1, FORGED, 1), (2, EXPIRED, 3)] {
            (0..times).for_each(|n| refusals.count(address(from), why, at(n)));
        }
        assert!(refusals.due(at(9)).is_empty());
        let expected = [
            "0.0.0.1 credential_invalid once: signature",
            "0.0.0.1 token_expired 2 times: expired",
            "0.0.0.2 token_expired 3 times: expired",
        ];
        assert_eq!(said(refusals.due(at(10))), expected);
        assert!(refusals.due(at(30)).is_empty(), "nothing came since");
        refusals.count(None, FORGED, at(31));
        assert!(refusals.due(at(40)).is_empty(), "an interval begins with its first");
        assert_eq!(said(refusals.all(at(40))), ["- credential_invalid once: signature"]);
    }

    #[test]
    fn addresses_beyond_the_bound_share_a_sum() {
        let refusals = Refusals::default();
        let most = u32::try_from(MOST).unwrap();
        (0..most + 500).for_each(|from| refusals.count(address(from), FORGED, at(0)));
        refusals.count(address(7), FORGED, at(0));
        let acts = refusals.all(at(1));
        assert_eq!(acts.len(), MOST + 1);
        let said = said(acts);
        assert_eq!(said[0], "- credential_invalid 500 times, from other addresses: signature");
        assert_eq!(said[8], "0.0.0.7 credential_invalid 2 times: signature");
    }

    #[test]
    fn a_clock_that_was_set_back_ends_an_interval() {
        let refusals = Refusals::default();
        refusals.count(address(1), FORGED, at(0));
        assert_eq!(refusals.due(at(-1)).len(), 1);
    }
}

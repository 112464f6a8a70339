//! Whether what clients saw of one secret could have happened one act at a time.
//!
//! An act takes effect at one moment between its call and its return. The check
//! goes through calls and returns in order and keeps every state the secret can be
//! in: at a return, only those in which the returning act has taken effect, with
//! the result it was answered (Lowe, "Testing for linearizability", 2017). An act
//! whose outcome is unknown may take effect at any moment up to the crash, or
//! never.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a secret holds: the number of the value, or nothing that can be read.
pub type Value = Option<u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Write(Value),
    Read(Value),
    /// Whether it was answered that something was there.
    Delete {
        found: bool,
    },
    /// Nothing was answered, so nothing is known of what was there.
    DeleteUnanswered,
}

impl Act {
    /// The state after it, if it can have had its result in this one.
    fn apply(self, state: Value) -> Option<Value> {
        match self {
            Self::Write(value) => Some(value),
            Self::Read(value) => (value == state).then_some(state),
            Self::Delete { found } => (found == state.is_some()).then_some(None),
            Self::DeleteUnanswered => Some(None),
        }
    }
}

/// One act, with two moments of a clock that all clients share.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    pub act: Act,
    pub called: u64,
    /// `None` where the outcome is unknown.
    pub returned: Option<u64>,
}

/// A state, and which of the acts under way have taken effect in it.
type Possible = (Value, BTreeSet<usize>);

/// Checks what happened between two crashes; answers every state that the secret
/// may be in after it, or what cannot have happened.
pub fn check(before: &HashSet<Value>, acts: &[Recorded]) -> Result<HashSet<Value>, String> {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (number, recorded) in acts.iter().enumerate() {
        events.push((recorded.called, false, number));
        events.extend(recorded.returned.map(|moment| (moment, true, number)));
    }
    events.sort_unstable();
    let mut under_way = BTreeMap::new();
    let mut possible: HashSet<Possible> =
        before.iter().map(|state| (*state, BTreeSet::new())).collect();
    for (_, returns, number) in events {
        let recorded = acts[number];
        if !returns {
            under_way.insert(number, recorded.act);
            continue;
        }
        let known: HashSet<Value> = possible.iter().map(|(state, _)| *state).collect();
        possible = explore(possible, &under_way, Some(number));
        under_way.remove(&number);
        if possible.is_empty() {
            return Err(format!("{recorded:?} cannot have happened: it was one of {known:?}"));
        }
    }
    Ok(explore(possible, &under_way, None).into_iter().map(|(state, _)| state).collect())
}

/// Lets acts under way take effect in every order: until `wanted` has, and forgets
/// it then; or as many as like.
fn explore(
    from: HashSet<Possible>,
    under_way: &BTreeMap<usize, Act>,
    wanted: Option<usize>,
) -> HashSet<Possible> {
    let (mut waiting, mut seen) = (Vec::from_iter(from), HashSet::new());
    let mut reached = HashSet::new();
    while let Some((state, mut done)) = waiting.pop() {
        if !seen.insert((state, done.clone())) {
            continue;
        }
        match wanted {
            Some(wanted) if done.remove(&wanted) => {
                reached.insert((state, done));
                continue;
            }
            Some(_) => {}
            None => drop(reached.insert((state, done.clone()))),
        }
        for (number, act) in under_way.iter().filter(|(number, _)| !done.contains(number)) {
            if let Some(after) = act.apply(state) {
                let mut done = done.clone();
                done.insert(*number);
                waiting.push((after, done));
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(called: u64, returned: u64, act: Act) -> Recorded {
        Recorded { act, called, returned: Some(returned) }
    }

    fn unknown(called: u64, act: Act) -> Recorded {
        Recorded { act, called, returned: None }
    }

    fn judged(acts: &[Recorded]) -> Result<Vec<Value>, String> {
        check(&HashSet::from([None]), acts).map(|states| {
            let mut states = Vec::from_iter(states);
            states.sort_unstable();
            states
        })
    }

    use Act::{Delete, DeleteUnanswered, Read, Write};

    #[test]
    fn a_read_sees_the_last_write_or_one_under_way() {
        let overlapping = [
            at(1, 2, Write(Some(1))),
            at(3, 8, Write(Some(2))),
            at(4, 5, Read(Some(1))),
            at(6, 7, Read(Some(2))),
            at(9, 10, Read(Some(2))),
        ];
        assert_eq!(judged(&overlapping), Ok(vec![Some(2)]));
    }

    #[test]
    fn a_stale_read_is_found() {
        let stale = [at(1, 2, Write(Some(1))), at(3, 4, Write(Some(2))), at(5, 6, Read(Some(1)))];
        assert!(judged(&stale).is_err());
        // Two readers must not see two writes in different orders either.
        let back_and_forth =
            [at(1, 9, Write(Some(1))), at(2, 3, Read(Some(1))), at(4, 5, Read(None))];
        assert!(judged(&back_and_forth).is_err());
    }

    #[test]
    fn a_lost_write_and_one_from_nowhere_are_found() {
        assert!(judged(&[at(1, 2, Write(Some(1))), at(3, 4, Read(None))]).is_err());
        assert!(judged(&[at(1, 2, Read(Some(7)))]).is_err());
        assert!(judged(&[at(1, 2, Delete { found: true })]).is_err());
        let revived =
            [at(1, 2, Write(Some(1))), at(3, 4, Delete { found: true }), at(5, 6, Read(Some(1)))];
        assert!(judged(&revived).is_err());
    }

    #[test]
    fn what_is_unknown_may_happen_late_or_never_and_not_twice() {
        let late = [
            unknown(1, Write(Some(1))),
            at(2, 3, Write(Some(2))),
            at(4, 5, Read(Some(2))),
            at(6, 7, Read(Some(1))),
        ];
        assert_eq!(judged(&late), Ok(vec![Some(1)]));
        let twice = [late[0], late[1], late[2], late[3], at(8, 9, Read(Some(2)))];
        assert!(judged(&twice).is_err());
        let never = [unknown(1, Write(Some(1))), unknown(2, DeleteUnanswered)];
        assert_eq!(judged(&never), Ok(vec![None, Some(1)]));
    }
}

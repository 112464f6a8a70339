//! What the disk is told to do wrong.

use std::collections::BTreeMap;

/// What an operation does, as far as faults tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Read,
    Write,
    /// Of a file or of a folder.
    Sync,
}

/// A fault that was switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

struct Fault {
    act: Act,
    /// In the path, relative to the root.
    part: String,
    left: Option<u64>,
    times: u64,
}

/// Errors on the paths they name, until they are used up or switched off.
#[derive(Default)]
pub struct Faults {
    all: BTreeMap<FaultId, Fault>,
    next: u64,
}

impl Faults {
    /// Every `act` on a path that contains `part` fails, `count` times or until
    /// [`Faults::heal`].
    pub fn inject(&mut self, act: Act, part: &str, count: Option<u64>) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.all.insert(id, Fault { act, part: part.to_owned(), left: count, times: 0 });
        id
    }

    /// How often it made something fail.
    pub fn times(&self, id: FaultId) -> u64 {
        self.all[&id].times
    }

    pub fn heal(&mut self, id: FaultId) {
        if let Some(fault) = self.all.get_mut(&id) {
            fault.left = Some(0);
        }
    }

    /// Whether `act` on `path` fails now.
    pub fn strikes(&mut self, act: Act, path: &str) -> bool {
        let hit = self
            .all
            .values_mut()
            .find(|fault| fault.act == act && fault.left != Some(0) && path.contains(&fault.part));
        let Some(fault) = hit else { return false };
        fault.times += 1;
        fault.left = fault.left.map(|left| left - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_its_act_and_path_until_it_is_used_up_or_healed() {
        let mut faults = Faults::default();
        let twice = faults.inject(Act::Write, "system/", Some(2));
        assert!(!faults.strikes(Act::Read, "store/system/1/db"));
        assert!(!faults.strikes(Act::Write, "store/keyring/1/db"));
        let struck: Vec<bool> =
            (0..3).map(|_| faults.strikes(Act::Write, "store/system/1/db")).collect();
        assert_eq!(struck, [true, true, false]);
        assert_eq!(faults.times(twice), 2);
        let always = faults.inject(Act::Sync, "", None);
        assert!(faults.strikes(Act::Sync, "anything"));
        faults.heal(always);
        assert!(!faults.strikes(Act::Sync, "anything"));
        assert_eq!(faults.times(always), 1);
    }
}

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

#[derive(Clone)]
struct Fault {
    act: Act,
    /// In the path, relative to the root.
    part: String,
    /// So many pass before.
    spared: u64,
    left: Option<u64>,
    times: u64,
    seen: u64,
}

/// Errors on the paths they name, until they are used up or switched off.
#[derive(Clone, Default)]
pub struct Faults {
    all: BTreeMap<FaultId, Fault>,
    next: u64,
}

impl Faults {
    /// Every `act` on a path that contains `part` fails, `count` times or until
    /// [`Faults::heal`].
    pub fn inject(&mut self, act: Act, part: &str, count: Option<u64>) -> FaultId {
        self.inject_after(0, act, part, count)
    }

    /// As [`Faults::inject`], after so many that go well.
    pub fn inject_after(
        &mut self,
        spared: u64,
        act: Act,
        part: &str,
        count: Option<u64>,
    ) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        let part = part.to_owned();
        self.all.insert(id, Fault { act, part, spared, left: count, times: 0, seen: 0 });
        id
    }

    /// How often it made something fail.
    pub fn times(&self, id: FaultId) -> u64 {
        self.all[&id].times
    }

    /// How often it could have.
    pub fn seen(&self, id: FaultId) -> u64 {
        self.all[&id].seen
    }

    pub fn heal(&mut self, id: FaultId) {
        if let Some(fault) = self.all.get_mut(&id) {
            fault.left = Some(0);
        }
    }

    /// Whether `act` on `path` fails now.
    pub fn strikes(&mut self, act: Act, path: &str) -> bool {
        let concerned = |fault: &&mut Fault| {
            fault.act == act && fault.left != Some(0) && path.contains(&fault.part)
        };
        let Some(fault) = self.all.values_mut().find(concerned) else { return false };
        fault.seen += 1;
        if fault.seen <= fault.spared {
            return false;
        }
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
        let third = faults.inject_after(2, Act::Read, "", Some(1));
        let struck: Vec<bool> = (0..4).map(|_| faults.strikes(Act::Read, "db")).collect();
        assert_eq!(struck, [false, false, true, false]);
        assert_eq!((faults.seen(third), faults.times(third)), (3, 1));
        let always = faults.inject(Act::Sync, "", None);
        assert!(faults.strikes(Act::Sync, "anything"));
        faults.heal(always);
        assert!(!faults.strikes(Act::Sync, "anything"));
        assert_eq!(faults.times(always), 1);
    }
}

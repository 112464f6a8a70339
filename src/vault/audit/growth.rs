//! Whether a chain may have grown since somebody looked.
//!
//! A commit says so with one plain store, whoever looks and however many do. Who looks
//! goes through all chains, which costs some nanoseconds for each, and reads only those
//! that grew.

use std::sync::atomic::{AtomicU8, Ordering};

/// Who looks. Each has seen or not seen, whatever the others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::vault) enum Looker {
    Checkpoints = 1,
    File = 2,
    Syslog = 4,
    Journal = 8,
}

pub(in crate::vault) struct Growth(AtomicU8);

impl Growth {
    /// Of a chain to which who stopped early may have left something.
    pub(in crate::vault) fn unseen() -> Self {
        Self(AtomicU8::new(u8::MAX))
    }

    /// Something was appended. Afterwards: whoever looks before finds nothing yet.
    pub(in crate::vault) fn note(&self) {
        self.0.store(u8::MAX, Ordering::Release);
    }

    /// Whether something may have been appended since this one asked last. Before they
    /// read the chain.
    pub(in crate::vault) fn take(&self, looker: Looker) -> bool {
        let bit = looker as u8;
        // Most chains did not grow: then the line of the cache stays with who writes it.
        self.0.load(Ordering::Acquire) & bit != 0
            && self.0.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_looks_sees_it_once() {
        let growth = Growth::unseen();
        let all = [Looker::Checkpoints, Looker::File, Looker::Syslog, Looker::Journal];
        for _ in 0..2 {
            for looker in all {
                assert!(growth.take(looker), "{looker:?}");
                assert!(!growth.take(looker), "{looker:?}");
            }
            growth.note();
        }
    }
}

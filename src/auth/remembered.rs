//! The tokens that were verified, by the hash of their text.
//!
//! Guaranteed here: what a caller finds was put there after its signatures were
//! checked; the memory is bounded; and of one family no more than [`PER_FAMILY`]
//! tokens are held, so that who has a good token cannot push out everybody else's
//! with variants of it. A look takes no lock that all workers share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Family;
use super::bounded::Bounded;
use super::principal::Principal;

/// How many tokens of one family are remembered: as many jobs at once, each with a
/// token that was narrowed for it, cost no signatures after their first request.
pub(super) const PER_FAMILY: usize = 64;

/// SHA-256 (FIPS 180-4) of a token's text. No token is held: who reads this memory
/// has nothing to present.
pub(super) type Digest = [u8; 32];

/// `J`: how it was judged, and may have to be again.
#[derive(Clone)]
pub(super) struct Known<J> {
    pub judged: J,
    pub principal: Arc<Principal>,
    weight: u64,
    /// Given up with the last copy of this.
    place: Arc<Place>,
}

pub(super) struct Remembered<J> {
    tokens: Bounded<Digest, Known<J>>,
    families: Arc<Families>,
}

impl<J: Clone> Remembered<J> {
    /// `capacity`: how many tokens of up to 512 bytes are remembered, each in some
    /// hundred bytes; a longer one counts once more for each 512 bytes.
    pub fn new(capacity: usize) -> Self {
        Self { tokens: Bounded::new(capacity), families: Arc::default() }
    }

    pub fn get(&self, digest: &Digest) -> Option<Known<J>> {
        self.tokens.get(digest)
    }

    /// `length`: of the token's text, in bytes. What a principal takes in memory
    /// follows it: without weights a holder who packs tokens with checks would
    /// have most of the memory.
    pub fn insert(&self, digest: Digest, judged: J, principal: &Arc<Principal>, length: usize) {
        let (place, oldest) = self.families.join(principal.family(), digest);
        if let Some(oldest) = oldest {
            self.tokens.remove(&oldest);
        }
        let (principal, place) = (Arc::clone(principal), Arc::new(place));
        let weight = 1 + length as u64 / 512;
        self.tokens.insert(digest, Known { judged, principal, weight, place }, weight);
    }

    /// The same token, judged once more.
    pub fn judge_again(&self, digest: Digest, known: &Known<J>, judged: J) {
        let Known { judged: _, principal, weight, place } = known.clone();
        self.tokens.insert(digest, Known { judged, principal, weight, place }, weight);
    }

    pub fn remove(&self, digest: &Digest) {
        self.tokens.remove(digest);
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// The remembered tokens of each family, oldest first. Every entry is one
/// of a token that is held, so that this is bounded with them.
#[derive(Default)]
struct Families(Mutex<State>);

#[derive(Default)]
struct State {
    members: HashMap<Family, VecDeque<(u64, Digest)>>,
    next: u64,
}

impl Families {
    /// A place for one more, and the token that gives way to it.
    fn join(self: &Arc<Self>, family: Family, digest: Digest) -> (Place, Option<Digest>) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let members = state.members.entry(family).or_default();
        let full = members.len() >= PER_FAMILY;
        let oldest = if full { members.pop_front() } else { None };
        members.push_back((number, digest));
        let place = Place { families: Arc::clone(self), family, number };
        // The same text that was verified twice at once does not give way to itself.
        (place, oldest.map(|(_, oldest)| oldest).filter(|oldest| *oldest != digest))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry among those of a family, for as long as this lives.
struct Place {
    families: Arc<Families>,
    family: Family,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.families.lock();
        if let Some(members) = state.members.get_mut(&self.family) {
            members.retain(|(number, _)| *number != self.number);
            if members.is_empty() {
                state.members.remove(&self.family);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(number: u8) -> Family {
        Family::from_bytes([number; 32])
    }

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn held(remembered: &Remembered<()>, numbers: std::ops::Range<usize>) -> usize {
        numbers.filter(|number| remembered.get(&digest(*number)).is_some()).count()
    }

    fn remember(remembered: &Remembered<()>, of: Family, number: usize) {
        remembered.insert(digest(number), (), &Arc::new(Principal::for_tests(of)), 500);
    }

    #[test]
    fn the_oldest_of_a_family_gives_way_and_no_other() {
        let remembered = Remembered::new(1_000);
        remember(&remembered, family(1), 1_000_000);
        for number in 0..500 {
            remember(&remembered, family(2), number);
            let first = (number + 1).saturating_sub(PER_FAMILY);
            assert_eq!(held(&remembered, 0..number + 1), number + 1 - first);
            assert_eq!(held(&remembered, first..number + 1), number + 1 - first);
        }
        assert!(remembered.get(&digest(1_000_000)).is_some());
        assert_eq!(remembered.len(), PER_FAMILY + 1);
    }

    #[test]
    fn the_same_text_again_is_one_entry() {
        let remembered = Remembered::new(1_000);
        for _ in 0..3 * PER_FAMILY {
            remember(&remembered, family(1), 7);
            assert!(remembered.get(&digest(7)).is_some());
        }
        remember(&remembered, family(1), 8);
        assert_eq!(held(&remembered, 7..9), 2);
    }

    #[test]
    fn what_is_counted_is_what_is_held() {
        let remembered = Remembered::new(100);
        for number in 0..10_000 {
            remember(&remembered, family((number % 200) as u8), number);
        }
        let members = |state: &State| state.members.values().map(VecDeque::len).sum::<usize>();
        let state = remembered.families.lock();
        assert_eq!(members(&state), remembered.len());
        assert!(state.members.len() <= 100);
        drop(state);
        let families = Arc::clone(&remembered.families);
        drop(remembered);
        assert!(families.lock().members.is_empty());
    }
}

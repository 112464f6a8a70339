//! Keys at one address for life.
//!
//! A value that moves leaves its bytes behind, on the stack or where a vector was
//! before it grew: what is boxed moves its address alone. And an address that stays
//! has a page that can be locked, so that no key is ever written to a swap device.
//!
//! A locked page stays locked when its key is gone: others may lie on it. The kernel
//! unlocks all when the process ends.

use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroizing;

/// Key material in a box, on a locked page where [`lock_keys`] asked for it.
///
/// It is wiped by what it holds, or when its memory is freed: the program's allocator
/// wipes what libraries do not.
pub struct Kept<T>(Box<T>);

/// The bytes of a key.
pub(super) type KeyBytes = Kept<Zeroizing<[u8; 32]>>;

impl<T> Kept<T> {
    pub fn new(key: T) -> Self {
        let key = Box::new(key);
        if ASKED.load(Ordering::Relaxed) && !lock_pages_of(&*key) {
            REFUSED.store(true, Ordering::Relaxed);
        }
        Self(key)
    }
}

impl KeyBytes {
    /// Written in place, so that no other variable ever held them.
    pub(super) fn filled(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut key = Self::new(Zeroizing::new([0; 32]));
        fill(&mut key);
        key
    }
}

impl From<Zeroizing<[u8; 32]>> for KeyBytes {
    /// Copies, and wipes what it was given.
    fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self::filled(|key| key.copy_from_slice(bytes.as_ref()))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

static ASKED: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicBool = AtomicBool::new(false);

/// From now on the page of every key that is made is locked, until the kernel refuses.
/// For a process that may not lock all of its memory.
pub fn lock_keys() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Whether every key that was made since [`lock_keys`] is on a locked page.
pub fn keys_are_locked() -> bool {
    ASKED.load(Ordering::Relaxed) && !REFUSED.load(Ordering::Relaxed)
}

fn lock_pages_of<T>(key: &T) -> bool {
    let address = ptr::from_ref(key).cast_mut().cast();
    #[expect(unsafe_code, reason = "no safe wrapper takes a part of the heap")]
    // SAFETY: mlock(2) neither reads nor writes what is there, and changes nothing that a
    // program can see of it but whether it may be swapped. The range is that of a live
    // reference; one that is not mapped would answer ENOMEM.
    let locked = unsafe { rustix::mm::mlock(address, size_of::<T>()) };
    locked.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this process, in KiB.
    fn locked_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn the_page_of_a_key_can_be_locked() {
        let before = locked_kib();
        // A box of its own page, which no test beside this one locks.
        let key = Box::new([7u8; 16 * 1024]);
        assert!(lock_pages_of(&*key));
        assert!(locked_kib() >= before + 16);
    }

    #[test]
    fn a_key_that_moves_stays_where_it_is() {
        let key = KeyBytes::filled(|key| *key = [9; 32]);
        let address = ptr::from_ref::<[u8; 32]>(&key);
        let moved = Box::new([key]);
        assert_eq!(ptr::from_ref::<[u8; 32]>(&moved[0]), address);
        assert_eq!(**moved[0], [9; 32]);
    }
}

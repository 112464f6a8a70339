//! Makes sled's belief about what is stable true.
//!
//! sled 0.34.7 calls `sync_file_range` and takes what it covered for durable.
//! That call syncs neither the size nor the extents of a file, nor the disk's
//! cache: under simulated power loss a fifth of the acknowledged writes was gone,
//! and because sled reuses a segment as soon as it believes the replacement
//! stable, a sync of ours afterwards does not save the rest. So this module
//! defines the symbol, ahead of libc's, and answers it with `fdatasync`: data, size
//! and extents are on the disk, its cache included, before sled hears that they
//! are. (With `ENOSYS` sled would fall back to an `fsync`, which also writes the
//! file's times.)
//!
//! Whether a definition wins over libc's is decided when a binary is linked, for
//! all callers at once, and cannot be seen in the source. So it is proved: by
//! [`probe`] for our own call, and by [`calls`] having moved after the first
//! flush of each database for sled's. It knows nothing of databases.

use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// In place of libc's.
#[expect(
    unsafe_code,
    reason = "the symbol must be libc's, with its signature (sync_file_range(2)); nobody else in \
              this program wants the real one: it never promises durability"
)]
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(
    file: libc::c_int,
    _offset: libc::off64_t,
    _bytes: libc::off64_t,
    _flags: libc::c_uint,
) -> libc::c_int {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: no pointers, and a descriptor that is none answers EBADF. The answer
    // and errno are what the caller expects of its own call: 0, or -1 and why.
    unsafe { libc::fdatasync(file) }
}

/// How often the definition above was called in this process.
pub(super) fn calls() -> u64 {
    CALLS.load(Ordering::SeqCst)
}

/// Whether a call by libc's name reaches the definition above.
pub(super) fn probe() -> bool {
    // Naming it makes the linker take this object file before it looks in libc.
    std::hint::black_box(sync_file_range as *const ());
    let before = calls();
    #[expect(unsafe_code, reason = "the call sled makes, by the same name")]
    // SAFETY: no pointers; -1 is no file's descriptor.
    let answer = unsafe { libc::sync_file_range(-1, 0, 0, 0) };
    answer == -1 && calls() > before
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_symbol_of_libc_is_ours() {
        assert!(super::probe());
    }
}

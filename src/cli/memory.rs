//! Keeps what this process holds from being written to a swap device.

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::failure::CliError;
use crate::config::MemoryLock;
use crate::crypto;

/// What came of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    Everything,
    /// The pages that keys lie on, as far as the limit goes.
    Keys,
    Nothing,
}

/// Before there is a key to be locked.
///
/// All memory is locked as it is used, not as it is asked for: a thread's stack or a cache
/// that is not filled yet takes none.
pub(super) fn lock(wish: MemoryLock) -> Result<Locking, CliError> {
    if wish == MemoryLock::Off {
        return Ok(Locking::Nothing);
    }
    match lock_everything() {
        Ok(()) => Ok(Locking::Everything),
        Err(why) if wish == MemoryLock::Required => Err(CliError::unavailable(format!(
            "memory.lock is \"required\" and memory cannot be locked: {why}; set \
             LimitMEMLOCK=infinity in the unit ('ulimit -l unlimited'), or memory.lock = \"auto\""
        ))),
        Err(why) => {
            log::debug!("not all memory is locked: {why}");
            crypto::lock_keys();
            Ok(Locking::Keys)
        }
    }
}

impl Locking {
    /// Says it, once the keys are there.
    pub(super) fn report(self) {
        match self {
            Self::Everything => log::info!("memory is locked: nothing is swapped"),
            Self::Keys if crypto::keys_are_locked() => log::info!(
                "keys are locked, values may be swapped: LimitMEMLOCK=infinity in the unit locks all"
            ),
            Self::Keys => log::warn!(
                "keys may be swapped: the limit of locked memory is too low for them; set \
                 LimitMEMLOCK=infinity in the unit ('ulimit -l unlimited'), or use no swap"
            ),
            Self::Nothing => {
                log::info!("keys and values may be swapped, as memory.lock is \"off\"");
            }
        }
    }
}

/// Where a limit is set, all memory is better left alone: what was asked for beyond the
/// limit, at whatever moment, would not be given.
fn lock_everything() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    let exempt =
        capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::IPC_LOCK));
    match limit {
        Some(bytes) if !exempt => return Err(format!("the limit is {} KiB", bytes / 1024)),
        _ => {}
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).map_err(|error: Errno| error.to_string())
}

//! What a server gives up before it serves.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// To keep memory out of swap, and to read a certificate's key again that is another
/// user's.
const KEPT: CapabilitySet = CapabilitySet::IPC_LOCK.union(CapabilitySet::DAC_READ_SEARCH);

/// No program that is started from here gets more rights than this one has, and this one
/// keeps of root's what it needs. Called before there is another thread: each has its own.
pub(super) fn give_up() {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        log::warn!("programs that are started may gain privileges: {error}");
    }
    match capabilities(None) {
        Ok(CapabilitySets { permitted, .. }) if KEPT.contains(permitted) => {}
        Ok(sets) => keep_few(sets),
        Err(error) => log::warn!("which capabilities it has is not known: {error}"),
    }
    if rustix::process::geteuid().is_root() {
        log::warn!(
            "it runs as root; a user of its own, that owns the data folder, is safer (User= in \
             a unit)"
        );
    }
}

fn keep_few(sets: CapabilitySets) {
    let CapabilitySets { effective, permitted, inheritable } = sets;
    let kept = CapabilitySets {
        effective: effective & KEPT,
        permitted: permitted & KEPT,
        inheritable: inheritable & KEPT,
    };
    if let Err(error) = set_capabilities(None, kept) {
        log::warn!("capabilities that are not needed could not be given up: {error}");
    }
}

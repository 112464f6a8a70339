//! What every request can reach.

use std::sync::{Arc, OnceLock};

use crate::vault::Vault;

use super::sign_in::SignIn;

/// A server's view of the vault: not there yet, then there for good. Clones share
/// it.
#[derive(Clone, Default)]
pub struct AppState {
    vault: Arc<OnceLock<Arc<Vault>>>,
    sign_in: Arc<SignIn>,
}

impl AppState {
    /// The vault is still being opened: all but `/healthz` is 503 `starting`.
    pub fn starting() -> Self {
        Self::default()
    }

    pub fn ready(vault: Arc<Vault>) -> Self {
        let state = Self::starting();
        state.set_ready(vault);
        state
    }

    /// Begins to serve. The first vault stays; a second is ignored.
    pub fn set_ready(&self, vault: Arc<Vault>) {
        // An error hands the second vault back, which is dropped.
        let _ = self.vault.set(vault);
    }

    pub(super) fn vault(&self) -> Option<&Arc<Vault>> {
        self.vault.get()
    }

    /// How people sign in at the documentation.
    pub(super) fn sign_in(&self) -> &Arc<SignIn> {
        &self.sign_in
    }
}

//! What every request can reach.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::vault::{SealedVault, Vault};

use super::sign_in::SignIn;

/// A server's view of the vault, which comes and goes. Clones share it.
#[derive(Clone)]
pub struct AppState {
    /// Every request looks at it. A look writes to nothing that other workers read,
    /// and holds what it saw until it is dropped.
    phase: Arc<ArcSwap<Phase>>,
    /// Tells those who wait for a change that there was one.
    changes: watch::Sender<()>,
    sign_in: Arc<SignIn>,
}

#[derive(Clone)]
pub(super) enum Phase {
    /// The store is being opened: all but `/healthz` is 503 `starting`.
    Starting,
    Open(Arc<Vault>),
    /// What is under way is being finished; nothing new is begun.
    Sealing,
    /// All but `/healthz` is 503 `sealed`.
    Sealed(Arc<SealedVault>),
}

impl AppState {
    pub fn starting() -> Self {
        Self {
            phase: Arc::new(ArcSwap::from_pointee(Phase::Starting)),
            changes: watch::Sender::new(()),
            sign_in: Arc::default(),
        }
    }

    pub fn ready(vault: Arc<Vault>) -> Self {
        let state = Self::starting();
        state.set_ready(vault);
        state
    }

    /// Begins to serve.
    pub fn set_ready(&self, vault: Arc<Vault>) {
        self.set(Phase::Open(vault));
    }

    /// Lets go of the vault. Requests under way hold it until they end.
    pub fn set_sealing(&self) {
        self.set(Phase::Sealing);
    }

    pub fn set_sealed(&self, vault: Arc<SealedVault>) {
        self.set(Phase::Sealed(vault));
    }

    fn set(&self, phase: Phase) {
        self.phase.store(Arc::new(phase));
        self.changes.send_replace(());
    }

    pub(super) fn phase(&self) -> Guard<Arc<Phase>> {
        self.phase.load()
    }

    /// Hears of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// How people sign in at the documentation.
    pub(super) fn sign_in(&self) -> &Arc<SignIn> {
        &self.sign_in
    }
}

//! Whether a server lives: more than that its process is there.

use std::sync::Arc;
use std::time::Duration;

use super::pulse::Pulse;
use super::state::{AppState, Phase};

pub struct Vitals {
    pulse: Arc<Pulse>,
    state: AppState,
}

impl Vitals {
    pub(super) fn new(pulse: Arc<Pulse>, state: AppState) -> Self {
        Self { pulse, state }
    }

    /// For how long a worker has taken up nothing, or a writer has been at one piece of
    /// work; of these the longest.
    pub fn silent_for(&self) -> Duration {
        let writing = match &**self.state.phase() {
            Phase::Open(vault) => vault.at_work_for(),
            Phase::Starting | Phase::Sealing | Phase::Sealed(_) => Duration::ZERO,
        };
        self.pulse.silent_for().max(writing)
    }
}

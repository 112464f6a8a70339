//! What an operator asks of a vault.

use crate::api::admin::{Command, Failure, Reply};

use super::Vault;

/// Carries out one command.
pub async fn execute(vault: &Vault, command: Command) -> Result<Reply, Failure> {
    let _ = (vault, command);
    todo!()
}

//! What a token was narrowed to.

use crate::domain::{Now, Operation, SecretName};

/// The checks of a token's appended blocks.
#[derive(Debug, Default)]
pub struct Caveats {}

impl Caveats {
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    pub fn allow(&self, operation: Operation, name: &SecretName, now: Now) -> bool {
        let _ = (operation, name, now);
        todo!()
    }
}

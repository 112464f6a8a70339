//! What lies behind an error.

use std::error::Error;

/// The deepest cause, in its own words. What a library says on top of it is often little
/// more than that it failed.
pub fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

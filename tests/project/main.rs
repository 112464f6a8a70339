//! Rules about the project rather than about what it does: which layer imports
//! which, what is depended on, and that the documents point at what exists.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]

mod commands;
mod dependencies;
mod docs;
mod layering;

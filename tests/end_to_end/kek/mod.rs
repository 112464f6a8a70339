//! Where the KEK comes from, and how it is replaced: with the real programs, at a real
//! terminal, broken off at any moment.

pub mod bench;
mod failures;
mod replacing;
mod sources;

//! The shapes that travel: HTTP bodies, problems, and the maintenance commands
//! that the command line sends. They know nothing of how a request is served,
//! so that a client can be built from them.

pub mod admin;
pub mod api_key;
pub mod audit;
pub mod audit_export;
pub mod batch;
mod fields;
pub mod json;
pub mod problem;
pub mod secret;

//! Promises to users, held against the real program: real processes on free
//! ports, with real data folders.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what it did, and with which seed"
)]

mod api;
mod api_keys;
mod audit;
mod audit_archive;
mod audit_copies;
mod audit_load;
mod audit_proof;
mod backup;
mod batches;
mod browser;
mod cli;
mod compaction;
mod credentials;
mod daily;
mod damage;
mod dek;
mod dev;
mod disk_full;
mod durability;
mod frozen;
mod history;
mod hostile;
mod independent;
mod input;
mod install;
mod io_errors;
mod kek;
mod limits;
mod lists;
mod load;
mod logs;
mod matrix;
mod memory;
mod metrics;
mod narrowing;
mod notices;
mod oidc;
mod operations;
mod packages;
mod power_loss;
mod recording;
mod revocation;
mod sealing;
mod service;
mod shredding;
mod static_program;
mod support;
mod tenant_limits;
mod time;
mod tls;
mod windows;

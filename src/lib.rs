//! Tenure: a self-hosted, multi-tenant secret store with validity windows that
//! are enforced.
//!
//! Imports point down: `domain -> { api, crypto, store, outward } -> auth -> vault ->
//! { http, config, client } -> cli -> main`, with `measure` below them all
//! (docs/ARCHITECTURE.md; tests/project/layering.rs holds it).

pub mod api;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod http;
pub mod measure;
pub mod outward;
pub mod store;
pub mod vault;

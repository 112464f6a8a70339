//! Answers about the server itself, open to everyone who can reach it: they name
//! no tenant, no path and no reason that an attacker could use.

use std::time::Duration;

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::{Code, Problem};
use crate::auth::PublicRoot;
use crate::vault::Vault;

use super::problem::Refused;

#[derive(Serialize, ToSchema)]
pub(super) struct State {
    #[schema(example = "up")]
    status: &'static str,
}

/// A key by which anyone can verify a token, or append a block to it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BiscuitKey {
    /// What tokens carry as `root_key_id`.
    id: u32,
    #[schema(example = "Ed25519")]
    algorithm: &'static str,
    /// 32 bytes, hexadecimal.
    public_key: String,
}

impl From<&PublicRoot> for BiscuitKey {
    fn from(PublicRoot { id, public_key, until: _ }: &PublicRoot) -> Self {
        Self { id: *id, algorithm: "Ed25519", public_key: hex::encode(public_key) }
    }
}

/// Is the process up
///
/// Answered from the first moment on, while the store is still being opened.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "system",
    operation_id = "health",
    responses((status = 200, description = "It is", body = State)),
)]
pub(super) fn health() -> HttpResponse {
    HttpResponse::Ok().json(State { status: "up" })
}

/// When to ask again whether secrets can be written.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// Can the server do its work
///
/// The store is open, unsealed and takes writes.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "system",
    operation_id = "readiness",
    responses(
        (status = 200, description = "It can", body = State),
        (status = 503, description = "`starting`, `sealed`, `not_writable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) fn readiness(vault: &Vault) -> Result<HttpResponse, Refused> {
    let readiness = vault.readiness();
    if !readiness.writable {
        // Why, is told by `tenure status`: it may name paths.
        return Err(Refused::new(
            Code::NotWritable,
            "Secrets are read, but not written. `tenure status` on the server says why.",
        )
        .retry_after(PROBE_AGAIN));
    }
    Ok(HttpResponse::Ok().json(State { status: "ready" }))
}

/// The public halves of the token roots
#[utoipa::path(
    get,
    path = "/.well-known/biscuit-keys",
    tag = "system",
    operation_id = "biscuitKeys",
    responses(
        (status = 200, description = "Every root that tokens are accepted from", body = Vec<BiscuitKey>),
        (status = 503, description = "`starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) fn biscuit_keys(vault: &Vault) -> HttpResponse {
    let keys: Vec<_> = vault.public_roots().iter().map(BiscuitKey::from).collect();
    HttpResponse::Ok().json(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_shown_as_biscuit_libraries_take_it() {
        let key = BiscuitKey::from(&PublicRoot { id: 1, public_key: [0xab; 32], until: None });
        let expected =
            format!(r#"[{{"id":1,"algorithm":"Ed25519","publicKey":"{}"}}]"#, "ab".repeat(32));
        assert_eq!(serde_json::to_string(&[key]).unwrap(), expected);
    }
}

//! What happens to every request: its route, its rights, its handler, and the
//! headers of its answer.
//!
//! It stands in one function rather than in actix's routes and middleware because
//! order is the point: credential, names, permit, body, vault. And because each
//! layer of middleware costs an allocation and a virtual call per request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::header::{self, HeaderValue};
use actix_web::{App, Error, HttpRequest, HttpResponse};
use futures_util::FutureExt;

use crate::auth::Principal;
use crate::domain::{Network, Now};
use crate::vault::Vault;

use super::body::Bounds;
use super::client_address;
use super::problem::{self, Refused};
use super::routes::{self, Captures, Endpoint, Found, Route};
use super::secrets::{self, Call};
use super::state::AppState;
use super::{credential, openapi, path, request_id, system};

/// What all requests of a server share.
pub(super) struct Shared {
    pub state: AppState,
    pub body_timeout: std::time::Duration,
    pub trusted_proxies: Vec<Network>,
}

/// The application of one worker. It has no routes of actix: every request is the
/// default service's.
pub(super) fn app(
    shared: Arc<Shared>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new().default_service(fn_service(move |request: ServiceRequest| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Error>(answer(&shared, request).await) }
    }))
}

async fn answer(shared: &Shared, request: ServiceRequest) -> ServiceResponse<BoxBody> {
    let (request, mut payload) = request.into_parts();
    let id = request_id::of(request.headers());
    // Across a panic nothing is shared but the vault, whose locks recover by
    // themselves or stay poisoned and fail the next request likewise.
    let outcome = AssertUnwindSafe(served(shared, &request, &mut payload)).catch_unwind().await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => {
            note(shared, &request, &id, &refused);
            refused.into_response(request.uri().path())
        }
        Err(_) => {
            let route = template(&request);
            log::error!("request {}: the handler of {route} panicked", problem::printable(&id));
            problem::internal().into_response(request.uri().path())
        }
    };
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, id);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    ServiceResponse::new(request, response)
}

/// A path holds names; the template in the log does not.
fn template(request: &HttpRequest) -> &'static str {
    match routes::find(request.method(), request.uri().path()) {
        Found::Route(route, _) => route.template,
        Found::OtherMethods(_) | Found::Nothing => "(no route)",
    }
}

fn note(shared: &Shared, request: &HttpRequest, id: &HeaderValue, refused: &Refused) {
    refused.log(id, request.method().as_str(), template(request));
    if log::log_enabled!(log::Level::Debug) {
        let peer = request.peer_addr().map(|peer| peer.ip());
        let client = client_address::of(peer, request.headers(), &shared.trusted_proxies)
            .map_or_else(|| "?".to_owned(), |address| address.to_string());
        let (id, code) = (problem::printable(id), refused.code().as_str());
        log::debug!("request {id} from {client}: {} {code}", template(request));
    }
}

async fn served(
    shared: &Shared,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<HttpResponse, Refused> {
    let (route, captures) = match routes::find(request.method(), request.uri().path()) {
        Found::Route(route, captures) => (route, captures),
        Found::OtherMethods(allow) => return Err(openapi::method_not_allowed(&allow)),
        Found::Nothing => return Err(openapi::unknown()),
    };
    if route.endpoint == Endpoint::Health {
        return Ok(system::health());
    }
    let vault = shared.state.vault().ok_or_else(problem::starting)?;
    match route.endpoint {
        Endpoint::Health => Ok(system::health()),
        Endpoint::Readiness => system::readiness(vault),
        Endpoint::BiscuitKeys => Ok(system::biscuit_keys(vault)),
        Endpoint::OpenApi => Ok(openapi::serve_document()),
        Endpoint::DocsRoot => Ok(openapi::redirect_to_docs()),
        Endpoint::Docs => openapi::serve_docs(captures.tail),
        Endpoint::ReadSecret
        | Endpoint::WriteSecret
        | Endpoint::DeleteSecret
        | Endpoint::ListSecrets => {
            let bounds =
                Bounds { max_value_bytes: vault.max_value_bytes(), timeout: shared.body_timeout };
            tenant_route(vault, route, captures, request, payload, bounds).await
        }
    }
}

/// Credential first, so that a stranger learns nothing, not even which names are
/// well-formed; then the names; then the permit, without which no handler runs.
async fn tenant_route(
    vault: &Arc<Vault>,
    route: &Route,
    captures: Captures<'_>,
    request: &HttpRequest,
    payload: &mut Payload,
    bounds: Bounds,
) -> Result<HttpResponse, Refused> {
    let now = vault.now();
    let principal = authenticated(vault, request, now)?;
    let call = Call { vault, headers: request.headers(), now };
    if route.endpoint == Endpoint::ListSecrets {
        let tenant = path::tenant(captures.segment)?;
        return secrets::list(&call, principal.may_list(&tenant, now)?).await;
    }
    let (tenant, name) = path::secret(captures.segment, captures.tail)?;
    match route.endpoint {
        Endpoint::ReadSecret => secrets::read(&call, principal.may_read(&tenant, name, now)?).await,
        Endpoint::WriteSecret => {
            secrets::write(&call, principal.may_write(&tenant, name, now)?, payload, bounds).await
        }
        Endpoint::DeleteSecret => {
            secrets::delete(&call, principal.may_write(&tenant, name, now)?).await
        }
        _ => Err(openapi::unknown()),
    }
}

fn authenticated(
    vault: &Arc<Vault>,
    request: &HttpRequest,
    now: Now,
) -> Result<Arc<Principal>, Refused> {
    let token = credential::bearer(request.headers())?;
    Ok(vault.authenticate(token, now)?)
}

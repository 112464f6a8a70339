//! What happens to every request: its route, its rights, its handler, and the
//! headers of its answer.
//!
//! It stands in one function rather than in actix's routes and middleware because
//! order is the point: credential, names, permit, body, vault. And because each
//! layer of middleware costs an allocation and a virtual call per request.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{ConnectionType, Uri};
use actix_web::{App, Error, HttpRequest, HttpResponse};
use arc_swap::ArcSwap;
use futures_util::FutureExt;

use crate::auth::{ManagePermit, Origin, Principal};
use crate::domain::{Now, Source, TenantName};
use crate::measure;
use crate::vault::Vault;

use super::body::{Bounds, Holds};
use super::client_address;
use super::credential::Sent;
use super::idle::Busy;
use super::live::Live;
use super::meter::{RequestLog, Seen};
use super::metrics::{self, MetricsRoute};
use super::problem::{self, Refused};
use super::record::{self, Asking};
use super::routes::{self, ApiKeyCall, Captures, Endpoint, Found, SecretCall};
use super::secrets::{self, Call};
use super::state::{AppState, Phase};
use super::{api_keys, credential, openapi, path, request_id, system};

/// What all requests of a server share.
pub(super) struct Shared {
    pub state: AppState,
    pub live: ArcSwap<Live>,
    pub request_log: RequestLog,
    pub metrics: MetricsRoute,
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
    let busy = Busy::during(&request);
    let id = request_id::of(request.headers());
    let seen = Seen::now();
    // What outlives a panic is the vault alone, and nothing of it is borrowed
    // mutably here: its own locks say what a panic left behind.
    let client = client(shared, &request);
    let asked = Asked { request: &request, id: &id, seen: &seen, client };
    let outcome = AssertUnwindSafe(served(shared, asked, &mut payload)).catch_unwind().await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => {
            note(asked, &refused);
            refused.into_response(request.uri().path())
        }
        Err(_) => {
            let route = template(&request);
            log::error!("request {}: the handler of {route} panicked", problem::printable(&id));
            problem::internal().into_response(request.uri().path())
        }
    };
    seen.answered(response.status(), &id, shared.request_log);
    if busy.is_last() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, id);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    drop(busy);
    ServiceResponse::new(emptied(request, payload), response)
}

/// actix keeps the requests that are done for those to come, 128 of each worker. What
/// they say is slices of what the connection read: the credential, and the body behind it.
fn emptied(request: HttpRequest, payload: Payload) -> HttpRequest {
    let mut request = ServiceRequest::from_parts(request, payload);
    let nothing = Uri::default();
    request.match_info_mut().get_mut().update(&nothing);
    let head = request.head_mut();
    head.headers.clear();
    head.uri = nothing;
    request.into_parts().0
}

/// A path holds names; the template in the log does not.
fn template(request: &HttpRequest) -> &'static str {
    match routes::find(request.method(), request.uri().path()) {
        Found::Route(route, _) => route.template,
        Found::OtherMethods(_) | Found::Nothing => "(no route)",
    }
}

fn note(Asked { request, id, seen: _, client }: Asked<'_>, refused: &Refused) {
    refused.log(id, request.method().as_str(), template(request));
    if log::log_enabled!(log::Level::Debug) {
        let client = client.map_or_else(|| "?".to_owned(), |address| address.to_string());
        let (id, code) = (problem::printable(id), refused.code().as_str());
        log::debug!("request {id} from {client}: {} {code}", template(request));
    }
}

/// A request, by what it is known, and what is seen of it.
#[derive(Clone, Copy)]
struct Asked<'r> {
    request: &'r HttpRequest,
    id: &'r HeaderValue,
    seen: &'r Seen,
    client: Option<IpAddr>,
}

async fn served(
    shared: &Shared,
    asked: Asked<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Refused> {
    let Asked { request, id: _, seen, client: _ } = asked;
    let (route, captures) = match routes::find(request.method(), request.uri().path()) {
        _ if is_absent(shared, request) => return Err(openapi::unknown()),
        Found::Route(route, captures) => (route, captures),
        Found::OtherMethods(allow) => return Err(openapi::method_not_allowed(&allow)),
        Found::Nothing => return Err(openapi::unknown()),
    };
    seen.route(route);
    match (route.endpoint, &**shared.state.phase()) {
        (Endpoint::Health, _) => Ok(system::health()),
        (_, Phase::Starting) => Err(problem::starting()),
        (_, Phase::Sealing | Phase::Sealed(_)) => Err(problem::sealed()),
        (Endpoint::Readiness, Phase::Open(vault)) => system::readiness(vault),
        (Endpoint::BiscuitKeys, Phase::Open(vault)) => Ok(system::biscuit_keys(vault)),
        (Endpoint::Metrics, Phase::Open(vault)) => metrics_call(shared, vault, asked).await,
        (Endpoint::OpenApi, _) => Ok(openapi::serve_document(&shared.state.sign_in().docs())),
        (Endpoint::DocsRoot, _) => Ok(openapi::redirect_to_docs()),
        (Endpoint::Docs, _) => {
            let docs = shared.state.sign_in().docs();
            openapi::serve_docs(captures.tail, request.headers(), &docs)
        }
        (Endpoint::Secret(call), Phase::Open(vault)) => {
            secret_call(shared, vault, call, captures, asked, payload).await
        }
        (Endpoint::ApiKeys(call), Phase::Open(vault)) => {
            api_key_call(shared, vault, call, captures, asked, payload).await
        }
    }
}

/// Whether it asks for metrics where they are not to be: then it finds what any path finds
/// that nothing is at.
fn is_absent(shared: &Shared, request: &HttpRequest) -> bool {
    shared.metrics == MetricsRoute::Absent && request.uri().path() == metrics::PATH
}

/// Credential first, so that a stranger learns nothing, not even which names are
/// well-formed; then the names; then the permit, without which no handler runs. (Where
/// the names are in the body, it is asked about them when that was read.)
async fn secret_call(
    shared: &Shared,
    vault: &Arc<Vault>,
    call: SecretCall,
    captures: Captures<'_>,
    asked: Asked<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Refused> {
    let now = vault.now();
    let principal = authenticated(vault, asked, now)?;
    let request = asked.request;
    let names = || path::secret(captures.segment, captures.tail);
    let context = Call { vault, headers: request.headers(), now };
    let outcome = async {
        match call {
            SecretCall::Read => {
                let (tenant, name) = names()?;
                secrets::read(&context, principal.may_read(&tenant, name, now)?).await
            }
            SecretCall::Write => {
                let (tenant, name) = names()?;
                let permit = principal.may_write(&tenant, name, now)?.requested_by(origin(asked));
                let holds = Holds::Value { max_bytes: vault.max_value_bytes() };
                let bounds = Bounds { holds, timeout: shared.live.load().body_timeout };
                secrets::write(&context, permit, payload, bounds).await
            }
            SecretCall::WriteAll => {
                let tenant = path::tenant(captures.segment)?;
                let permit = principal.may_write_some(&tenant, now)?.requested_by(origin(asked));
                let bounds =
                    Bounds { holds: Holds::Values, timeout: shared.live.load().body_timeout };
                secrets::write_all(&context, permit, payload, bounds).await
            }
            SecretCall::Delete => {
                let (tenant, name) = names()?;
                let permit = principal.may_write(&tenant, name, now)?.requested_by(origin(asked));
                secrets::delete(&context, permit).await
            }
            SecretCall::List => {
                let tenant = path::tenant(captures.segment)?;
                let permit = principal.may_list(&tenant, now)?;
                secrets::list(&context, permit, request).await
            }
        }
    };
    let outcome = outcome.await;
    let origin = || origin(asked);
    let asking = Asking { vault, principal: &principal, now, captures, origin };
    asking.answered_with(call, outcome).await
}

/// In the same order.
async fn api_key_call(
    shared: &Shared,
    vault: &Arc<Vault>,
    call: ApiKeyCall,
    captures: Captures<'_>,
    asked: Asked<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Refused> {
    let now = vault.now();
    let principal = authenticated(vault, asked, now)?;
    let request = asked.request;
    let permitted = |tenant: &TenantName| -> Result<ManagePermit, Refused> {
        let permit = principal.may_manage_credentials(tenant, now);
        let permit = permit.map_err(|_| problem::no_administrator())?;
        Ok(permit.requested_by(origin(asked)))
    };
    let outcome = async {
        match call {
            ApiKeyCall::Create => {
                let permit = permitted(&path::tenant(captures.segment)?)?;
                let bounds =
                    Bounds { holds: Holds::Properties, timeout: shared.live.load().body_timeout };
                api_keys::create(vault, &permit, request.headers(), payload, bounds).await
            }
            ApiKeyCall::List => {
                let permit = permitted(&path::tenant(captures.segment)?)?;
                api_keys::list(vault, &permit, request)
            }
            ApiKeyCall::Show => {
                let (tenant, id) = path::api_key(captures.segment, captures.tail)?;
                api_keys::show(vault, &permitted(&tenant)?, id)
            }
            ApiKeyCall::Revoke => {
                let (tenant, id) = path::api_key(captures.segment, captures.tail)?;
                api_keys::revoke(vault, &permitted(&tenant)?, id).await
            }
        }
    };
    let outcome = outcome.await;
    let origin = || origin(asked);
    let asking = Asking { vault, principal: &principal, now, captures, origin };
    asking.answered_of_keys(call, outcome).await
}

/// Who is turned away is counted for the audit.
fn authenticated(
    vault: &Arc<Vault>,
    asked: Asked<'_>,
    now: Now,
) -> Result<Arc<Principal>, Refused> {
    admitted(vault, asked, now).inspect_err(|refused| {
        record::turned_away(vault, asked.client, refused, asked.seen.refusal(), now);
    })
}

/// In the same order; there are no names.
async fn metrics_call(
    shared: &Shared,
    vault: &Arc<Vault>,
    asked: Asked<'_>,
) -> Result<HttpResponse, Refused> {
    let now = vault.now();
    let permit = authenticated(vault, asked, now)?.may_see_server(now)?;
    metrics::scrape(permit, shared.state.clone()).await
}

/// Who asks too often is told before the credential is looked at, or at the latest
/// before it is used for anything.
fn admitted(
    vault: &Arc<Vault>,
    Asked { request, id: _, seen, client }: Asked<'_>,
    now: Now,
) -> Result<Arc<Principal>, Refused> {
    let source = client.map_or(Source::UNKNOWN, Source::of);
    vault.limits().request_of(source)?;
    let sent = credential::sent(request.headers())?;
    seen.credential(sent);
    let judged = match sent {
        Sent::Bearer(token) => vault.authenticate_from(token, source, now),
        Sent::ApiKey(key) => vault.authenticate_api_key_from(key, source, now),
    };
    // Who sets an issuer up must be told; a client learns no more than that it is refused.
    let principal = judged.inspect_err(|refusal| {
        seen.refused(refusal.word());
        measure::refused(refusal.word());
        log::debug!("a credential was refused: {refusal}");
    })?;
    vault.limits().request_with(principal.family())?;
    if let Some(tenant) = principal.tenant_id() {
        vault.tenant_may_ask(tenant)?;
    }
    Ok(principal)
}

fn client(shared: &Shared, request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr().map(|peer| peer.ip());
    client_address::of(peer, request.headers(), &shared.live.load().trusted_proxies)
}

/// For the audit. An id is plain text, or it would have been replaced.
fn origin(Asked { request: _, id, seen: _, client }: Asked<'_>) -> Origin {
    Origin { request: id.to_str().ok().map(Into::into), address: client }
}

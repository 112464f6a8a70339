//! The calls on a tenant's API keys, each by proof that its caller may manage them.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use zeroize::Zeroizing;

use crate::api::api_key::{ApiKeyView, CreatedApiKey, PostApiKey, PostApiKeyBody};
use crate::api::problem::{FieldErrors, Problem};
use crate::api::secret::BadBody;
use crate::auth::{ApiKeyId, ManagePermit, Subject};
use crate::vault::Vault;
use crate::vault::credentials::{ListedApiKey, MadeApiKey, NewApiKey};

use super::body::{self, Bounds};
use super::listing::{Parameters, page_size};
use super::problem::{self, Refused};

type Answer = Result<HttpResponse, Refused>;

/// Create an API key
///
/// The key is in the answer and nowhere else: it cannot be shown again. It has at most
/// the scopes of its creator, and manages no other keys. To rotate one, create the
/// next before the old one is revoked.
#[utoipa::path(
    post,
    path = "/api/{tenantId}/api-keys",
    tag = "API keys",
    operation_id = "createApiKey",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
    ),
    request_body(content = PostApiKeyBody, content_type = "application/json"),
    responses(
        (status = 201, description = "The key, once", body = CreatedApiKey, headers(
            ("Location" = String, description = "Where the key is described, relative to this address"),
        )),
        (status = 400, description = "`invalid_name`, `malformed_json`, `validation_failed`, `ambiguous_credential`, `incomplete_body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid, expired or revoked one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body_timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`too_many_api_keys`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`unavailable`, `outcome_unknown`, `full`, `starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn create(
    vault: &Arc<Vault>,
    permit: &ManagePermit,
    headers: &HeaderMap,
    payload: &mut Payload,
    bounds: Bounds,
) -> Answer {
    let body = body::json(headers, payload, bounds).await?;
    let PostApiKey { scopes, expires_on, name } = PostApiKey::parse(&body)?;
    drop(body);
    let name = name.map(|name| Subject::parse(&name)).transpose().map_err(|error| {
        let errors = FieldErrors::from([("name".to_owned(), vec![error.to_string().into()])]);
        Refused::from(BadBody::Invalid(errors))
    })?;
    let scopes = permit.hand_on(scopes)?;
    let made = vault.create_api_key(permit, NewApiKey { scopes, name, expires_on }).await?;
    let MadeApiKey { key, text } = made;
    let location = HeaderValue::try_from(format!("api-keys/{}", key.id));
    let view = view(&ListedApiKey { key, last_used: None });
    // With room for every name in escapes: a buffer that grows leaves its bytes behind.
    let mut json = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer(&mut *json, &CreatedApiKey { key: &text, view })
        .map_err(|_| problem::internal())?;
    let mut response = HttpResponse::Created();
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    if let Ok(location) = location {
        response.insert_header((header::LOCATION, location));
    }
    Ok(response.body(Bytes::from_owner(json)))
}

/// List API keys
///
/// Without their secrets, in the order of their ids. Without `limit` all of them; with
/// it a page, whose `Link` leads to the next one.
#[utoipa::path(
    get,
    path = "/api/{tenantId}/api-keys",
    tag = "API keys",
    operation_id = "listApiKeys",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("after" = Option<String>, Query, description = "Only keys whose id sorts after this one, which need not exist", pattern = "^[0-9a-f]{16}$"),
        ("limit" = Option<u16>, Query, description = "At most this many", minimum = 1, maximum = 10_000),
    ),
    responses(
        (status = 200, description = "The keys", body = Vec<ApiKeyView>, headers(
            ("Link" = String, description = "`<?…>; rel=\"next\"`, relative to this address: the next page. Absent where no keys remain, and without `limit`"),
        )),
        (status = 400, description = "`invalid_name`, `validation_failed`, `ambiguous_credential`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid, expired or revoked one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`starting`, `sealed`, `audit_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(super) fn list(vault: &Vault, permit: &ManagePermit, request: &HttpRequest) -> Answer {
    let mut parameters = Parameters::read(request.uri().query().unwrap_or_default());
    let parse = |text: &str| ApiKeyId::parse(text).map_err(|error| error.to_string());
    let after = parameters.take("after", parse);
    let limit = parameters.take("limit", page_size);
    parameters.end("after and limit")?;
    let mut keys = vault.api_keys(permit);
    keys.retain(|listed| after.is_none_or(|after| listed.key.id > after));
    let count = limit.map_or(keys.len(), |limit| usize::from(limit.get()));
    let more = keys.len() > count;
    keys.truncate(count);
    let mut response = HttpResponse::Ok();
    if let (true, Some(last)) = (more, keys.last()) {
        let link = format!("<?after={}&limit={count}>; rel=\"next\"", last.key.id);
        response.insert_header((header::LINK, link));
    }
    Ok(response.json(keys.iter().map(view).collect::<Vec<_>>()))
}

/// Describe an API key
#[utoipa::path(
    get,
    path = "/api/{tenantId}/api-keys/{id}",
    tag = "API keys",
    operation_id = "showApiKey",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("id" = String, Path, description = "16 hexadecimal digits", pattern = "^[0-9a-f]{16}$"),
    ),
    responses(
        (status = 200, description = "The key, without its secret", body = ApiKeyView),
        (status = 400, description = "`invalid_name`, `ambiguous_credential`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid, expired or revoked one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`api_key_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`starting`, `sealed`, `audit_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(super) fn show(vault: &Vault, permit: &ManagePermit, id: ApiKeyId) -> Answer {
    let listed = vault.api_key(permit, id).ok_or_else(problem::no_such_api_key)?;
    Ok(HttpResponse::Ok().json(view(&listed)))
}

/// Revoke an API key
///
/// The very next request with it is refused.
#[utoipa::path(
    delete,
    path = "/api/{tenantId}/api-keys/{id}",
    tag = "API keys",
    operation_id = "revokeApiKey",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("id" = String, Path, description = "16 hexadecimal digits", pattern = "^[0-9a-f]{16}$"),
    ),
    responses(
        (status = 204, description = "Revoked"),
        (status = 400, description = "`invalid_name`, `ambiguous_credential`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid, expired or revoked one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`api_key_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`unavailable`, `outcome_unknown`, `full`, `starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn revoke(vault: &Arc<Vault>, permit: &ManagePermit, id: ApiKeyId) -> Answer {
    vault.revoke_api_key(permit, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(listed: &ListedApiKey) -> ApiKeyView {
    let ListedApiKey { key, last_used } = listed;
    ApiKeyView {
        id: key.id.to_string(),
        name: key.name.as_ref().map(ToString::to_string),
        scopes: key.scopes.iter().map(|scope| scope.as_str()).collect(),
        created_on: key.created_on.to_string(),
        expires_on: key.expires_on.map(|at| at.to_string()),
        last_used_on: last_used.map(|at| at.to_string()),
    }
}

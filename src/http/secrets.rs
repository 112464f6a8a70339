//! The calls on secrets. Each takes the permit that was minted for it, and
//! the vault takes its address from there: a handler has no other.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use zeroize::Zeroizing;

use crate::api::batch::{Condition, PostSecret, PostSecrets, PostSecretsBody, StoredSecrets};
use crate::api::problem::Problem;
use crate::api::secret::{PutSecret, PutSecretBody, SecretList};
use crate::auth::{ListPermit, Permit, Read, Write, WriterPermit};
use crate::domain::{Now, SecretValue};
use crate::vault::{Deleted, NewSecret, Planned, Precondition, Secret, Vault};

use super::accept::{self, Form};
use super::body::{self, Bounds};
use super::conditions;
use super::idle::Line;
use super::listing::{self, ListQuery, Walk};
use super::problem::{self, Refused};

/// What a handler is given beside its permit.
pub(super) struct Call<'r> {
    pub vault: &'r Arc<Vault>,
    pub headers: &'r HeaderMap,
    pub now: Now,
}

type Answer = Result<HttpResponse, Refused>;

/// The ends of a secret's window.
const NOT_BEFORE: &str = "tenure-not-before";
const EXPIRES_ON: &str = "tenure-expires-on";

/// Read a secret
///
/// The value as a JSON string or `null`, or bare with `Accept: text/plain`. A
/// secret outside its validity window answers like one that never was.
#[utoipa::path(
    method(get, head),
    path = "/api/{tenantId}/secrets/{key}",
    tag = "secrets",
    operation_id = "readSecret",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("key" = String, Path, description = "1 to 127 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,127}$"),
    ),
    responses(
        (status = 200, description = "The value", content(
            (Option<String> = "application/json"),
            (String = "text/plain"),
        ), headers(
            ("ETag" = String, description = "The secret's version"),
            ("Tenure-Not-Before" = String, description = "Since when it can be read, RFC 3339 in UTC; absent where it always could"),
            ("Tenure-Expires-On" = String, description = "From when on it cannot be read, RFC 3339 in UTC; absent where it does not expire"),
        )),
        (status = 400, description = "`invalid_name`, `ambiguous_credential`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid or expired one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: nothing is valid there", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "`not_acceptable`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`starting`, `sealed`, `unavailable`, `audit_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn read(call: &Call<'_>, permit: Permit<Read>) -> Answer {
    let form = accept::form(call.headers)?;
    let secret = call.vault.read(&permit, call.now).await?.ok_or_else(problem::not_found)?;
    let Secret { value, version, window } = secret;
    let (media_type, body) = match (form, &value) {
        (Form::Json, value) => ("application/json", json_of(value.as_ref())),
        (Form::Text, Some(value)) => ("text/plain; charset=utf-8", wiped(value.expose().into())),
        (Form::Text, None) => {
            return Err(accept::not_acceptable("The value is null, which text/plain cannot say."));
        }
    };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type)))
        .insert_header((header::ETAG, conditions::etag(version)));
    for (end, at) in [(NOT_BEFORE, window.not_before()), (EXPIRES_ON, window.expires_on())] {
        if let Some(at) = at {
            response.insert_header((HeaderName::from_static(end), at.to_string()));
        }
    }
    Ok(response.body(body))
}

/// Store or replace a secret
///
/// Durable when it is answered. `If-Match` (`*` or ETags) and `If-None-Match: *`
/// make it conditional.
#[utoipa::path(
    put,
    path = "/api/{tenantId}/secrets/{key}",
    tag = "secrets",
    operation_id = "writeSecret",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("key" = String, Path, description = "1 to 127 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,127}$"),
        ("If-Match" = Option<String>, Header, description = "`*`, or the ETags of which one must be current"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: there must be no readable secret"),
    ),
    request_body(content = PutSecretBody, content_type = "application/json"),
    responses(
        (status = 204, description = "Stored", headers(("ETag" = String, description = "The new version"))),
        (status = 400, description = "`invalid_name`, `malformed_json`, `validation_failed`, `invalid_precondition`, `ambiguous_credential`, `incomplete_body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid or expired one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body_timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`value_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`unavailable`, `outcome_unknown`, `full`, `starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "`secrets_limit`, `bytes_limit`: nothing was changed", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn write(
    call: &Call<'_>,
    permit: Permit<Write>,
    payload: &mut Payload,
    bounds: Bounds,
) -> Answer {
    let precondition = conditions::of_write(call.headers)?;
    let body = body::json(call.headers, payload, bounds).await?;
    let PutSecret { value, window } = PutSecret::parse(&body)?;
    drop(body);
    let new = NewSecret { value, window };
    let version = call.vault.write(&permit, new, precondition, call.now).await?;
    Ok(HttpResponse::NoContent().insert_header((header::ETAG, conditions::etag(version))).finish())
}

/// Store or replace several secrets, all of them or none
///
/// Durable when it is answered. Each may have its own precondition: `ifMatch` (`*` or a
/// version) or `ifNoneMatch` (`*`), which must all hold. The values may be 2 MiB together.
#[utoipa::path(
    post,
    path = "/api/{tenantId}/secrets",
    tag = "secrets",
    operation_id = "writeSecrets",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
    ),
    request_body(content = PostSecretsBody, content_type = "application/json"),
    responses(
        (status = 200, description = "Stored", body = StoredSecrets),
        (status = 400, description = "`invalid_name`, `malformed_json`, `validation_failed` (`errors` by fields such as `secrets[3].expiresOn`), `ambiguous_credential`, `incomplete_body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid or expired one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: one of the names at least", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body_timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`; `errors` has `secrets[3]` for each that failed", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`value_too_large`, `body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`unavailable`, `outcome_unknown`, `full`, `starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "`secrets_limit`, `bytes_limit`: nothing was changed", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn write_all(
    call: &Call<'_>,
    permit: WriterPermit,
    payload: &mut Payload,
    bounds: Bounds,
) -> Answer {
    conditions::none_of_all(call.headers)?;
    let body = body::json(call.headers, payload, bounds).await?;
    let PostSecrets(secrets) = PostSecrets::parse(&body)?;
    drop(body);
    let permit = permit.all(secrets.map(planned), call.now)?;
    let versions = call.vault.write_all(permit, call.now).await?;
    let versions = versions.iter().map(u64::to_string).collect();
    Ok(HttpResponse::Ok().json(StoredSecrets { versions }))
}

fn planned(PostSecret { put, condition }: PostSecret) -> Planned {
    let PutSecret { value, window } = put;
    let precondition = match condition {
        Condition::None => Precondition::None,
        Condition::Exists => Precondition::Exists,
        Condition::Version(version) => Precondition::Versions(vec![version]),
        Condition::Absent => Precondition::Absent,
    };
    Planned { new: NewSecret { value, window }, precondition }
}

/// Delete a secret
///
/// It cannot be retrieved again. An expired one is removed and answers 404.
#[utoipa::path(
    delete,
    path = "/api/{tenantId}/secrets/{key}",
    tag = "secrets",
    operation_id = "deleteSecret",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("key" = String, Path, description = "1 to 127 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,127}$"),
        ("If-Match" = Option<String>, Header, description = "`*`, or the ETags of which one must be current"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 400, description = "`invalid_name`, `invalid_precondition`, `ambiguous_credential`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid or expired one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: nothing was valid there", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`precondition_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`unavailable`, `outcome_unknown`, `full`, `starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn delete(call: &Call<'_>, permit: Permit<Write>) -> Answer {
    let precondition = conditions::of_write(call.headers)?;
    match call.vault.delete(&permit, precondition, call.now).await? {
        Deleted::Removed => Ok(HttpResponse::NoContent().finish()),
        Deleted::Expired => Err(problem::not_found().recorded()),
        Deleted::NothingThere => Err(problem::not_found()),
    }
}

/// List secrets
///
/// The names that are stored and not expired and that the credential may read,
/// sorted. Never a value. With `details=true` the version, state and window of each
/// beside its name. Without `limit` all of them; with it a page, whose
/// `Link` leads to the next one. A list is not a picture of one moment: a name
/// that is there throughout is listed exactly once.
#[utoipa::path(
    get,
    path = "/api/{tenantId}/secrets",
    tag = "secrets",
    operation_id = "listSecrets",
    params(
        ("tenantId" = String, Path, description = "1 to 64 of A-Z a-z 0-9 - _", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("prefix" = Option<String>, Query, description = "Only names that begin with it", pattern = "^[A-Za-z0-9_-]{0,127}$"),
        ("after" = Option<String>, Query, description = "Only names that sort after this one, which need not exist", pattern = "^[A-Za-z0-9_-]{1,127}$"),
        ("limit" = Option<u16>, Query, description = "At most this many names", minimum = 1, maximum = 10_000),
        ("details" = Option<bool>, Query, description = "Whether to answer objects instead of names"),
        ("expiringWithin" = Option<String>, Query, description = "Only secrets that expire within so long from now: a number and one of s, m, h and d, from 1s to 3650d", pattern = "^[0-9]+[smhd]$"),
    ),
    responses(
        (status = 200, description = "Sorted names, or objects sorted by name", body = SecretList, headers(
            ("Link" = String, description = "`<?…>; rel=\"next\"`, relative to this address: the next page. Absent where no names remain, and without `limit`"),
        )),
        (status = 400, description = "`invalid_name`, `validation_failed`, `ambiguous_credential`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or an invalid or expired one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential; `tenant_rate_limit`", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`starting`, `sealed`, `unavailable`, `audit_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn list(call: &Call<'_>, permit: ListPermit, request: &HttpRequest) -> Answer {
    let query = ListQuery::parse(request.uri().query().unwrap_or_default())?;
    let first = call.vault.list(&permit, &query.request(), call.now).await?;
    let line = Line::of(request);
    Ok(listing::answer(Walk { vault: Arc::downgrade(call.vault), permit, query, line }, first))
}

/// A JSON string or `null`, in a buffer that is never outgrown (a buffer that
/// grows leaves its old bytes behind) and wiped after it was sent.
fn json_of(value: Option<&SecretValue>) -> Bytes {
    let Some(value) = value else { return Bytes::from_static(b"null") };
    let plaintext = value.expose();
    let escaped = plaintext.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'));
    let room = if escaped { plaintext.len().saturating_mul(6) } else { plaintext.len() };
    let mut json = Vec::with_capacity(room.saturating_add(2));
    // Writing a string to memory does not fail.
    let _ = serde_json::to_writer(&mut json, plaintext);
    wiped(json)
}

fn wiped(plaintext: Vec<u8>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(plaintext))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_json() {
        for value in ["", "plain", "ä😀", "q\"b\\n\n\u{1}\u{7f}/"] {
            let secret = SecretValue::new(Zeroizing::new(value.to_owned()));
            let json = json_of(Some(&secret));
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), value);
        }
        assert_eq!(json_of(None), "null");
    }
}

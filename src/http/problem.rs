//! Refusals and failures, as the client sees them and as the log does.
//!
//! The one place where errors of the layers below become a code, and thereby
//! (through the table in `api::problem`) a status. The client gets the code and a
//! safe sentence; the log gets the cause, once, from [`Refused::log`]. Neither
//! holds a value, a credential, a name or a body.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};

use crate::api::batch;
use crate::api::json::Malformed;
use crate::api::problem::{Code, FieldErrors, Problem};
use crate::api::secret::BadBody;
use crate::auth::{Forbidden, Limited, Refusal};
use crate::store::StoreError;
use crate::vault::credentials::CredentialError;
use crate::vault::{TenantLimited, Vault, VaultError};

pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) struct Refused(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    errors: Option<FieldErrors>,
    /// What the status wants beside the body: `Allow`, `Retry-After`, …
    header: Option<(HeaderName, HeaderValue)>,
    cause: Option<VaultError>,
    /// Whether the audit has an entry of it already.
    is_recorded: bool,
}

impl Refused {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        let (errors, header, cause) = (None, None, None);
        Self(Box::new(Parts { code, detail, errors, header, cause, is_recorded: false }))
    }

    pub fn with_errors(mut self, errors: FieldErrors) -> Self {
        self.0.errors = Some(errors);
        self
    }

    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    pub(super) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// What was done has its entry, though its answer is a refusal.
    pub fn recorded(mut self) -> Self {
        self.0.is_recorded = true;
        self
    }

    pub fn is_recorded(&self) -> bool {
        self.0.is_recorded
    }

    fn because(mut self, cause: VaultError) -> Self {
        self.0.cause = Some(cause);
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    #[cfg(test)]
    pub fn errors(&self) -> Option<&FieldErrors> {
        self.0.errors.as_ref()
    }

    /// Bodies carry no request id: equal refusals are equal bytes.
    pub fn into_response(self, path: &str) -> HttpResponse {
        let Parts { code, detail, errors, header, cause: _, is_recorded: _ } = *self.0;
        let problem = Problem::new(code, detail, path).with_errors(errors);
        let mut response = HttpResponse::build(status(code));
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)));
        if let Some(header) = header {
            response.insert_header(header);
        }
        response.body(serde_json::to_vec(&problem).unwrap_or_default())
    }

    /// Writes the cause to the log. `route` is a template, never a path: a path
    /// holds names.
    pub fn log(&self, request_id: &HeaderValue, method: &str, route: &str) {
        let Some(cause) = &self.0.cause else { return };
        // Overload is one line per request and says nothing new each time.
        let level = match cause {
            VaultError::Store(StoreError::NotApplied { .. }) => log::Level::Debug,
            VaultError::Store(StoreError::Full) => log::Level::Warn,
            _ => log::Level::Error,
        };
        log::log!(level, "request {}: {method} {route}: {cause}", printable(request_id));
    }
}

pub(super) fn printable(request_id: &HeaderValue) -> &str {
    request_id.to_str().unwrap_or_default()
}

fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"tenure\"");
const INVALID_TOKEN: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"tenure\", error=\"invalid_token\"");

pub(super) fn credential_missing() -> Refused {
    Refused::new(
        Code::CredentialMissing,
        "Send a token as Authorization: Bearer, or an API key as X-API-KEY.",
    )
    .with_header(header::WWW_AUTHENTICATE, CHALLENGE)
}

/// One sentence for every way of being invalid: which one it was helps only who
/// forges.
pub(super) fn credential_invalid() -> Refused {
    invalid_token(Code::CredentialInvalid, "The credential is not valid on this server.")
}

fn invalid_token(code: Code, detail: &'static str) -> Refused {
    Refused::new(code, detail).with_header(header::WWW_AUTHENTICATE, INVALID_TOKEN)
}

pub(super) fn starting() -> Refused {
    Refused::new(Code::Starting, "The store is being opened. Try again in a moment.")
        .retry_after(Duration::from_secs(1))
}

/// The same for everyone: without its keys the server cannot check a credential.
pub(super) fn sealed() -> Refused {
    Refused::new(
        Code::Sealed,
        "The server is sealed: it has no key. Try again when its operators have unsealed it.",
    )
    .retry_after(Duration::from_secs(30))
}

pub(super) fn not_found() -> Refused {
    Refused::new(Code::NotFound, "No secret of this name is valid now.")
}

pub(super) fn no_such_api_key() -> Refused {
    Refused::new(Code::ApiKeyNotFound, "The tenant has no API key of this id.")
}

/// The same whether or not the tenant or the key exists.
pub(super) fn no_administrator() -> Refused {
    Refused::new(
        Code::Forbidden,
        "API keys are managed with a token for all (*) of this tenant, as it was minted: neither \
         narrowed nor itself an API key.",
    )
}

pub(super) fn audit_unavailable() -> Refused {
    Refused::new(
        Code::AuditUnavailable,
        "Nothing is read that cannot be recorded, and the audit cannot be written now. Try again \
         later.",
    )
    .retry_after(Duration::from_secs(1))
}

pub(super) fn internal() -> Refused {
    Refused::new(Code::Internal, "The server failed; its log says why, under the request's id.")
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired => {
                invalid_token(Code::TokenExpired, "The token has expired. Get a new one.")
            }
            Refusal::ApiKeyExpired => {
                invalid_token(Code::ApiKeyExpired, "The API key has expired. Get a new one.")
            }
            Refusal::Shape => invalid_token(
                Code::TokenShape,
                "The token was narrowed by something beside the documented checks.",
            ),
            Refusal::Malformed
            | Refusal::TooLarge
            | Refusal::UnknownRoot
            | Refusal::Signature
            | Refusal::ApiKey
            | Refusal::Revoked
            | Refusal::TenantGone
            | Refusal::UnknownIssuer
            | Refusal::TokenType
            | Refusal::UnknownKey
            | Refusal::Algorithm
            | Refusal::Audience
            | Refusal::Claims
            | Refusal::UnknownTenant
            | Refusal::NotYetValid => credential_invalid(),
            Refusal::Limited(limited) => limited.into(),
            Refusal::NoKeys => Refused::new(
                Code::IssuerUnavailable,
                "The keys of the token's issuer could not be fetched. Keep the token and try again.",
            )
            .retry_after(Duration::from_secs(5)),
        }
    }
}

impl From<Limited> for Refused {
    /// One sentence for every limit: which one it was would tell a stranger what
    /// others do.
    fn from(Limited { retry_after }: Limited) -> Self {
        Self::new(
            Code::RateLimited,
            "Too many requests, or too many refused credentials. Retry-After says when to go on.",
        )
        .retry_after(retry_after)
    }
}

impl From<TenantLimited> for Refused {
    /// To a good credential of the tenant, which may know.
    fn from(TenantLimited { per_second, retry_after }: TenantLimited) -> Self {
        Self::new(
            Code::TenantRateLimit,
            format!(
                "The tenant may make {per_second} requests a second, with all its credentials \
                 together. Retry-After says when to go on."
            ),
        )
        .retry_after(retry_after)
    }
}

impl From<Forbidden> for Refused {
    fn from(_: Forbidden) -> Self {
        Self::new(
            Code::Forbidden,
            "The credential lacks the scope, is of another tenant, or is narrowed to other names.",
        )
    }
}

impl From<BadBody> for Refused {
    fn from(body: BadBody) -> Self {
        match body {
            BadBody::Malformed(Malformed { reason, line, column }) => Self::new(
                Code::MalformedJson,
                format!(
                    "The body is not the JSON it should be: {reason} (line {line}, column {column})."
                ),
            ),
            BadBody::Invalid(errors) => Self::new(
                Code::ValidationFailed,
                "The body is JSON, but errors says what is wrong with it.",
            )
            .with_errors(errors),
        }
    }
}

impl From<CredentialError> for Refused {
    fn from(error: CredentialError) -> Self {
        let field = |field: &str, why: &'static str| {
            let errors = FieldErrors::from([(field.to_owned(), vec![why.into()])]);
            Self::from(BadBody::Invalid(errors))
        };
        match error {
            CredentialError::NoScope => field("scopes", "must hold at least one"),
            CredentialError::ExpiresInThePast => field("expiresOn", "must be in the future"),
            CredentialError::TooManyApiKeys { max } => Self::new(
                Code::TooManyApiKeys,
                format!("A tenant may have {max} API keys. Revoke one that nobody uses."),
            ),
            CredentialError::NoSuchApiKey => no_such_api_key(),
            CredentialError::Store(error) => VaultError::Store(error).into(),
            // Only an operator comes to these.
            CredentialError::TooManyRevocations | CredentialError::TooManyRoots(_) => internal(),
        }
    }
}

impl From<VaultError> for Refused {
    fn from(error: VaultError) -> Self {
        let store = match error {
            VaultError::PreconditionFailed => {
                return Self::new(
                    Code::PreconditionFailed,
                    "The secret is not in the state that the request requires.",
                );
            }
            VaultError::PreconditionsFailed { of } => return preconditions_failed(&of),
            VaultError::TooLargeTogether => return too_large_together(),
            VaultError::ValueTooLarge { max } => return value_too_large(max),
            VaultError::SecretsLimit { max } => return secrets_limit(max),
            VaultError::BytesLimit { max } => return bytes_limit(max),
            VaultError::Conflict => return conflict(),
            VaultError::Store(store) => store,
        };
        let refused = match &store {
            StoreError::Conflict => return conflict(),
            // The tenant was deleted while this request, authorized before, was
            // under way. Its caller was entitled, so that this says nothing new;
            // the next request with the credential is a 401.
            StoreError::TenantGone => return not_found(),
            StoreError::NotApplied { retry_after } => {
                Self::new(Code::Unavailable, "Nothing was changed. Try again later.")
                    .retry_after(*retry_after)
            }
            StoreError::Unknown => Self::new(
                Code::OutcomeUnknown,
                "The write may or may not have happened. Read before writing again.",
            )
            .retry_after(Duration::from_secs(5)),
            StoreError::Full => {
                Self::new(Code::Full, "Nothing was changed: the server's disk is nearly full.")
                    .retry_after(Duration::from_secs(60))
            }
            StoreError::Corrupted { .. } => Self::new(
                Code::Corrupted,
                "What is stored here was damaged. The server's log says which part.",
            ),
            // The vault splits values into rows that fit, so this is a fault of ours.
            StoreError::TooLarge => internal(),
        };
        refused.because(VaultError::Store(store))
    }
}

fn conflict() -> Refused {
    Refused::new(Code::Conflict, "Others wrote this secret at the same time. Try again.")
}

pub(super) fn value_too_large(max: usize) -> Refused {
    Refused::new(Code::ValueTooLarge, format!("A value may be at most {max} bytes of UTF-8."))
}

fn secrets_limit(max: u64) -> Refused {
    Refused::new(
        Code::SecretsLimit,
        format!(
            "Nothing was changed: the tenant may have {max} secrets, those included that expired \
             and are not removed yet. Delete some, or have the limit raised."
        ),
    )
}

fn bytes_limit(max: u64) -> Refused {
    Refused::new(
        Code::BytesLimit,
        format!(
            "Nothing was changed: the values of the tenant may have {max} bytes of UTF-8 together, \
             those included that expired and are not removed yet. Delete some, or have the limit \
             raised."
        ),
    )
}

/// Who may write all of these may know which.
fn preconditions_failed(of: &[usize]) -> Refused {
    let why = || vec!["is not in the state that ifMatch or ifNoneMatch requires".into()];
    let errors = of.iter().map(|index| (batch::place(*index), why())).collect();
    Refused::new(
        Code::PreconditionFailed,
        "Nothing was changed: errors says which secrets are not in the state that the request \
         requires.",
    )
    .with_errors(errors)
}

fn too_large_together() -> Refused {
    let max = Vault::MAX_TOGETHER_BYTES;
    Refused::new(
        Code::BodyTooLarge,
        format!(
            "Nothing was changed: the values may be {max} bytes together, and less where they \
             replace much larger ones. Send fewer secrets at a time."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: impl Into<Refused>) -> Code {
        error.into().code()
    }

    #[test]
    fn every_store_error_says_what_the_client_can_do() {
        let of = |error: StoreError| code(VaultError::Store(error));
        assert_eq!(of(StoreError::Conflict), Code::Conflict);
        assert_eq!(of(StoreError::TenantGone), Code::NotFound);
        assert_eq!(of(StoreError::Unknown), Code::OutcomeUnknown);
        assert_eq!(of(StoreError::Full), Code::Full);
        assert_eq!(of(StoreError::TooLarge), Code::Internal);
        assert_eq!(of(StoreError::Corrupted { what: "db-3".into() }), Code::Corrupted);
        assert_eq!(code(VaultError::ValueTooLarge { max: 1 }), Code::ValueTooLarge);
        assert_eq!(code(VaultError::PreconditionFailed), Code::PreconditionFailed);
        assert_eq!(code(VaultError::SecretsLimit { max: 1 }), Code::SecretsLimit);
        assert_eq!(code(VaultError::BytesLimit { max: 1 }), Code::BytesLimit);
    }

    #[test]
    fn a_503_says_when_to_come_back() {
        let response = audit_unavailable().into_response("/");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "1");
        let wait = StoreError::NotApplied { retry_after: Duration::from_millis(1200) };
        for (error, seconds) in [(wait, "2"), (StoreError::Unknown, "5"), (StoreError::Full, "60")]
        {
            let response = Refused::from(VaultError::Store(error)).into_response("/");
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), seconds);
        }
    }

    #[test]
    fn a_corrupted_database_is_named_in_the_log_alone() {
        let refused =
            Refused::from(VaultError::Store(StoreError::Corrupted { what: "db-3".into() }));
        assert!(!refused.0.detail.contains("db-3"));
        assert!(refused.0.cause.unwrap().to_string().contains("db-3"));
    }

    #[test]
    fn a_429_says_when_to_come_back_and_not_which_limit_it_was() {
        let limited = Limited { retry_after: Duration::from_millis(1) };
        for refused in [Refused::from(limited), Refusal::Limited(limited).into()] {
            assert_eq!(refused.code(), Code::RateLimited);
            let response = refused.into_response("/");
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "1");
            assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
        }
    }

    #[test]
    fn every_401_has_a_challenge() {
        for refused in [
            credential_missing(),
            credential_invalid(),
            Refusal::Expired.into(),
            Refusal::Shape.into(),
            Refusal::TenantGone.into(),
        ] {
            let response = refused.into_response("/");
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        }
    }

    #[test]
    fn invalid_credentials_are_not_told_apart() {
        let bytes = |refusal: Refusal| format!("{:?}", Refused::from(refusal).0);
        for refusal in [
            Refusal::TooLarge,
            Refusal::UnknownRoot,
            Refusal::Signature,
            Refusal::ApiKey,
            Refusal::Revoked,
            Refusal::TenantGone,
            Refusal::UnknownIssuer,
            Refusal::TokenType,
            Refusal::UnknownKey,
            Refusal::Algorithm,
            Refusal::Audience,
            Refusal::Claims,
            Refusal::UnknownTenant,
            Refusal::NotYetValid,
        ] {
            assert_eq!(bytes(refusal), bytes(Refusal::Malformed));
        }
    }

    #[test]
    fn a_token_that_nobody_can_judge_is_to_be_kept() {
        let response = Refused::from(Refusal::NoKeys).into_response("/");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "5");
        assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}

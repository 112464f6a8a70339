//! What a refused or failed request is told: RFC 9457 problem details, and the
//! one table of the codes that a client may rely on.
//!
//! A code, once published, keeps its meaning and its status. The sentence beside
//! it (`detail`) may change and is for people. Nothing here depends on who asked:
//! equal refusals are equal bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Messages by the field they are about.
pub type FieldErrors = BTreeMap<String, Vec<Cow<'static, str>>>;

/// The name of a field, if it looks like a misspelt one: what was pasted into the
/// wrong place is not repeated.
pub fn showable(name: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=32).contains(&name.len()) && name.bytes().all(plain) { name } else { "(unknown)" }
}

/// `variant = code, status, title`, once each.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, in a word that a program can test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            pub const EVERY: &[Self] = &[$(Self::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status it always travels with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// The problem type: a name, not an address.
            pub const fn type_urn(self) -> &'static str {
                match self { $(Self::$variant => concat!("urn:tenure:problem:", $code),)* }
            }
        }
    };
}

codes! {
    /// Tenant or key is not a name.
    InvalidName = "invalid_name", 400, "A name in the path is not valid";
    AmbiguousCredential = "ambiguous_credential", 400, "More than one credential was sent";
    InvalidPrecondition = "invalid_precondition", 400, "The precondition cannot be evaluated";
    /// The body's transfer ended early or is garbled.
    IncompleteBody = "incomplete_body", 400, "The body did not arrive whole";
    MalformedJson = "malformed_json", 400, "The body is not JSON";
    /// JSON, but not what was asked for, or a query parameter that is not; `errors`
    /// says which and why.
    ValidationFailed = "validation_failed", 400, "The body or a parameter is not valid";

    CredentialMissing = "credential_missing", 401, "A credential is required";
    CredentialInvalid = "credential_invalid", 401, "The credential is not valid";
    TokenExpired = "token_expired", 401, "The token has expired";
    ApiKeyExpired = "api_key_expired", 401, "The API key has expired";
    /// A token narrowed by something that this server does not know.
    TokenShape = "token_shape", 401, "The token holds an undocumented check";

    Forbidden = "forbidden", 403, "The credential does not allow this";

    /// Allowed, but nothing is valid there.
    NotFound = "not_found", 404, "There is no such secret";
    ApiKeyNotFound = "api_key_not_found", 404, "There is no such API key";
    RouteNotFound = "route_not_found", 404, "There is no such resource";
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    NotAcceptable = "not_acceptable", 406, "The answer has no acceptable form";
    BodyTimeout = "body_timeout", 408, "The body took too long to arrive";

    Conflict = "conflict", 409, "Another writer was faster";
    /// Another one must be revoked first.
    TooManyApiKeys = "too_many_api_keys", 409, "The tenant has as many API keys as it may";
    PreconditionFailed = "precondition_failed", 412, "The precondition does not hold";
    ValueTooLarge = "value_too_large", 413, "The value is too large";
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    UnsupportedMediaType = "unsupported_media_type", 415, "The body has an unsupported type";

    /// Of an address, or with a credential.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// Of the tenant, over all its credentials.
    TenantRateLimit = "tenant_rate_limit", 429, "The tenant makes too many requests";

    Internal = "internal", 500, "The server failed";
    Corrupted = "corrupted", 500, "Stored data is corrupted";

    Starting = "starting", 503, "The server is starting";
    /// It runs without its keys, until its operators give them to it.
    Sealed = "sealed", 503, "The server is sealed";
    /// Nothing was changed; the same request may succeed later.
    Unavailable = "unavailable", 503, "The store is busy";
    /// Reads are answered, writes are not.
    NotWritable = "not_writable", 503, "The store does not take writes";
    /// The token may be good: nobody can tell before its issuer's keys are there.
    IssuerUnavailable = "issuer_unavailable", 503, "The token's issuer cannot be reached";
    /// Nothing is read that cannot be recorded.
    AuditUnavailable = "audit_unavailable", 503, "The audit cannot be written";
    OutcomeUnknown = "outcome_unknown", 503, "The outcome of the write is unknown";
    Full = "full", 503, "The disk is nearly full";

    /// Some of them must be deleted first, or the limit be raised.
    SecretsLimit = "secrets_limit", 507, "The tenant has as many secrets as it may";
    BytesLimit = "bytes_limit", 507, "The tenant's values have as many bytes as they may";
}

/// An RFC 9457 problem, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:tenure:problem:<code>`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:tenure:problem:not_found")]
    pub type_urn: Cow<'static, str>,
    #[schema(value_type = String)]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for people; it may change.
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
    /// The path that was asked for.
    pub instance: String,
    /// Stable, for programs.
    #[schema(value_type = String, example = "not_found")]
    pub code: Cow<'static, str>,
    /// With a 400, and with a 412 of several secrets: messages by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Vec<String>>>)]
    pub errors: Option<FieldErrors>,
}

impl Problem {
    pub fn new(
        code: Code,
        detail: impl Into<Cow<'static, str>>,
        instance: impl Into<String>,
    ) -> Self {
        Self {
            type_urn: code.type_urn().into(),
            title: code.title().into(),
            status: code.status(),
            detail: detail.into(),
            instance: instance.into(),
            code: code.as_str().into(),
            errors: None,
        }
    }

    pub fn with_errors(mut self, errors: Option<FieldErrors>) -> Self {
        self.errors = errors;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_told_apart() {
        let codes: BTreeSet<_> = Code::EVERY.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::EVERY.len());
        for code in Code::EVERY {
            assert!((400..600).contains(&code.status()), "{code:?}");
            assert_eq!(code.type_urn(), format!("urn:tenure:problem:{}", code.as_str()));
        }
    }
}

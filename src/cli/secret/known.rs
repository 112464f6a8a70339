//! What can be known of a credential without asking a server.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::super::failure::CliError;
use super::window::{between, span};
use crate::auth::{self, Inspection};
use crate::client::Credential;
use crate::domain::{TenantName, Timestamp};

/// Nothing of it was proved: only a server decides whether a credential holds.
pub(super) enum Known {
    Token(Box<Inspection>),
    ApiKey {
        id: String,
    },
    /// An access token of an issuer that the server may trust.
    OtherIssuer(Claims),
}

/// What such a token says for everybody to read (RFC 9068); the rest is for the server.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "iss")]
    pub(super) issuer: Option<String>,
    #[serde(rename = "sub")]
    pub(super) subject: Option<String>,
    /// Seconds since 1970.
    exp: Option<i64>,
}

impl Claims {
    /// Nothing where it says nothing that is understood.
    fn of(token: &str) -> Self {
        let body = token.split('.').nth(1).and_then(|body| URL_SAFE_NO_PAD.decode(body).ok());
        body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default()
    }
}

/// By this machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Expired,
    /// Only the server knows.
    Unknown,
}

impl Known {
    pub(super) fn of(credential: &Credential) -> Result<Self, CliError> {
        match credential {
            Credential::ApiKey(key) => {
                // The part that opens nothing, and that lists show.
                let id = key.split('_').nth(1).filter(|id| auth::ApiKeyId::parse(id).is_ok());
                let id = id.ok_or_else(|| CliError::usage("that is no whole API key"))?;
                Ok(Self::ApiKey { id: id.to_owned() })
            }
            Credential::Token(token) if token.contains('.') => {
                Ok(Self::OtherIssuer(Claims::of(token)))
            }
            Credential::Token(token) => match auth::inspect(token) {
                Ok(inspection) => Ok(Self::Token(Box::new(inspection))),
                Err(refusal) => Err(CliError::usage(format!(
                    "that is no token and no API key of Tenure: {refusal}"
                ))),
            },
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::ApiKey { .. } => "apiKey",
            Self::OtherIssuer(_) => "otherIssuer",
        }
    }

    pub(super) fn tenant(&self) -> Option<TenantName> {
        match self {
            Self::Token(inspection) => {
                inspection.tenant.as_deref().and_then(|tenant| TenantName::parse(tenant).ok())
            }
            Self::ApiKey { .. } | Self::OtherIssuer(_) => None,
        }
    }

    /// RFC 3339.
    pub(super) fn expires(&self) -> Option<String> {
        match self {
            Self::Token(inspection) => Some(inspection.expires.clone()),
            Self::OtherIssuer(claims) => {
                Some(Timestamp::from_unix_seconds(claims.exp?).to_string())
            }
            Self::ApiKey { .. } => None,
        }
    }

    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        match self.end() {
            Some(end) if end <= now => Standing::Expired,
            Some(_) => Standing::Good,
            None => Standing::Unknown,
        }
    }

    /// A clause on how long it is good for.
    pub(super) fn until(&self, now: Timestamp) -> String {
        match (self.end(), self) {
            (Some(end), _) if end <= now => {
                format!("it expired {} ago, on {end}", span(between(end, now)))
            }
            (Some(end), _) => format!("it is good for {}, until {end}", span(between(now, end))),
            (None, Self::ApiKey { .. }) => {
                "the server knows until when it is good, which may be until it is revoked"
                    .to_owned()
            }
            (None, _) => "its issuer knows until when it is good".to_owned(),
        }
    }

    fn end(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.expires()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn what_is_no_credential_is_not_repeated() {
        let of = |credential| Known::of(&credential).err().map(|error| error.message);
        let text = |text: &str| Zeroizing::new(text.to_owned());
        for wrong in [
            of(Credential::Token(text("hunter2"))),
            of(Credential::ApiKey(text("tnr_hunter2"))),
            of(Credential::ApiKey(text("tnr_"))),
        ] {
            let wrong = wrong.unwrap();
            assert!(wrong.contains("that is no") && !wrong.contains("hunter2"), "{wrong}");
        }
        assert!(of(Credential::Token(text("a.b.c"))).is_none());
    }

    #[test]
    fn of_an_access_token_of_another_issuer_its_end_is_known() {
        let body = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://a.example","sub":"ci","exp":120}"#);
        let known = Known::of(&Credential::Token(Zeroizing::new(format!("h.{body}.s")))).unwrap();
        assert_eq!(known.until(at(0)), "it is good for 2 minutes, until 1970-01-01T00:02:00Z");
        assert_eq!(known.standing(at(120)), Standing::Expired);
        let known = Known::of(&Credential::Token(Zeroizing::new("h.?.s".to_owned()))).unwrap();
        assert_eq!(known.standing(at(0)), Standing::Unknown);
    }
}

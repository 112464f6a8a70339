//! API keys over HTTP: what is asked for, and what is shown.

use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::domain::{Scope, ScopeSet, Timestamp};

use super::fields::Fields;
use super::json::Value;
use super::secret::BadBody;

/// A parsed body of a POST.
#[derive(Debug, PartialEq, Eq)]
pub struct PostApiKey {
    /// At least one.
    pub scopes: ScopeSet,
    pub expires_on: Option<Timestamp>,
    /// Whether it is one, the caller decides.
    pub name: Option<Zeroizing<String>>,
}

/// What a client sends to make an API key. Property names are matched without regard
/// to case; unknown ones are refused.
#[derive(ToSchema)]
#[schema(as = PostApiKey)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the OpenAPI document is made from it; bodies are read by PostApiKey")]
pub struct PostApiKeyBody {
    /// One or more of `Secret.Read`, `Secret.Write` and `*`.
    #[schema(required = true, example = json!(["Secret.Read"]))]
    scopes: Vec<String>,
    /// From this moment on it is refused: RFC 3339 with an offset. Without it the key
    /// holds until it is revoked.
    #[schema(format = DateTime, nullable = false, example = "2030-01-31T12:00:00Z")]
    expires_on: Option<String>,
    /// What it is for: 1 to 128 characters that can be printed.
    #[schema(nullable = false, example = "backup-job")]
    name: Option<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyView {
    /// 16 hexadecimal digits.
    #[schema(example = "0123456789abcdef")]
    pub id: String,
    pub name: Option<String>,
    #[schema(example = json!(["Secret.Read"]))]
    pub scopes: Vec<&'static str>,
    #[schema(format = DateTime)]
    pub created_on: String,
    /// `null`: it holds until it is revoked.
    #[schema(format = DateTime)]
    pub expires_on: Option<String>,
    /// To the hour; `null`: never.
    #[schema(format = DateTime)]
    pub last_used_on: Option<String>,
}

/// A key that was made. It is shown this once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedApiKey<'k> {
    /// Send it as `X-API-KEY`.
    #[schema(example = "tnr_0123456789abcdef_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_AbCdE")]
    pub key: &'k str,
    #[serde(flatten)]
    pub view: ApiKeyView,
}

const SCOPES: &str = "scopes";
const EXPIRES_ON: &str = "expiresOn";
const NAME: &str = "name";

impl PostApiKey {
    /// Reads a JSON body. All faults of a well-formed one are told at once.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let mut draft = Draft::default();
        let known = [SCOPES, EXPIRES_ON, NAME];
        let unknown = "is not known: there are scopes, expiresOn and name";
        let take = |fields: &mut Fields, field, value| draft.take(fields, field, value);
        let fields = Fields::read(body, &known, unknown, take)?;
        draft.finish(fields)
    }
}

/// A body while it is read.
#[derive(Default)]
struct Draft {
    scopes: ScopeSet,
    expires_on: Option<Timestamp>,
    name: Option<Zeroizing<String>>,
}

impl Draft {
    fn take(&mut self, fields: &mut Fields, field: &'static str, value: Value) {
        match (field, value) {
            (SCOPES, Value::Strings(words)) => {
                match words.iter().map(|word| Scope::parse(word)).collect::<Result<ScopeSet, _>>() {
                    Ok(scopes) => self.scopes = scopes,
                    Err(error) => fields.fault(SCOPES, format!("holds a word that {error}")),
                }
            }
            (EXPIRES_ON, Value::String(text)) => match Timestamp::parse(&text) {
                Ok(time) => self.expires_on = Some(time),
                Err(error) => fields.fault(EXPIRES_ON, error.to_string()),
            },
            (NAME, Value::String(text)) => self.name = Some(text),
            (SCOPES, _) => fields.fault(SCOPES, "must be an array of a few strings"),
            (EXPIRES_ON, _) => {
                fields.fault(field, "must be an RFC 3339 date-time in a string, or be left out");
            }
            _ => fields.fault(field, "must be a string, or be left out"),
        }
    }

    fn finish(self, mut fields: Fields) -> Result<PostApiKey, BadBody> {
        let Self { scopes, expires_on, name } = self;
        if scopes == ScopeSet::NONE && !fields.is_faulty(SCOPES) {
            fields.fault(SCOPES, "must hold one of Secret.Read, Secret.Write and *");
        }
        if fields.are_sound() {
            Ok(PostApiKey { scopes, expires_on, name })
        } else {
            Err(fields.into_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Vec<String> {
        match PostApiKey::parse(body.as_bytes()) {
            Err(BadBody::Invalid(errors)) => errors.into_keys().collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_body_names_scopes_and_perhaps_an_end_and_a_name() {
        let least = PostApiKey::parse(br#"{"scopes":["Secret.Read"]}"#).unwrap();
        assert_eq!(least.scopes, ScopeSet::NONE.with(Scope::SecretRead));
        assert_eq!((least.expires_on, least.name), (None, None));
        let body = br#"{"Scopes":["*"],"EXPIRESON":"2030-01-01T00:00:00Z","name":"ci"}"#;
        let most = PostApiKey::parse(body).unwrap();
        assert_eq!(most.scopes, ScopeSet::NONE.with(Scope::All));
        assert_eq!(most.expires_on, Some(Timestamp::parse("2030-01-01T00:00:00Z").unwrap()));
        assert_eq!(most.name.unwrap().as_str(), "ci");
    }

    #[test]
    fn whatever_is_not_that_is_refused() {
        for body in [
            "{}",
            r#"{"scopes":[]}"#,
            r#"{"scopes":"Secret.Read"}"#,
            r#"{"scopes":["Secret.Read",1]}"#,
            r#"{"scopes":["secret.read"]}"#,
            r#"{"scopes":["Server.Admin"]}"#,
            r#"{"scopes":null}"#,
            r#"{"scopes":["*"],"scopes":["*"]}"#,
        ] {
            assert_eq!(fields(body), ["scopes"], "{body}");
        }
        assert_eq!(fields(r#"{"scopes":["*"],"expires_on":"x"}"#), ["expires_on"]);
        assert_eq!(fields(r#"{"scopes":["*"],"expiresOn":"tomorrow"}"#), ["expiresOn"]);
        assert_eq!(fields(r#"{"scopes":["*"],"expiresOn":null}"#), ["expiresOn"]);
        assert_eq!(fields(r#"{"scopes":["*"],"name":["a"]}"#), ["name"]);
        assert_eq!(fields("[]"), ["body", "scopes"]);
        assert_eq!(
            fields(r#"{"scopes":1,"expiresOn":2,"name":3,"more":4}"#),
            ["expiresOn", "more", "name", "scopes"]
        );
        assert!(matches!(PostApiKey::parse(b"{"), Err(BadBody::Malformed(_))));
    }
}

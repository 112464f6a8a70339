//! The body of a POST that stores several secrets together: all of them or none.

use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::domain::{ByName, RepeatedName, SecretName};

use super::fields::Fields;
use super::json::{MAX_OBJECTS, Members, Value};
use super::secret::{self, BadBody, EXPIRES_ON, NOT_BEFORE, PutSecret, VALUE};

/// A parsed body. It is valid because it exists.
#[derive(Debug)]
pub struct PostSecrets(pub ByName<PostSecret>);

/// What one of the secrets is to be, and under which condition.
#[derive(Debug)]
pub struct PostSecret {
    pub put: PutSecret,
    pub condition: Condition,
}

/// What `If-Match` and `If-None-Match` say for one secret alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    None,
    Exists,
    Version(u64),
    Absent,
}

/// What a client sends to store several secrets, all of them or none. Property names
/// are matched without regard to case; unknown ones are refused.
#[derive(ToSchema)]
#[schema(as = PostSecrets)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the OpenAPI document is made from it; PostSecrets reads bodies")]
pub struct PostSecretsBody {
    #[schema(min_items = 1, max_items = 100)]
    secrets: Vec<PostSecretBody>,
}

/// One secret of several. No name may be in it twice.
#[derive(ToSchema)]
#[schema(as = PostSecret)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the OpenAPI document is made from it; PostSecrets reads bodies")]
pub struct PostSecretBody {
    #[schema(pattern = "^[A-Za-z0-9_-]{1,127}$", example = "db-password")]
    name: String,
    /// The plaintext. It must be present and may be `null`.
    #[schema(required = true, nullable = true, example = "correct horse battery staple")]
    value: Option<String>,
    /// From this moment on it cannot be read: RFC 3339 with an offset.
    #[schema(format = DateTime, nullable = false, example = "2030-01-31T12:00:00Z")]
    expires_on: Option<String>,
    /// Until this moment it cannot be read: RFC 3339 with an offset.
    #[schema(format = DateTime, nullable = false, example = "2026-01-31T12:00:00Z")]
    not_before: Option<String>,
    /// `*`: there must be a secret that has not expired; or the version that it must
    /// have, as in its ETag without the quotes.
    #[schema(nullable = false, example = "17")]
    if_match: Option<String>,
    /// `*`: there must be no secret that has not expired.
    #[schema(nullable = false, pattern = r"^\*$")]
    if_none_match: Option<String>,
}

/// What was stored.
#[derive(Serialize, ToSchema)]
pub struct StoredSecrets {
    /// The new versions, in the order of the secrets; as in their ETags, without the quotes.
    #[schema(example = json!(["18", "19"]))]
    pub versions: Vec<String>,
}

const SECRETS: &str = "secrets";
const NAME: &str = "name";
const IF_MATCH: &str = "ifMatch";
const IF_NONE_MATCH: &str = "ifNoneMatch";

const SHAPE: &str = "must be an array of 1 to 100 objects";
const _: () = assert!(MAX_OBJECTS == 100, "as the sentence and the document say");

impl PostSecrets {
    /// Reads a JSON body. All faults of a well-formed one are told at once, but that a
    /// name is in it twice.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let mut objects = Vec::new();
        let take = |_: &mut Fields, _, value| match value {
            Value::Objects(all) => objects = all,
            Value::Null | Value::String(_) | Value::Strings(_) | Value::Other => {}
        };
        let unknown = "is not known: there is secrets alone";
        let mut fields = Fields::read(body, &[SECRETS], unknown, take)?;
        if objects.is_empty() && fields.are_sound() {
            fields.fault(SECRETS, SHAPE);
        }
        let mut secrets = Vec::with_capacity(objects.len());
        for (index, object) in objects.into_iter().enumerate() {
            secrets.extend(read(&mut fields, &place(index), object));
        }
        if !fields.are_sound() {
            return Err(fields.into_error());
        }
        ByName::new(secrets).map(Self).map_err(|RepeatedName { index }| {
            fields.fault(&format!("{}.{NAME}", place(index)), "is that of another one too");
            fields.into_error()
        })
    }
}

/// How a fault says which one it is about.
pub fn place(index: usize) -> String {
    format!("{SECRETS}[{index}]")
}

fn read(
    fields: &mut Fields,
    place: &str,
    object: Option<Members>,
) -> Option<(SecretName, PostSecret)> {
    let Some(members) = object else {
        fields.fault(place, "has too many properties");
        return None;
    };
    let mut draft = Draft::default();
    let known = [NAME, VALUE, EXPIRES_ON, NOT_BEFORE, IF_MATCH, IF_NONE_MATCH];
    let unknown =
        "is not known: there are name, value, expiresOn, notBefore, ifMatch and ifNoneMatch";
    let mut inner = Fields::of(members, &known, unknown, |inner, field, value| {
        draft.take(inner, field, value);
    });
    let read = draft.finish(&mut inner);
    fields.absorb(place, inner);
    read
}

/// A secret while it is read.
#[derive(Default)]
struct Draft {
    name: Option<SecretName>,
    secret: secret::Draft,
    if_match: Option<Condition>,
    if_none_match: Option<Condition>,
}

impl Draft {
    fn take(&mut self, fields: &mut Fields, field: &'static str, value: Value) {
        match (field, value) {
            (NAME, Value::String(text)) => match SecretName::parse(&text) {
                Ok(name) => self.name = Some(name),
                Err(error) => fields.fault(NAME, error.to_string()),
            },
            (NAME, _) => fields.fault(NAME, "must be a string"),
            (IF_MATCH, Value::String(text)) => match version_or_any(&text) {
                Some(condition) => self.if_match = Some(condition),
                None => fields.fault(IF_MATCH, MATCH_SHAPE),
            },
            (IF_MATCH, _) => fields.fault(IF_MATCH, MATCH_SHAPE),
            (IF_NONE_MATCH, Value::String(text)) if *text == "*" => {
                self.if_none_match = Some(Condition::Absent);
            }
            (IF_NONE_MATCH, _) => fields.fault(IF_NONE_MATCH, "must be *, or be left out"),
            (_, value) => self.secret.take(fields, field, value),
        }
    }

    fn finish(self, fields: &mut Fields) -> Option<(SecretName, PostSecret)> {
        if !fields.given(NAME) {
            fields.fault(NAME, "must be present");
        }
        let condition = match (self.if_match, self.if_none_match) {
            (Some(_), Some(_)) => {
                fields.fault(IF_NONE_MATCH, "must not be sent beside ifMatch");
                Condition::None
            }
            (condition, None) | (None, condition) => condition.unwrap_or(Condition::None),
        };
        let put = self.secret.finish(fields)?;
        Some((self.name?, PostSecret { put, condition }))
    }
}

const MATCH_SHAPE: &str = "must be *, or a version in a string such as 17, or be left out";

/// A version as this server writes it, in no other spelling.
fn version_or_any(text: &Zeroizing<String>) -> Option<Condition> {
    if text.as_str() == "*" {
        return Some(Condition::Exists);
    }
    let version = text.parse().ok().filter(|version: &u64| version.to_string() == **text);
    version.map(Condition::Version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<PostSecrets, BadBody> {
        PostSecrets::parse(body.as_bytes())
    }

    fn faults(body: &str) -> Vec<String> {
        match parse(body) {
            Err(BadBody::Invalid(errors)) => errors.into_keys().collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_body_is_secrets_in_their_order() {
        let body = r#"{"Secrets":[
            {"name":"b","value":"x","ifMatch":"17"},
            {"NAME":"a","Value":null,"IFNONEMATCH":"*","expiresOn":"2030-01-01T00:00:00Z"},
            {"name":"c","value":"","ifMatch":"*"},
            {"name":"d","value":"y\n"}
        ]}"#;
        let PostSecrets(secrets) = parse(body).unwrap();
        let read: Vec<_> = secrets
            .into_iter()
            .map(|(name, PostSecret { put, condition })| {
                let value = put.value.map(|value| value.expose().to_owned());
                (name.as_str().to_owned(), value, put.window.expires_on().is_some(), condition)
            })
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            read,
            [
                ("b".into(), text("x"), false, Condition::Version(17)),
                ("a".into(), None, true, Condition::Absent),
                ("c".into(), text(""), false, Condition::Exists),
                ("d".into(), text("y\n"), false, Condition::None),
            ]
        );
    }

    #[test]
    fn what_is_no_array_of_objects_is_refused() {
        let many = |count: usize| {
            let all: Vec<_> =
                (0..count).map(|n| format!(r#"{{"name":"n{n}","value":null}}"#)).collect();
            format!(r#"{{"secrets":[{}]}}"#, all.join(","))
        };
        assert_eq!(parse(&many(100)).unwrap().0.into_iter().count(), 100);
        for body in [
            "{}",
            r#"{"secrets":null}"#,
            r#"{"secrets":[]}"#,
            r#"{"secrets":{}}"#,
            r#"{"secrets":["a"]}"#,
            r#"{"secrets":[{"name":"a","value":"x"},1]}"#,
            r#"{"secrets":[[{"name":"a","value":"x"}]]}"#,
            &many(101),
        ] {
            assert_eq!(faults(body), ["secrets"], "{body:.80}");
        }
        assert_eq!(faults("[]"), ["body"]);
        assert_eq!(faults(r#"{"secrets":[{"name":"a","value":"x"}],"secret":1}"#), ["secret"]);
        assert!(matches!(parse(r#"{"secrets":[{"name":"a"]}"#), Err(BadBody::Malformed(_))));
    }

    #[test]
    fn a_fault_says_which_secret_it_is_of() {
        let second = |properties: &str| {
            faults(&format!(r#"{{"secrets":[{{"name":"a","value":"x"}},{{{properties}}}]}}"#))
        };
        for (properties, field) in [
            (r#""value":"x""#, "secrets[1].name"),
            (r#""name":"a.b","value":"x""#, "secrets[1].name"),
            (r#""name":1,"value":"x""#, "secrets[1].name"),
            (r#""name":"a","value":"x""#, "secrets[1].name"),
            (r#""name":"b","name":"b","value":"x""#, "secrets[1].name"),
            (r#""name":"b""#, "secrets[1].value"),
            (r#""name":"b","value":{}"#, "secrets[1].value"),
            (r#""name":"b","value":"x","expiresOn":"soon""#, "secrets[1].expiresOn"),
            (r#""name":"b","value":"x","expires_on":"soon""#, "secrets[1].expires_on"),
            (r#""name":"b","value":"x","my password":"soon""#, "secrets[1].(unknown)"),
            (r#""name":"b","value":"x","ifMatch":"\"17\"""#, "secrets[1].ifMatch"),
            (r#""name":"b","value":"x","ifMatch":"017""#, "secrets[1].ifMatch"),
            (r#""name":"b","value":"x","ifMatch":17"#, "secrets[1].ifMatch"),
            (r#""name":"b","value":"x","ifNoneMatch":"17""#, "secrets[1].ifNoneMatch"),
            (r#""name":"b","value":"x","ifMatch":"*","ifNoneMatch":"*""#, "secrets[1].ifNoneMatch"),
        ] {
            assert_eq!(second(properties), [field], "{properties}");
        }
        let window = r#""notBefore":"2030-01-01T00:00:00Z","expiresOn":"2030-01-01T00:00:00Z""#;
        assert_eq!(
            second(&format!(r#""name":"b","value":"x",{window}"#)),
            ["secrets[1].expiresOn"]
        );
        let many: Vec<_> = (0..17).map(|n| format!(r#""p{n}":1"#)).collect();
        assert_eq!(second(&many.join(",")), ["secrets[1]"]);
        assert_eq!(second(r#""more":1"#), ["secrets[1].more", "secrets[1].name"]);
    }

    #[test]
    fn no_refusal_repeats_a_value() {
        for body in [
            r#"{"secrets":[{"name":"hunter2!","value":"hunter2","hunter2 ":"hunter2"}]}"#,
            r#"{"secrets":[{"name":"a","value":"hunter2","ifMatch":"hunter2"}]}"#,
            r#"{"secrets":["hunter2"]}"#,
        ] {
            let refusal = format!("{:?}", parse(body).unwrap_err());
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}

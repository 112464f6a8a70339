//! The body of a PUT: what a secret is to be, and every way in which it is not
//! well said. And what a list tells of one.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{SecretValue, Timestamp, ValidityWindow};

use super::fields::Fields;
use super::json::{Malformed, Value};
use super::problem::FieldErrors;

/// A parsed body. It is valid because it exists.
#[derive(Debug)]
pub struct PutSecret {
    /// `None` is the JSON value `null`.
    pub value: Option<SecretValue>,
    pub window: ValidityWindow,
}

/// Why a body was refused. Neither form repeats a value.
#[derive(Debug, PartialEq, Eq)]
pub enum BadBody {
    Malformed(Malformed),
    Invalid(FieldErrors),
}

/// What a client sends to store a secret. Property names are matched without
/// regard to case; unknown ones are refused.
#[derive(ToSchema)]
#[schema(as = PutSecret)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the OpenAPI document is made from it; bodies are read by PutSecret")]
pub struct PutSecretBody {
    /// The plaintext. It must be present and may be `null`.
    #[schema(required = true, nullable = true, example = "correct horse battery staple")]
    value: Option<String>,
    /// From this moment on it cannot be read: RFC 3339 with an offset.
    #[schema(format = DateTime, nullable = false, example = "2030-01-31T12:00:00Z")]
    expires_on: Option<String>,
    /// Until this moment it cannot be read: RFC 3339 with an offset.
    #[schema(format = DateTime, nullable = false, example = "2026-01-31T12:00:00Z")]
    not_before: Option<String>,
}

/// One secret of a list with details.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedSecret<'l> {
    pub name: &'l str,
    /// As in its ETag, without the quotes.
    #[schema(example = "17")]
    pub version: String,
    pub state: SecretState,
    /// RFC 3339 in UTC; left out where it always could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    pub not_before: Option<String>,
    /// RFC 3339 in UTC; left out where it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    pub expires_on: Option<String>,
}

/// Where a listed secret is in its window; what has expired is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecretState {
    Valid,
    NotYetValid,
}

/// What a list answers, for the OpenAPI document; lists are made in pieces.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum SecretList<'l> {
    /// Sorted names.
    Names(Vec<String>),
    /// With `details=true`, sorted by name.
    Details(Vec<ListedSecret<'l>>),
}

impl<'l> ListedSecret<'l> {
    pub fn new(name: &'l str, version: u64, window: ValidityWindow, state: SecretState) -> Self {
        let told = |end: Option<Timestamp>| end.map(|at| at.to_string());
        let (not_before, expires_on) = (told(window.not_before()), told(window.expires_on()));
        Self { name, version: version.to_string(), state, not_before, expires_on }
    }
}

const VALUE: &str = "value";
const EXPIRES_ON: &str = "expiresOn";
const NOT_BEFORE: &str = "notBefore";

impl PutSecret {
    /// Reads a JSON body. All faults of a well-formed one are told at once.
    pub fn parse(body: &[u8]) -> Result<Self, BadBody> {
        let mut draft = Draft::default();
        let known = [VALUE, EXPIRES_ON, NOT_BEFORE];
        let unknown = "is not known: there are value, expiresOn and notBefore";
        let take = |fields: &mut Fields, field, value| draft.take(fields, field, value);
        let fields = Fields::read(body, &known, unknown, take)?;
        draft.finish(fields)
    }
}

/// A body while it is read.
#[derive(Default)]
struct Draft {
    value: Option<SecretValue>,
    expires_on: Option<Timestamp>,
    not_before: Option<Timestamp>,
}

impl Draft {
    fn take(&mut self, fields: &mut Fields, field: &'static str, value: Value) {
        match (field, value) {
            (VALUE, Value::String(plaintext)) => self.value = Some(SecretValue::new(plaintext)),
            (VALUE, Value::Null) => {}
            (VALUE, Value::Other | Value::Strings(_)) => {
                fields.fault(VALUE, "must be a string or null")
            }
            (_, Value::String(text)) => match Timestamp::parse(&text) {
                Ok(time) if field == EXPIRES_ON => self.expires_on = Some(time),
                Ok(time) => self.not_before = Some(time),
                Err(error) => fields.fault(field, error.to_string()),
            },
            (_, Value::Null | Value::Other | Value::Strings(_)) => {
                fields.fault(field, "must be an RFC 3339 date-time in a string, or be left out");
            }
        }
    }

    fn finish(self, mut fields: Fields) -> Result<PutSecret, BadBody> {
        if fields.are_sound() && !fields.given(VALUE) {
            fields.fault(VALUE, "must be present; it may be null");
        }
        let window = ValidityWindow::new(self.not_before, self.expires_on);
        if let Err(empty) = window {
            fields.fault(EXPIRES_ON, empty.to_string());
        }
        match window {
            Ok(window) if fields.are_sound() => Ok(PutSecret { value: self.value, window }),
            _ => Err(fields.into_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn errors(body: &str) -> Vec<(String, Vec<String>)> {
        match PutSecret::parse(body.as_bytes()) {
            Err(BadBody::Invalid(errors)) => errors
                .into_iter()
                .map(|(field, all)| (field, all.into_iter().map(Cow::into_owned).collect()))
                .collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    fn fields(body: &str) -> Vec<String> {
        errors(body).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn names_of_properties_have_no_case() {
        let body = br#"{"VALUE":"x","ExpiresOn":"2030-01-01T00:00:00Z","notbefore":"2029-01-01T00:00:00+01:00"}"#;
        let put = PutSecret::parse(body).unwrap();
        assert_eq!(put.value.unwrap().expose(), "x");
        assert_eq!(
            put.window.expires_on(),
            Some(Timestamp::parse("2030-01-01T00:00:00Z").unwrap())
        );
        assert_eq!(
            put.window.not_before(),
            Some(Timestamp::parse("2028-12-31T23:00:00Z").unwrap())
        );
    }

    #[test]
    fn null_is_a_value_and_absence_is_not() {
        assert!(PutSecret::parse(br#"{"value":null}"#).unwrap().value.is_none());
        assert_eq!(PutSecret::parse(br#"{"value":""}"#).unwrap().value.unwrap().len(), 0);
        assert_eq!(
            errors("{}"),
            [("value".into(), vec!["must be present; it may be null".into()])]
        );
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for body in [r#"{"value":1}"#, r#"{"value":true}"#, r#"{"value":{}}"#, r#"{"value":["a"]}"#]
        {
            assert_eq!(fields(body), ["value"], "{body}");
        }
    }

    #[test]
    fn a_misspelt_property_is_refused() {
        assert_eq!(fields(r#"{"value":"x","expires_on":"2030-01-01T00:00:00Z"}"#), ["expires_on"]);
        assert_eq!(fields(r#"{"value":"x","my password is":1}"#), ["(unknown)"]);
    }

    #[test]
    fn a_property_given_twice_is_refused_in_any_case() {
        assert_eq!(fields(r#"{"value":"x","Value":"y"}"#), ["value"]);
        assert_eq!(fields(r#"{"value":null,"value":null}"#), ["value"]);
        let body = r#"{"value":"x","expiresOn":"2030-01-01T00:00:00Z","EXPIRESON":"2031-01-01T00:00:00Z"}"#;
        assert_eq!(fields(body), ["expiresOn"]);
    }

    #[test]
    fn times_are_strict() {
        for time in [
            "1893499200",
            "null",
            r#""2030-01-01""#,
            r#""2030-01-01T00:00:00""#,
            r#""10000-01-01T00:00:00Z""#,
            r#""2030-06-30T23:59:60Z""#,
            r#""2030-02-30T00:00:00Z""#,
        ] {
            assert_eq!(fields(&format!(r#"{{"value":"x","expiresOn":{time}}}"#)), ["expiresOn"]);
            assert_eq!(fields(&format!(r#"{{"value":"x","notBefore":{time}}}"#)), ["notBefore"]);
        }
    }

    #[test]
    fn an_empty_window_is_refused() {
        let body = r#"{"value":"x","expiresOn":"2030-01-01T00:00:00Z","notBefore":"2030-01-01T00:00:00Z"}"#;
        assert_eq!(fields(body), ["expiresOn"]);
    }

    #[test]
    fn all_faults_are_told_at_once_and_in_bounds() {
        assert_eq!(
            fields(r#"{"value":1,"expiresOn":2,"notBefore":3,"extra":4}"#),
            ["expiresOn", "extra", "notBefore", "value"]
        );
        let many: Vec<_> = (0..1000).map(|n| format!("\"p{n}\":1")).collect();
        assert!(fields(&format!("{{{}}}", many.join(","))).len() <= Fields::MAX);
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in ["[]", "\"text\"", "1", "null"] {
            assert!(fields(body).contains(&"body".to_owned()), "{body}");
        }
    }

    #[test]
    fn a_malformed_body_is_told_from_an_invalid_one() {
        for body in ["", "{", r#"{"value":"x"} x"#, r#"{"value":"\ud800"}"#, r#"{"value":1,}"#] {
            assert!(
                matches!(PutSecret::parse(body.as_bytes()), Err(BadBody::Malformed(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn no_refusal_repeats_the_value() {
        for body in [r#"{"value":"hunter2","value":"hunter2"}"#, r#"{"value":"hunter2"#] {
            let refusal = format!("{:?}", PutSecret::parse(body.as_bytes()).unwrap_err());
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }
}

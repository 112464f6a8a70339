//! What goes over the wire, as types: bodies that are sent, answers that are read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::transport::Answer;
use super::{ClientError, Condition, Description, Entry, NewSecret, Page, State, Version, window};
use crate::domain::{SecretName, SecretValue, Timestamp, ValidityWindow};

const NOT_BEFORE: &str = "tenure-not-before";
const EXPIRES_ON: &str = "tenure-expires-on";

/// The value of a secret: a JSON string or `null`.
pub(super) fn value(answer: &Answer) -> Result<Option<SecretValue>, ClientError> {
    let value: Option<String> = understood(answer)?;
    Ok(value.map(|value| SecretValue::new(Zeroizing::new(value))))
}

/// Of an `ETag`.
pub(super) fn version(answer: &Answer) -> Result<Version, ClientError> {
    let etag = answer.header("etag").ok_or_else(|| answer.not_understood())?;
    let version = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Ok(Version(version.ok_or_else(|| answer.not_understood())?.to_owned()))
}

pub(super) fn window_of(answer: &Answer) -> ValidityWindow {
    let end = |name| Timestamp::parse(answer.header(name)?).ok();
    window(end(NOT_BEFORE), end(EXPIRES_ON)).unwrap_or_default()
}

/// The body of a PUT.
pub(super) fn body(new: &NewSecret) -> Zeroizing<Vec<u8>> {
    sent(&Wire::of(new))
}

pub(super) fn batch(entries: &[Entry]) -> Zeroizing<Vec<u8>> {
    let secrets = entries.iter().map(|entry| {
        let (if_match, if_none_match) = match &entry.condition {
            Condition::None => (None, None),
            Condition::Absent => (None, Some("*")),
            Condition::Unchanged(version) => (Some(version.as_str()), None),
        };
        WireEntry {
            name: entry.name.as_str(),
            secret: Wire::of(&entry.secret),
            if_match,
            if_none_match,
        }
    });
    sent(&WireBatch { secrets: secrets.collect() })
}

pub(super) fn versions(answer: &Answer) -> Result<Vec<Version>, ClientError> {
    let Versions { versions } = understood(answer)?;
    Ok(versions.into_iter().map(Version).collect())
}

/// A page of which `item` understands every member.
pub(super) fn page<W: DeserializeOwned, T>(
    answer: &Answer,
    item: impl Fn(W) -> Option<T>,
) -> Result<Page<T>, ClientError> {
    let wire: Vec<W> = understood(answer)?;
    let items: Option<Vec<T>> = wire.into_iter().map(item).collect();
    let items = items.ok_or_else(|| answer.not_understood())?;
    Ok(Page { items, more: answer.header("link").is_some() })
}

fn understood<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|_| answer.not_understood())
}

/// In a buffer that is not outgrown by small values, and wiped.
fn sent(body: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 * 1024));
    // Writing strings to memory does not fail.
    let _ = serde_json::to_writer(&mut *bytes, body);
    bytes
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'s> {
    value: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_on: Option<String>,
}

impl<'s> Wire<'s> {
    fn of(NewSecret { value, window }: &'s NewSecret) -> Self {
        Self {
            value: value.as_ref().map(SecretValue::expose),
            not_before: window.not_before().map(|time| time.to_string()),
            expires_on: window.expires_on().map(|time| time.to_string()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry<'s> {
    name: &'s str,
    #[serde(flatten)]
    secret: Wire<'s>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_match: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_none_match: Option<&'s str>,
}

#[derive(Serialize)]
struct WireBatch<'s> {
    secrets: Vec<WireEntry<'s>>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<String>,
}

/// A member of a list with details. What a later version adds is not minded.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    name: String,
    version: String,
    state: String,
    not_before: Option<String>,
    expires_on: Option<String>,
}

impl Described {
    pub(super) fn known(self) -> Option<Description> {
        let Self { name, version, state, not_before, expires_on } = self;
        let end = |text: Option<String>| text.map(|text| Timestamp::parse(&text)).transpose().ok();
        let state = match state.as_str() {
            "valid" => State::Valid,
            "notYetValid" => State::NotYetValid,
            _ => return None,
        };
        Some(Description {
            name: SecretName::parse(&name).ok()?,
            version: Version(version),
            window: window(end(not_before)?, end(expires_on)?)?,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(value: Option<&str>) -> NewSecret {
        let value = value.map(|value| SecretValue::new(Zeroizing::new(value.to_owned())));
        let at = Timestamp::from_unix_seconds(1_900_000_000);
        NewSecret { value, window: ValidityWindow::new(None, Some(at)).unwrap() }
    }

    #[test]
    fn a_body_holds_the_ends_that_there_are() {
        let text = |new: &NewSecret| String::from_utf8(body(new).to_vec()).unwrap();
        assert_eq!(
            text(&new(Some("a\"b"))),
            r#"{"value":"a\"b","expiresOn":"2030-03-17T17:46:40Z"}"#
        );
        let open = NewSecret { value: None, window: ValidityWindow::default() };
        assert_eq!(text(&open), r#"{"value":null}"#);
    }

    #[test]
    fn a_batch_says_the_condition_of_each() {
        let entry = |name, condition| Entry {
            name: SecretName::parse(name).unwrap(),
            secret: NewSecret { value: None, window: ValidityWindow::default() },
            condition,
        };
        let entries = [
            entry("a", Condition::None),
            entry("b", Condition::Absent),
            entry("c", Condition::Unchanged(Version("17".to_owned()))),
        ];
        assert_eq!(
            String::from_utf8(batch(&entries).to_vec()).unwrap(),
            r#"{"secrets":[{"name":"a","value":null},{"name":"b","value":null,"ifNoneMatch":"*"},{"name":"c","value":null,"ifMatch":"17"}]}"#
        );
    }

    #[test]
    fn a_description_that_makes_no_sense_is_none() {
        let known = |json: &str| serde_json::from_str::<Described>(json).unwrap().known();
        let sound = r#"{"name":"a","version":"1","state":"valid","later":1}"#;
        assert_eq!(known(sound).unwrap().state, State::Valid);
        for json in [
            r#"{"name":"a/b","version":"1","state":"valid"}"#,
            r#"{"name":"a","version":"1","state":"expired"}"#,
            r#"{"name":"a","version":"1","state":"valid","expiresOn":"soon"}"#,
        ] {
            assert_eq!(known(json), None, "{json}");
        }
    }
}

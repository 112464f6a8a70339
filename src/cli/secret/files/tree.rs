//! What JSON and YAML have in common: an object of names, each with a value or with what
//! makes a secret, by the names of the API.

use zeroize::Zeroizing;

use super::{Fault, Item};
use crate::domain::{SecretName, SecretValue, Timestamp, ValidityWindow};

/// A file, as far as it can be one of secrets.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Text(Zeroizing<String>),
    Object(Vec<Member>),
    /// What it is, in words.
    Other(&'static str),
}

#[derive(Debug)]
pub(super) struct Member {
    /// Where it is, in words.
    pub(super) place: String,
    pub(super) name: Zeroizing<String>,
    pub(super) node: Node,
}

/// Objects within one another; a deeper one is refused, so nothing need be kept of it.
pub(super) const MOST_DEEP: usize = 2;

const VALUE: &str = "value";
const EXPIRES_ON: &str = "expiresOn";
const NOT_BEFORE: &str = "notBefore";

pub(super) fn items(root: Node) -> Result<Vec<Item>, Fault> {
    let Node::Object(members) = root else {
        return Err(Fault::of_all("it must be one object, of names and values"));
    };
    members.into_iter().map(item).collect()
}

fn item(Member { place, name, node }: Member) -> Result<Item, Fault> {
    let name = SecretName::parse(&name)
        .map_err(|error| Fault::at(place, format!("the name of a secret {error}")))?;
    let shown = format!("'{}'", name.as_str());
    let (value, window) = match node {
        Node::Null => (None, ValidityWindow::default()),
        Node::Text(value) => (Some(SecretValue::new(value)), ValidityWindow::default()),
        Node::Object(members) => described(&shown, members)?,
        Node::Other(what) => return Err(no_value(&shown, what)),
    };
    Ok(Item { name, value, window })
}

fn no_value(path: &str, what: &str) -> Fault {
    Fault::at(path, format!("it is {what}, and a value is text or null; quote what is text"))
}

/// `{"value", "expiresOn"?, "notBefore"?}`; as in the API, in any case of letters.
fn described(
    shown: &str,
    members: Vec<Member>,
) -> Result<(Option<SecretValue>, ValidityWindow), Fault> {
    let (mut value, mut expires_on, mut not_before) = (None, None, None);
    for Member { name, node, .. } in members {
        let (known, taken_before) = if name.eq_ignore_ascii_case(VALUE) {
            (VALUE, value.replace(self::value(shown, node)?).is_some())
        } else if name.eq_ignore_ascii_case(EXPIRES_ON) {
            (EXPIRES_ON, expires_on.replace(time(shown, EXPIRES_ON, node)?).is_some())
        } else if name.eq_ignore_ascii_case(NOT_BEFORE) {
            (NOT_BEFORE, not_before.replace(time(shown, NOT_BEFORE, node)?).is_some())
        } else {
            return Err(Fault::at(
                shown,
                "it has a property that is not known: there are value, expiresOn and notBefore",
            ));
        };
        if taken_before {
            return Err(Fault::at(format_args!("{shown}.{known}"), "it is said more than once"));
        }
    }
    let value = value.ok_or_else(|| Fault::at(shown, "value is missing; it may be null"))?;
    let window = ValidityWindow::new(not_before, expires_on)
        .map_err(|error| Fault::at(format_args!("{shown}.{EXPIRES_ON}"), error))?;
    Ok((value, window))
}

fn value(shown: &str, node: Node) -> Result<Option<SecretValue>, Fault> {
    match node {
        Node::Null => Ok(None),
        Node::Text(value) => Ok(Some(SecretValue::new(value))),
        Node::Object(_) => Err(no_value(&format!("{shown}.{VALUE}"), "an object")),
        Node::Other(what) => Err(no_value(&format!("{shown}.{VALUE}"), what)),
    }
}

fn time(shown: &str, property: &str, node: Node) -> Result<Timestamp, Fault> {
    let place = format!("{shown}.{property}");
    match node {
        Node::Text(text) => Timestamp::parse(&text).map_err(|error| Fault::at(place, error)),
        _ => Err(Fault::at(place, "it must be an RFC 3339 date-time in quotes, or be left out")),
    }
}

//! `If-Match` and `If-None-Match` of a write (RFC 9110, 13.1), as preconditions
//! of the vault.
//!
//! An ETag is the secret's version in decimal, between quotes. What cannot be
//! evaluated is refused: a condition that is ignored lets a write through that
//! its sender meant to stop.

use actix_web::http::header::{self, HeaderMap};

use crate::api::problem::Code;
use crate::vault::Precondition;

use super::problem::Refused;

/// The most versions one `If-Match` may list.
const MAX_VERSIONS: usize = 8;

pub(super) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Each of several secrets has a condition of its own, in the body.
pub(super) fn none_of_all(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH) {
        return Err(refused("Of several secrets each has its ifMatch or ifNoneMatch in the body."));
    }
    Ok(())
}

pub(super) fn of_write(headers: &HeaderMap) -> Result<Precondition, Refused> {
    let if_match = list(headers, &header::IF_MATCH)?;
    let if_none_match = list(headers, &header::IF_NONE_MATCH)?;
    match (if_match.as_deref(), if_none_match.as_deref()) {
        (None, None) => Ok(Precondition::None),
        (None, Some("*")) => Ok(Precondition::Absent),
        (Some("*"), None) => Ok(Precondition::Exists),
        (Some(tags), None) => versions(tags),
        (None, Some(_)) => Err(refused("If-None-Match of a write may only be *.")),
        (Some(_), Some(_)) => Err(refused("Send either If-Match or If-None-Match, not both.")),
    }
}

fn refused(detail: &'static str) -> Refused {
    Refused::new(Code::InvalidPrecondition, detail)
}

/// The header's lines as one list (RFC 9110, 5.3).
fn list(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<String>, Refused> {
    let mut joined: Option<String> = None;
    for line in headers.get_all(name) {
        let line = line.to_str().map_err(|_| refused("A precondition is not readable."))?.trim();
        joined = Some(joined.map_or_else(|| line.to_owned(), |before| format!("{before},{line}")));
    }
    Ok(joined)
}

fn versions(tags: &str) -> Result<Precondition, Refused> {
    let garbled = || refused("If-Match must be *, or entity tags such as \"7\".");
    let mut versions = Vec::new();
    let mut rest = tags;
    let mut tags_seen = 0_usize;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (weak, strong) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
        let (tag, after) =
            strong.strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(garbled)?;
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(garbled());
        }
        tags_seen += 1;
        // A weak tag never matches here (RFC 9110, 13.1.1), a foreign one cannot.
        if !weak {
            versions.extend(version(tag));
        }
    }
    versions.sort_unstable();
    versions.dedup();
    match (tags_seen, versions.len()) {
        (0, _) => Err(garbled()),
        (_, 0..=MAX_VERSIONS) => Ok(Precondition::Versions(versions)),
        _ => Err(refused("If-Match may list at most 8 versions.")),
    }
}

/// The version that this server wrote so, and no other spelling of it.
fn version(tag: &str) -> Option<u64> {
    tag.parse().ok().filter(|version: &u64| version.to_string() == tag)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn of(sent: &[(&'static str, &str)]) -> Result<Precondition, Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        of_write(&headers).map_err(|refused| refused.code())
    }

    #[test]
    fn conditions_become_preconditions() {
        use Precondition::{Absent, Exists, None, Versions};
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("if-match", "*")]), Ok(Exists));
        assert_eq!(of(&[("if-none-match", "*")]), Ok(Absent));
        assert_eq!(of(&[("if-match", "\"7\"")]), Ok(Versions(vec![7])));
        let versions = Ok(Versions(vec![3, 7]));
        assert_eq!(of(&[("if-match", "\"7\" , \"3\",\"7\"")]), versions);
        assert_eq!(of(&[("if-match", "\"7\""), ("if-match", "\"3\"")]), versions);
    }

    #[test]
    fn what_this_server_never_wrote_matches_nothing() {
        for tag in
            ["\"x\"", "W/\"7\"", "\"07\"", "\"+7\"", "\"\"", "\"a,b\"", "\"99999999999999999999\""]
        {
            assert_eq!(of(&[("if-match", tag)]), Ok(Precondition::Versions(vec![])), "{tag}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        let nine = (0..9).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",");
        for tag in ["", ",", "7", "\"7", "\"7\" \"8\"", "\"7\", *", "'7'", "\"\u{e4}\"x", &nine] {
            assert_eq!(of(&[("if-match", tag)]), Err(Code::InvalidPrecondition), "{tag}");
        }
        for tag in ["\"7\"", "W/\"7\"", "", "*, *"] {
            assert_eq!(of(&[("if-none-match", tag)]), Err(Code::InvalidPrecondition), "{tag}");
        }
        let both = of(&[("if-match", "*"), ("if-none-match", "*")]);
        assert_eq!(both, Err(Code::InvalidPrecondition));
    }

    #[test]
    fn an_etag_comes_back_as_its_version() {
        for version in [0, 1, u64::MAX] {
            assert_eq!(
                of(&[("if-match", &etag(version))]),
                Ok(Precondition::Versions(vec![version]))
            );
        }
    }
}

//! The one credential of a request.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::api::problem::Code;

use super::problem::{self, Refused};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What was sent, undecoded and unverified.
#[derive(Clone, Copy)]
pub(super) enum Sent<'h> {
    Bearer(&'h str),
    ApiKey(&'h str),
}

/// The credential of a request.
///
/// Two credentials are refused rather than ranked: whichever one a proxy or a
/// log took for the caller's must be the one that was judged.
pub(super) fn sent(headers: &HeaderMap) -> Result<Sent<'_>, Refused> {
    let mut tokens = headers.get_all(header::AUTHORIZATION);
    let mut keys = headers.get_all(&API_KEY);
    match (tokens.next(), tokens.next(), keys.next(), keys.next()) {
        (None, None, None, None) => Err(problem::credential_missing()),
        (Some(authorization), None, None, None) => {
            token(authorization).map(Sent::Bearer).ok_or_else(problem::credential_invalid)
        }
        (None, None, Some(key), None) => {
            ascii(key).map(Sent::ApiKey).ok_or_else(problem::credential_invalid)
        }
        _ => Err(Refused::new(
            Code::AmbiguousCredential,
            "Send one credential: a single Authorization header or a single X-API-KEY header.",
        )),
    }
}

/// `Bearer <token>`; the scheme has no case (RFC 9110, 11.1).
fn token(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = ascii(authorization)?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

/// As [`HeaderValue::to_str`], which looks at one byte after the other; controls are in no
/// header's value.
fn ascii(value: &HeaderValue) -> Option<&str> {
    let bytes = value.as_bytes();
    std::str::from_utf8(bytes).ok().filter(|_| bytes.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(sent: &[(&str, &str)]) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let sent = super::sent(&headers).map_err(|refused| refused.code())?;
        Ok(match sent {
            Sent::Bearer(token) => format!("bearer {token}"),
            Sent::ApiKey(key) => format!("key {key}"),
        })
    }

    #[test]
    fn a_bearer_token_is_taken() {
        assert_eq!(judge(&[("Authorization", "Bearer abc")]).unwrap(), "bearer abc");
        assert_eq!(judge(&[("authorization", "bEARER  abc ")]).unwrap(), "bearer abc");
    }

    #[test]
    fn an_api_key_is_taken_as_it_is() {
        for key in ["tnr_1_2", "", " a "] {
            assert_eq!(judge(&[("x-api-key", key)]).unwrap(), format!("key {key}"));
        }
    }

    #[test]
    fn no_credential_is_missing() {
        assert_eq!(judge(&[]), Err(Code::CredentialMissing));
    }

    #[test]
    fn a_garbled_credential_is_invalid() {
        for value in ["", "Bearer", "Bearer ", "Basic dTpw", "abc", "Bearer\tabc", "Bearer \u{e4}"]
        {
            assert_eq!(judge(&[("Authorization", value)]), Err(Code::CredentialInvalid), "{value}");
        }
        assert_eq!(judge(&[("X-API-KEY", "\u{e4}")]), Err(Code::CredentialInvalid));
    }

    #[test]
    fn two_credentials_are_ambiguous() {
        let (token, key) = (("Authorization", "Bearer a"), ("X-API-KEY", "k"));
        for sent in [&[token, key][..], &[token, token], &[key, key], &[token, token, key]] {
            assert_eq!(judge(sent), Err(Code::AmbiguousCredential), "{sent:?}");
        }
        assert_eq!(judge(&[("Authorization", ""), key]), Err(Code::AmbiguousCredential));
    }
}

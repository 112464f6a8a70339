//! `X-Request-Id`: the caller's, or a fresh one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LEN: usize = 64;

/// Taken over only if it matches `[A-Za-z0-9._-]{1,64}`, so that what stands in a
/// log line or a header cannot be forged by it.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(&HEADER);
    match (given.next(), given.next()) {
        // A clone would be a slice of all that the connection read.
        (Some(id), None) if is_plain(id.as_bytes()) => {
            HeaderValue::from_bytes(id.as_bytes()).unwrap_or_else(|_| fresh())
        }
        _ => fresh(),
    }
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_LEN).contains(&id.len()) && id.iter().all(plain)
}

/// 64 bits that differ from all others of this process and tell nothing of their
/// number. An id is no secret, so the hasher's randomness is enough.
fn fresh() -> HeaderValue {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = KEYS.hash_one(COUNT.fetch_add(1, Ordering::Relaxed));
    let mut text = [0; 16];
    // Eight bytes are sixteen digits, and digits are a header value.
    let _ = hex::encode_to_slice(id.to_be_bytes(), &mut text);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ids: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for id in ids {
            headers.append(HEADER, HeaderValue::from_bytes(id.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_plain_id_is_taken_over() {
        for id in ["a", "7.x_Y-z", &"i".repeat(64)] {
            assert_eq!(of(&with(&[id])), id);
        }
    }

    #[test]
    fn any_other_is_replaced() {
        for ids in [&[][..], &[""], &["a b"], &["a\tb"], &["ü"], &["a;b"], &["a", "a"]] {
            let id = of(&with(ids));
            assert!(is_plain(id.as_bytes()) && id.len() == 16, "{ids:?}");
        }
        assert_eq!(of(&with(&[&"i".repeat(65)])).len(), 16);
        assert_ne!(of(&with(&[])), of(&with(&[])));
    }
}

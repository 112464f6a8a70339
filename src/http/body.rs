//! A request's JSON body, read within bounds of size and time into memory that is
//! wiped. (The connection's own read buffer belongs to actix, and is wiped when the
//! connection ends.)

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use futures_util::StreamExt;
use zeroize::Zeroizing;

use crate::api::problem::Code;
use crate::vault::Vault;

use super::problem::{self, Refused};

/// What a body may hold, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub holds: Holds,
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    /// A value of at most so many bytes, and some properties.
    Value { max_bytes: usize },
    /// Several values and some properties of each.
    Values,
    /// A few short properties.
    Properties,
}

impl Bounds {
    const PROPERTIES_BYTES: usize = 4096;
    /// Twice what the values may take: in JSON few take twice as much, and what is read
    /// stays in memory until it is parsed.
    const VALUES_BYTES: usize = 2 * Vault::MAX_TOGETHER_BYTES;

    /// A byte of a value takes at most six in JSON (`\u0001`); the rest is for
    /// the other properties.
    fn max_body_bytes(self) -> usize {
        match self.holds {
            Holds::Value { max_bytes } => {
                max_bytes.saturating_mul(6).saturating_add(Self::PROPERTIES_BYTES)
            }
            Holds::Values => Self::VALUES_BYTES,
            Holds::Properties => Self::PROPERTIES_BYTES,
        }
    }

    fn too_large(self) -> Refused {
        match self.holds {
            Holds::Value { max_bytes } => problem::value_too_large(max_bytes),
            Holds::Values => {
                let max = Self::VALUES_BYTES;
                let detail =
                    format!("The body may be at most {max} bytes. Send fewer secrets at a time.");
                Refused::new(Code::BodyTooLarge, detail)
            }
            Holds::Properties => {
                let max = Self::PROPERTIES_BYTES;
                Refused::new(Code::BodyTooLarge, format!("The body may be at most {max} bytes."))
            }
        }
    }
}

pub(super) async fn json(
    headers: &HeaderMap,
    payload: &mut Payload,
    bounds: Bounds,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    media_type(headers)?;
    let announced = announced(headers, bounds)?;
    tokio::time::timeout(bounds.timeout, read(payload, announced, bounds)).await.unwrap_or_else(
        |_| Err(Refused::new(Code::BodyTimeout, "The body did not arrive in time.")),
    )
}

/// `application/json`, in UTF-8, not compressed.
fn media_type(headers: &HeaderMap) -> Result<(), Refused> {
    let unsupported = |detail| Err(Refused::new(Code::UnsupportedMediaType, detail));
    let mut types = headers.get_all(header::CONTENT_TYPE);
    let json = match (types.next().map(HeaderValue::to_str), types.next()) {
        (Some(Ok(value)), None) => is_json(value),
        _ => false,
    };
    if !json {
        return unsupported("Send the body as Content-Type: application/json, in UTF-8.");
    }
    let mut codings = headers.get_all(header::CONTENT_ENCODING);
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported("Send the body without a Content-Encoding.").map_err(|refused| {
            let accepted = HeaderName::from_static("accept-encoding");
            refused.with_header(accepted, HeaderValue::from_static("identity"))
        });
    }
    Ok(())
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
        && parts.filter(|part| !part.is_empty()).all(|part| {
            part.split_once('=').is_some_and(|(name, value)| {
                let value = value.trim_matches('"');
                name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")
            })
        })
}

/// What is set aside before anything has arrived: most bodies fit.
const FIRST_BYTES: usize = 8 * 1024;

/// The announced length, refused unread where it is too large.
fn announced(headers: &HeaderMap, bounds: Bounds) -> Result<usize, Refused> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(0) };
    match length.to_str().ok().and_then(|length| length.parse().ok()) {
        Some(length) if length <= bounds.max_body_bytes() => Ok(length),
        _ => Err(bounds.too_large()),
    }
}

async fn read(
    payload: &mut Payload,
    announced: usize,
    bounds: Bounds,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    // Memory follows what has arrived, not what a header promises.
    let mut body = Zeroizing::new(Vec::with_capacity(announced.min(FIRST_BYTES)));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| {
            Refused::new(Code::IncompleteBody, "The body ended early or its framing is garbled.")
        })?;
        let length = body.len().saturating_add(chunk.len());
        if length > bounds.max_body_bytes() {
            return Err(bounds.too_large());
        }
        if length > body.capacity() {
            body = grown(&body, length);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A copy with room for `length` bytes and as many again; the old one is wiped by
/// the caller's assignment, which a growing `Vec` would not do.
fn grown(body: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut larger = Zeroizing::new(Vec::with_capacity(length.saturating_mul(2)));
    larger.extend_from_slice(body);
    larger
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use actix_web::web::Bytes;
    use futures_util::{Stream, stream};

    use super::*;

    const BOUNDS: Bounds =
        Bounds { holds: Holds::Value { max_bytes: 10 }, timeout: Duration::from_millis(50) };

    fn headers(sent: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    async fn body(
        sent: &[(&'static str, &str)],
        chunks: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
    ) -> Result<Vec<u8>, Code> {
        let chunks: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> =
            Box::pin(chunks);
        let mut payload = Payload::Stream { payload: chunks };
        let read = json(&headers(sent), &mut payload, BOUNDS).await;
        read.map(|body| body.to_vec()).map_err(|refused| refused.code())
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn only_json_in_utf8_is_taken() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json;",
        ] {
            assert!(media_type(&headers(&[("content-type", good)])).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=latin1",
            "application/json; profile=x",
            "application/x-www-form-urlencoded",
            "application/problem+json",
        ] {
            assert!(media_type(&headers(&[("content-type", bad)])).is_err(), "{bad}");
        }
        assert!(media_type(&headers(&[])).is_err());
        assert!(media_type(&headers(&[JSON, JSON])).is_err());
        assert!(media_type(&headers(&[JSON, ("content-encoding", "gzip")])).is_err());
        assert!(media_type(&headers(&[JSON, ("content-encoding", "identity")])).is_ok());
    }

    #[actix_web::test]
    async fn chunks_are_joined() {
        let chunks = (0..40).map(|n| Ok(Bytes::from(format!("{n},"))));
        let expected: String = (0..40).map(|n| format!("{n},")).collect();
        assert_eq!(body(&[JSON], stream::iter(chunks)).await.unwrap(), expected.as_bytes());
    }

    #[actix_web::test]
    async fn a_body_announced_too_large_is_not_read() {
        let unread = stream::poll_fn(|_| panic!("the body was read"));
        let sent = [JSON, ("content-length", "4157")];
        assert_eq!(body(&sent, unread).await, Err(Code::ValueTooLarge));
    }

    #[actix_web::test]
    async fn a_body_that_grows_too_large_is_given_up() {
        let endless = stream::repeat_with(|| Ok(Bytes::from(vec![b' '; 1000])));
        assert_eq!(body(&[JSON], endless).await, Err(Code::ValueTooLarge));
    }

    #[actix_web::test]
    async fn a_body_that_does_not_arrive_is_given_up() {
        assert_eq!(body(&[JSON], stream::pending()).await, Err(Code::BodyTimeout));
    }

    #[actix_web::test]
    async fn a_body_that_breaks_off_is_refused() {
        let broken = stream::iter([Ok(Bytes::from("{")), Err(PayloadError::Incomplete(None))]);
        assert_eq!(body(&[JSON], broken).await, Err(Code::IncompleteBody));
    }

    /// Texts that are JSON, nearly JSON, or neither.
    fn texts() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        const PIECES: &[&str] = &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\"v\"",
            "\"value\":",
            "null",
            "true",
            "fals",
            "0",
            "-",
            "1.5",
            "e",
            "E+2",
            "\\",
            "\\n",
            "\\u0041",
            "\\ud83d",
            "\\ude00",
            "\\u00",
            " ",
            "\n",
            "\t",
            "\u{1}",
            "ä",
            "😀",
            "\"a\\u00e4\"",
            "{\"a\":1}",
            "[1,\"x\"]",
            "\u{feff}",
            "/",
            "01",
            ".",
        ];
        let piece = proptest::sample::select(PIECES);
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest::proptest! {
        /// serde_json is the model; it has no part in reading what is stored.
        #[test]
        fn what_is_read_is_what_serde_json_reads(text in texts(), open in "\\{?\"?") {
            let text = format!("{open}{text}");
            let model = serde_json::from_str::<serde_json::Value>(&text);
            let mut members = Vec::new();
            let read = crate::api::json::read(text.as_bytes(), |name, value| {
                let plain = match value {
                    crate::api::json::Value::String(plain) => Some(plain.to_string()),
                    _ => None,
                };
                members.push((name.to_string(), plain));
            });
            proptest::prop_assert_eq!(read.is_ok(), model.is_ok(), "{} {:?} {:?}", text, read, model);
            if let Ok(serde_json::Value::Object(model)) = model {
                for (name, value) in model {
                    let last = members.iter().rev().find(|(member, _)| *member == name);
                    let read = last.and_then(|(_, plain)| plain.as_deref());
                    proptest::prop_assert_eq!(read, value.as_str());
                }
            }
        }
    }
}

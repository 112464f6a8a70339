//! In which of its two forms a value is answered (RFC 9110, 12.5.1), and who takes what
//! is compressed (12.5.3).

use actix_web::http::header::{self, HeaderMap};

use crate::api::problem::Code;

use super::problem::Refused;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON string, or `null`.
    Json,
    /// The bare value.
    Text,
}

/// The preferred form; JSON where both are as welcome, or nothing is said.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, Refused> {
    let mut wishes = headers.get_all(header::ACCEPT).peekable();
    if wishes.peek().is_none() {
        return Ok(Form::Json);
    }
    let (mut json, mut text) = (Wish::default(), Wish::default());
    for range in wishes.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')) {
        json.hear("application", "json", range);
        text.hear("text", "plain", range);
    }
    match (json.quality, text.quality) {
        (0, 0) => Err(not_acceptable("The answer is application/json or text/plain.")),
        (json, text) if text > json => Ok(Form::Text),
        _ => Ok(Form::Json),
    }
}

/// Whether an answer may be in gzip; where nothing is said, it may.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut wishes = headers.get_all(header::ACCEPT_ENCODING).peekable();
    if wishes.peek().is_none() {
        return true;
    }
    let codings = wishes.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let heard = codings.filter_map(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next()?;
        let named = ["gzip", "x-gzip"].iter().any(|gzip| name.eq_ignore_ascii_case(gzip));
        (named || name == "*").then(|| (named, quality(parts)))
    });
    // What is named counts before what `*` says of all others.
    heard.max().is_some_and(|(_, quality)| quality > 0)
}

pub(super) fn not_acceptable(detail: &'static str) -> Refused {
    Refused::new(Code::NotAcceptable, detail)
}

/// How welcome one type is, by the most specific range that names it.
#[derive(Default)]
struct Wish {
    specificity: u8,
    /// In thousandths.
    quality: u16,
}

impl Wish {
    fn hear(&mut self, kind: &str, subtype: &str, range: &str) {
        let mut parts = range.split(';').map(str::trim);
        let Some((range_kind, range_subtype)) = parts.next().and_then(|r| r.split_once('/')) else {
            return;
        };
        let specificity = if range_kind == "*" && range_subtype == "*" {
            1
        } else if !range_kind.eq_ignore_ascii_case(kind) {
            return;
        } else if range_subtype == "*" {
            2
        } else if range_subtype.eq_ignore_ascii_case(subtype) {
            3
        } else {
            return;
        };
        let quality = quality(parts);
        if (specificity, quality) > (self.specificity, self.quality) {
            *self = Self { specificity, quality };
        }
    }
}

/// Of a range or coding, by its parameters.
fn quality<'p>(parameters: impl Iterator<Item = &'p str>) -> u16 {
    parameters
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .map_or(1000, |(_, value)| thousandths(value.trim()))
}

/// A quality that cannot be read is none: the range is not wished for.
fn thousandths(quality: &str) -> u16 {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, format!("{fraction:0<3}").parse::<u16>()) {
        ("0", Ok(thousandths)) if digits => thousandths,
        ("1", Ok(0)) if digits => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn wanted(lines: &[&str]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        form(&headers).ok()
    }

    #[test]
    fn json_is_the_default() {
        for lines in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["application/*"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["text/plain, application/json"],
            &["*/*;q=0.1"],
            &["text/plain;q=0", "*/*"],
        ] {
            assert_eq!(wanted(lines), Some(Form::Json), "{lines:?}");
        }
    }

    #[test]
    fn text_is_answered_where_it_is_preferred() {
        for lines in [
            &["text/plain"][..],
            &["Text/Plain; charset=utf-8"],
            &["text/*"],
            &["application/json;q=0.5, text/plain;q=0.9"],
            &["application/json;q=0.5", "text/plain"],
            &["*/*;q=0.5, text/plain"],
            &["application/json;q=0, */*"],
        ] {
            assert_eq!(wanted(lines), Some(Form::Text), "{lines:?}");
        }
    }

    #[test]
    fn gzip_is_taken_unless_it_is_left_out() {
        let takes = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
            takes_gzip(&headers)
        };
        assert!(takes_gzip(&HeaderMap::new()));
        for line in ["gzip", "GZIP;q=0.1", "br, x-gzip", "*", "gzip, *;q=0", "identity;q=0, *"] {
            assert!(takes(line), "{line}");
        }
        for line in ["", "identity", "br", "gzip;q=0", "gzip;q=0, *", "*;q=0", "gzip;q=x"] {
            assert!(!takes(line), "{line}");
        }
    }

    #[test]
    fn other_wishes_cannot_be_met() {
        for lines in [
            &["text/html"][..],
            &["application/json;q=0"],
            &["*/*;q=0"],
            &[""],
            &["nonsense"],
            &["text/plain;q=x"],
            &["text/plain;q=2"],
            &["text/plain;q=0.0000"],
        ] {
            assert_eq!(wanted(lines), None, "{lines:?}");
        }
    }
}

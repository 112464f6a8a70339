//! Templates: text with places for secrets.
//!
//! ```text
//! place  = "{{" ( secret / text ) "}}"
//! secret = "secret" string [ "|" ( "json" / "base64" / "url" ) ]
//! string = a quote, anything but a quote or a line break, a quote
//! text   = string                        ; as it is, for braces
//! ```
//! With white space around each. Whatever else follows `{{` is an error: a misspelt place
//! must not come out as text.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A text in which every place is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Secret { name: String, form: Form },
}

/// How a value is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// As a JSON string with its quotes, or `null`.
    Json,
    /// RFC 4648, 4, with padding.
    Base64,
    /// Percent-encoded but for the unreserved characters of RFC 3986, 2.3.
    Url,
}

/// Why a text is no template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {why}")]
pub(super) struct TemplateError {
    /// Both from 1; columns count characters.
    line: usize,
    column: usize,
    why: &'static str,
}

const WANTED: &str = "after '{{' comes 'secret \"NAME\"', or '\"{{\"' for braces as they are";

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let mut place = Place { rest: after };
            let part = place.part();
            parts.push(part.map_err(|why| located(text, place.rest, why))?);
            rest = place.rest;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Which secrets it needs, each once.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let names = self.parts.iter().filter_map(|part| match part {
            Part::Secret { name, form: _ } => Some(name.as_str()),
            Part::Text(_) => None,
        });
        names.collect()
    }

    /// With the values that `value` has for its names; an error is the name of one that is
    /// null where only text can be.
    pub(super) fn filled<'v, 't>(
        &'t self,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Zeroizing<String>, &'t str> {
        let mut filled = Zeroizing::new(String::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Secret { name, form } => {
                    form.write(value(name), &mut filled).ok_or(name.as_str())?;
                }
            }
        }
        Ok(filled)
    }
}

impl Form {
    fn named(word: &str) -> Option<Self> {
        match word {
            "json" => Some(Self::Json),
            "base64" => Some(Self::Base64),
            "url" => Some(Self::Url),
            _ => None,
        }
    }

    fn write(self, value: Option<&str>, to: &mut String) -> Option<()> {
        match (self, value) {
            (Self::Json, value) => {
                let json = Zeroizing::new(serde_json::to_string(&value).ok()?);
                to.push_str(&json);
            }
            (_, None) => return None,
            (Self::Plain, Some(value)) => to.push_str(value),
            (Self::Base64, Some(value)) => STANDARD.encode_string(value, to),
            (Self::Url, Some(value)) => value.bytes().for_each(|byte| percent(byte, to)),
        }
        Some(())
    }
}

fn percent(byte: u8, to: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        to.push(byte.into());
    } else {
        // Writing to memory does not fail.
        let _ = write!(to, "%{byte:02X}");
    }
}

/// What is read of one place, from behind its braces on.
struct Place<'t> {
    rest: &'t str,
}

impl<'t> Place<'t> {
    fn part(&mut self) -> Result<Part, &'static str> {
        self.space();
        if self.rest.starts_with('"') {
            let text = self.string()?.to_owned();
            self.end("after the text comes '}}'")?;
            return Ok(Part::Text(text));
        }
        self.take("secret").ok_or(WANTED)?;
        self.space();
        let name = self.string()?;
        if name.is_empty() {
            return Err("a secret has a name");
        }
        self.space();
        let form = match self.take("|") {
            Some(()) => self.form()?,
            None => Form::Plain,
        };
        self.end("after the secret comes '}}', or one of '| json', '| base64', '| url'")?;
        Ok(Part::Secret { name: name.to_owned(), form })
    }

    fn form(&mut self) -> Result<Form, &'static str> {
        self.space();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let form = Form::named(word).ok_or("after '|' comes one of json, base64, url")?;
        self.rest = rest;
        Ok(form)
    }

    fn string(&mut self) -> Result<&'t str, &'static str> {
        let inside = self.rest.strip_prefix('"').ok_or("a name stands in double quotes")?;
        let (string, rest) = inside.split_once('"').ok_or("this quote is never closed")?;
        if string.contains('\n') {
            return Err("this quote is not closed on its line");
        }
        self.rest = rest;
        Ok(string)
    }

    fn end(&mut self, wanted: &'static str) -> Result<(), &'static str> {
        self.space();
        self.take("}}").ok_or(wanted)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// `rest` is the end of `text` from the fault on.
fn located(text: &str, rest: &str, why: &'static str) -> TemplateError {
    let before = text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default();
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    TemplateError { line, column: last_line.chars().count() + 1, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let value = |name: &str| match name {
            "plain" => Some("hunter2"),
            "odd" => Some("a \"b\"\n/ä{{ secret \"plain\" }}"),
            _ => None,
        };
        Template::parse(text).unwrap().filled(value).unwrap().to_string()
    }

    #[test]
    fn a_place_is_filled_in_its_form() {
        assert_eq!(filled(""), "");
        assert_eq!(filled("a {{ secret \"plain\" }} b"), "a hunter2 b");
        assert_eq!(filled("{{secret\"plain\"}}{{\n secret  \"plain\"\n}}"), "hunter2hunter2");
        assert_eq!(filled("{{ secret \"odd\" | json }}"), r#""a \"b\"\n/ä{{ secret \"plain\" }}""#);
        assert_eq!(filled("{{ secret \"plain\"|base64}}"), "aHVudGVyMg==");
        assert_eq!(
            filled("{{ secret \"odd\" | url }}"),
            "a%20%22b%22%0A%2F%C3%A4%7B%7B%20secret%20%22plain%22%20%7D%7D"
        );
        assert_eq!(filled("{{ secret \"none\" | json }}"), "null");
    }

    #[test]
    fn braces_that_open_no_place_stay() {
        assert_eq!(filled("{ } }} {\"a\": {}}"), "{ } }} {\"a\": {}}");
        assert_eq!(filled("{{ \"{{\" }} x }}"), "{{ x }}");
    }

    #[test]
    fn what_a_value_holds_is_no_template() {
        assert!(filled("{{ secret \"odd\" }}").contains("{{ secret \"plain\" }}"));
    }

    #[test]
    fn null_is_text_in_json_only() {
        let template = Template::parse("{{ secret \"none\" }}").unwrap();
        assert_eq!(template.filled(|_| None), Err("none"));
    }

    #[test]
    fn names_are_told_once() {
        let text = "{{ secret \"b\" }}{{ secret \"a\" | url }}{{ secret \"b\" | json }}";
        let template = Template::parse(text).unwrap();
        assert_eq!(template.names().into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn anything_else_in_braces_is_an_error_with_its_place() {
        for (text, line, column, word) in [
            ("{{", 1, 3, "secret \"NAME\""),
            ("a\nä {{ sekret \"a\" }}", 2, 6, "secret \"NAME\""),
            ("{{- secret \"a\" }}", 1, 3, "secret \"NAME\""),
            ("{{ secret }}", 1, 11, "double quotes"),
            ("{{ secret 'a' }}", 1, 11, "double quotes"),
            ("{{ secret \"\" }}", 1, 13, "has a name"),
            ("{{ secret \"a }}", 1, 11, "never closed"),
            ("{{ secret \"a\n\" }}", 1, 11, "not closed on its line"),
            ("{{ secret \"a\" }", 1, 15, "comes '}}'"),
            ("{{ secret \"a\" | hex }}", 1, 17, "one of json, base64, url"),
            ("{{ secret \"a\" | json | url }}", 1, 22, "comes '}}'"),
            ("{{ \"{{\" | json }}", 1, 9, "comes '}}'"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\{\\{|\\}\\}|secret|\"|\\||json|[ a\n\u{e4}])*") {
            let _ = Template::parse(&text);
        }
    }
}

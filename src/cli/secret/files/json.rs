//! JSON objects.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::tree::{MOST_DEEP, Member, Node};
use super::{Detail, Fault, Item};
use crate::domain::SecretValue;

pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let tree = Tree { depth: 0 }.deserialize(&mut reader);
    // The library's sentence may repeat what it met.
    tree.and_then(|tree| reader.end().map(|()| tree)).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Fault::at(place, "it is not JSON; is a comma or a quote missing, or one too many?")
    })
}

/// What stands this deep.
struct Tree {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(text)))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other("true or false"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other("a number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Node, A::Error> {
        if self.depth == MOST_DEEP {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Node::Other("an object"));
        }
        let mut members = Vec::new();
        while let Some(name) = object.next_key::<String>()? {
            let node = object.next_value_seed(Self { depth: self.depth + 1 })?;
            let place = format!("name number {}", members.len() + 1);
            members.push(Member { place, name: Zeroizing::new(name), node });
        }
        Ok(Node::Object(members))
    }
}

pub(super) fn write(items: &[Item], detail: Detail) -> Zeroizing<String> {
    let mut text = Zeroizing::new("{".to_owned());
    for (number, item) in items.iter().enumerate() {
        text.push_str(if number == 0 { "\n  " } else { ",\n  " });
        quote(item.name.as_str(), &mut text);
        text.push_str(": ");
        write_item(item, detail, &mut text);
    }
    text.push_str(if items.is_empty() { "}\n" } else { "\n}\n" });
    text
}

fn write_item(Item { name: _, value, window }: &Item, detail: Detail, text: &mut String) {
    let write_value = |text: &mut String| match value.as_ref().map(SecretValue::expose) {
        Some(value) => quote(value, text),
        None => text.push_str("null"),
    };
    if detail == Detail::Values {
        return write_value(text);
    }
    text.push_str("{\"value\": ");
    write_value(text);
    let ends = [("notBefore", window.not_before()), ("expiresOn", window.expires_on())];
    for (property, end) in ends {
        if let Some(end) = end {
            *text += &format!(", \"{property}\": \"{end}\"");
        }
    }
    text.push('}');
}

/// As a string of JSON, which is one of YAML too: what YAML has no printable character
/// for is escaped.
pub(super) fn quote(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => *text += &format!("\\u{:04x}", u32::from(c)),
            _ => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::{Format, read};

    #[test]
    fn what_is_no_value_is_refused_by_its_path_alone() {
        for (text, word) in [
            (r#"{"a": 81972}"#, "'a': it is a number"),
            (r#"{"a": true}"#, "'a': it is true or false"),
            (r#"{"a": ["hunter2"]}"#, "'a': it is a list"),
            (r#"{"a": {"value": {"hunter2": 1}}}"#, "'a'.value: it is an object"),
            (r#"{"a": {"value": 81972}}"#, "'a'.value: it is a number"),
            (r#"{"a": {"value": "hunter2", "hunter2": 1}}"#, "'a': it has a property"),
            (r#"{"a": {"value": "x", "VALUE": "hunter2"}}"#, "'a'.value: it is said more"),
            (r#"{"a": {"expiresOn": "2030-01-01T00:00:00Z"}}"#, "'a': value is missing"),
            (r#"{"a": {"value": "x", "expiresOn": "hunter2"}}"#, "'a'.expiresOn: "),
            (r#"{"a": {"value": "x", "notBefore": null}}"#, "'a'.notBefore: it must be"),
            (r#"{"a": "hunter2", "a": "x"}"#, "'a' more than once"),
            (r#"{"a": "x", "hunter2/": "x"}"#, "name number 2: "),
            (r#"["hunter2"]"#, "one object"),
            (r#"{"a": "hunter2",}"#, "line 1, column 17: it is not JSON"),
            ("{\"a\": \"hunter2\n\"}", "line 2, column 0: it is not JSON"),
            (r#"{"a": "x"} "hunter2""#, "line 1, column 12: it is not JSON"),
            ("", "it is not JSON"),
        ] {
            let fault = read(text, Format::Json).expect_err(text).to_string();
            assert!(fault.contains(word), "{text}: {fault}");
            assert!(!fault.contains("hunter2") && !fault.contains("81972"), "{fault}");
        }
    }

    #[test]
    fn an_empty_window_is_refused_at_its_end() {
        let text = r#"{"a": {"value": "x", "notBefore": "2030-01-01T00:00:00Z",
                       "expiresOn": "2030-01-01T00:00:00Z"}}"#;
        let fault = read(text, Format::Json).unwrap_err().to_string();
        assert!(fault.starts_with("'a'.expiresOn: "), "{fault}");
    }

    #[test]
    fn deep_nesting_is_refused_and_no_stack_is_used_up() {
        let text = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&text, Format::Json).is_err());
    }
}

//! One JSON object, read strictly.
//!
//! Of two members with one name readers take the first, the last or either: a
//! token or a document that has such is refused (RFC 8725, 2.4).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

pub(super) struct Object(BTreeMap<String, Value>);

impl Object {
    /// `None` where it is anything else, or has more behind it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands there twice"));
            }
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_and_nothing_else() {
        let object = Object::parse(br#" {"a": "b", "c": {"d": 1, "d": 2}} "#).unwrap();
        assert_eq!(object.text("a"), Some("b"));
        assert!(object.has("c") && object.text("c").is_none() && !object.has("d"));
        for text in ["", "[]", "null", "\"a\"", "{}{}", "{\"a\":1,\"a\":1}", "{\"a\":1", "{a:1}"] {
            assert!(Object::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Object::parse(b"{\"a\":\"\\u0061\",\"\\u0061\":1}").is_none(), "written otherwise");
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_none());
        assert!(Object::parse("[".repeat(100_000).as_bytes()).is_none());
    }
}

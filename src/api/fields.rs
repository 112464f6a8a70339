//! The properties of a request's body: each of them known and given once, and all
//! that is wrong with them told at once.

use std::borrow::Cow;

use super::json::{self, Top, Value};
use super::problem::{FieldErrors, showable};
use super::secret::BadBody;

/// A body while it is read.
pub(super) struct Fields {
    seen: Vec<&'static str>,
    errors: FieldErrors,
}

impl Fields {
    /// Faults beyond this many fields are not told, so that a body of a hundred
    /// thousand misspelt properties is not answered in kind.
    pub const MAX: usize = 16;

    /// Reads a JSON object. Its properties are `known`, whatever their case, and of
    /// any other `unknown` is said; `take` is called once for each.
    pub fn read(
        body: &[u8],
        known: &[&'static str],
        unknown: &'static str,
        mut take: impl FnMut(&mut Self, &'static str, Value),
    ) -> Result<Self, BadBody> {
        let mut fields = Self { seen: Vec::new(), errors: FieldErrors::new() };
        let top = json::read(body, |name, value| {
            match known.iter().copied().find(|field| name.eq_ignore_ascii_case(field)) {
                None => fields.fault(showable(&name), unknown),
                Some(field) if fields.given(field) => {
                    fields.fault(field, "is given more than once");
                }
                Some(field) => {
                    fields.seen.push(field);
                    take(&mut fields, field, value);
                }
            }
        });
        match top {
            Err(malformed) => return Err(BadBody::Malformed(malformed)),
            Ok(Top::Other) => fields.fault("body", "must be a JSON object"),
            Ok(Top::Object) => {}
        }
        Ok(fields)
    }

    pub fn given(&self, field: &str) -> bool {
        self.seen.contains(&field)
    }

    pub fn is_faulty(&self, field: &str) -> bool {
        self.errors.contains_key(field)
    }

    pub fn are_sound(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn fault(&mut self, field: &str, message: impl Into<Cow<'static, str>>) {
        if self.errors.len() < Self::MAX || self.is_faulty(field) {
            let messages = self.errors.entry(field.to_owned()).or_default();
            let message = message.into();
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
    }

    pub fn into_error(self) -> BadBody {
        BadBody::Invalid(self.errors)
    }
}

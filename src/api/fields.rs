//! The properties of a request's body: each of them known and given once, and all
//! that is wrong with them told at once.

use std::borrow::Cow;

use super::json::{self, Members, Top, Value};
use super::problem::{FieldErrors, showable};
use super::secret::BadBody;

/// A body while it is read, or an object within one.
#[derive(Default)]
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
        let mut fields = Self::default();
        let top = json::read(body, |name, value| {
            if let Some(field) = fields.known(&name, known, unknown) {
                take(&mut fields, field, value);
            }
        });
        match top {
            Err(malformed) => return Err(BadBody::Malformed(malformed)),
            Ok(Top::Other) => fields.fault("body", "must be a JSON object"),
            Ok(Top::Object) => {}
        }
        Ok(fields)
    }

    /// The same of an object within a body.
    pub fn of(
        members: Members,
        known: &[&'static str],
        unknown: &'static str,
        mut take: impl FnMut(&mut Self, &'static str, Value),
    ) -> Self {
        let mut fields = Self::default();
        for (name, value) in members {
            if let Some(field) = fields.known(&name, known, unknown) {
                take(&mut fields, field, value);
            }
        }
        fields
    }

    /// Which of the `known` it is, the first time that it is given.
    fn known(
        &mut self,
        name: &str,
        known: &[&'static str],
        unknown: &'static str,
    ) -> Option<&'static str> {
        let found = known.iter().copied().find(|field| name.eq_ignore_ascii_case(field));
        match found {
            None => self.fault(showable(name), unknown),
            Some(field) if self.given(field) => self.fault(field, "is given more than once"),
            Some(field) => {
                self.seen.push(field);
                return Some(field);
            }
        }
        None
    }

    /// Takes over the faults of the object at `place` within this one.
    pub fn absorb(&mut self, place: &str, inner: Self) {
        for (field, messages) in inner.errors {
            for message in messages {
                self.fault(&format!("{place}.{field}"), message);
            }
        }
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

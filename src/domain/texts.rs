//! Many short texts.

use std::fmt;

/// Texts in one piece of memory: of a thousand, each in one of its own would be a thousand
/// allocations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Texts {
    /// With room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::new() }
    }

    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Of all of them.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| self.text.get(*begin..*end).unwrap_or_default())
    }

    pub fn last(&self) -> Option<&str> {
        let (end, before) = self.ends.split_last()?;
        self.text.get(before.last().copied().unwrap_or(0)..*end)
    }
}

impl<S: AsRef<str>> FromIterator<S> for Texts {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut all = Self::default();
        texts.into_iter().for_each(|text| all.push(text.as_ref()));
        all
    }
}

/// What they say may be for nobody's eyes.
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Texts({} of [{} bytes])", self.len(), self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_one_piece_are_the_texts() {
        let mut texts = Texts::with_room(1);
        assert!(texts.is_empty() && texts.last().is_none() && texts.iter().next().is_none());
        let given = ["a", "", "\u{e4}\u{1f600}", &"x".repeat(99), ""];
        for (text, before) in given.into_iter().zip(0..) {
            assert_eq!(texts.len(), before);
            texts.push(text);
            assert_eq!(texts.last(), Some(text));
        }
        assert_eq!(texts.iter().collect::<Vec<_>>(), given);
        assert_eq!(texts.bytes(), 1 + 6 + 99);
        assert_eq!(texts, given.into_iter().collect());
        assert_eq!(format!("{texts:?}"), "Texts(5 of [106 bytes])");
    }
}

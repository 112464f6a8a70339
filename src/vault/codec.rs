//! Checked reading and writing of stored fields.
//!
//! Stored bytes are untrusted input: every read can fail, nothing is indexed,
//! and what is left over at the end is an error too.

use crate::domain::Timestamp;

/// The bytes are not of the form expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes fields off the front of a slice.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// The format byte that stands in front of every record.
    pub(super) fn format(&mut self, known: u8) -> Result<(), Malformed> {
        if self.byte()? == known { Ok(()) } else { Err(Malformed) }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn timestamp(&mut self) -> Result<Timestamp, Malformed> {
        self.array().map(|bytes| Timestamp::from_unix_micros(i64::from_be_bytes(bytes)))
    }

    pub(super) fn optional_timestamp(&mut self) -> Result<Option<Timestamp>, Malformed> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.timestamp().map(Some),
            _ => Err(Malformed),
        }
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A text behind its length in one byte.
    pub(super) fn short_text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.byte()?);
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed)
    }

    /// A text behind its length in two bytes.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.u16()?);
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed)
    }

    /// How many bytes there still are.
    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

pub(super) fn put_optional_timestamp(out: &mut Vec<u8>, at: Option<Timestamp>) {
    match at {
        None => out.push(0),
        Some(at) => {
            out.push(1);
            out.extend_from_slice(&at.unix_micros().to_be_bytes());
        }
    }
}

/// # Panics
/// If the text is longer than 255 bytes; every caller passes a bounded name.
pub(super) fn put_short_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names are at most 127 bytes"));
    out.extend_from_slice(text.as_bytes());
}

/// # Panics
/// If the text is longer than 65,535 bytes; every caller passes a bounded one.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a bounded text");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

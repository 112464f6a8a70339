//! What the admin socket carries, in both directions: frames of
//! `kind (1) ‖ length (4, big-endian) ‖ payload`.
//!
//! | from | kind | payload |
//! | --- | --- | --- |
//! | client | `c` | the command, JSON; always first |
//! | client | `d` | a piece of the file that the command reads; an empty one ends it |
//! | server | `p` | how far it is, JSON |
//! | server | `d` | a piece of the file that the command writes |
//! | server | `r`, `f` | the reply or the failure, JSON; always last |
//!
//! Both ends belong to one program and usually to one version of it.

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    Data,
    Progress,
    Reply,
    Failure,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Command => b'c',
            Self::Data => b'd',
            Self::Progress => b'p',
            Self::Reply => b'r',
            Self::Failure => b'f',
        }
    }

    /// What its payload may hold: a command is a line, a list of tenants is long.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Command | Self::Progress | Self::Failure => 64 * 1024,
            Self::Data => 1024 * 1024,
            Self::Reply => 256 * 1024 * 1024,
        }
    }
}

const KINDS: [Kind; 5] = [Kind::Command, Kind::Data, Kind::Progress, Kind::Reply, Kind::Failure];

pub(super) const HEADER_BYTES: usize = 5;

/// What precedes a payload of `length` bytes; `None` where it is too long.
pub(super) fn header(kind: Kind, length: usize) -> Option<[u8; HEADER_BYTES]> {
    let length = u32::try_from(length).ok().filter(|_| length <= kind.max_bytes())?;
    let [a, b, c, d] = length.to_be_bytes();
    Some([kind.byte(), a, b, c, d])
}

/// Kind and length of the payload that follows; `None` for what no end of this
/// version sends.
pub(super) fn parse([kind, length @ ..]: [u8; HEADER_BYTES]) -> Option<(Kind, usize)> {
    let kind = KINDS.into_iter().find(|known| known.byte() == kind)?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (length <= kind.max_bytes()).then_some((kind, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for kind in KINDS {
            for length in [0, 1, kind.max_bytes()] {
                let header = header(kind, length).unwrap();
                assert_eq!(parse(header), Some((kind, length)));
            }
            assert_eq!(header(kind, kind.max_bytes() + 1), None);
        }
    }

    #[test]
    fn what_no_end_sends_is_refused() {
        assert_eq!(parse(*b"x\0\0\0\0"), None);
        assert_eq!(parse(*b"GET /"), None);
        assert_eq!(parse(*b"c\xff\xff\xff\xff"), None);
    }
}

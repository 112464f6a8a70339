//! A KEK in shares, which several people have: it is asked for share by share.

use super::super::shares::{self, Input};
use super::{CliError, Material, NewKek, Proved};
use crate::crypto::{Gathering, KekRecord, KekWay};

pub(super) struct Source {
    pub(super) input: Input,
}

impl super::Source for Source {
    fn fetch(&self) -> Result<Box<dyn Material>, CliError> {
        Ok(Box::new(Shares { input: self.input }))
    }

    fn create(&self) -> Result<NewKek, CliError> {
        Err(CliError::usage(
            "a KEK in shares is made with the store ('tenure init'), or for one that there is \
             ('tenure kek rewrap --to shamir')",
        ))
    }

    fn protection(&self) -> String {
        "The KEK is in shares (kek.source = \"shamir\"), and stored nowhere. A server starts \
         sealed, and whoever steals it has no key. If more shares are lost than it can do \
         without, nothing that is stored can be read again, by anyone, and no backup of it either."
            .to_owned()
    }
}

/// Shares are asked for once it is known of which set.
struct Shares {
    input: Input,
}

impl Material for Shares {
    fn prove(self: Box<Self>, record: &KekRecord) -> Result<Option<Proved>, CliError> {
        let Some(gathering) = Gathering::of(record) else { return Ok(None) };
        let way = KekWay::Shamir(gathering.set());
        let kek = shares::gather(gathering, self.input)?;
        Ok(Some(Proved { kek, way }))
    }
}

//! `kek.source = "env"`: a variable of the environment.

use zeroize::Zeroizing;

use super::{CliError, LOST, Material, NewKek, Plain};
use crate::crypto::{Kek, KekWay};

/// Of this variable.
pub(super) struct Source(pub(super) String);

impl Source {
    fn read(&self) -> Result<Kek, CliError> {
        let Self(name) = self;
        let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
            CliError::usage(format!(
                "the variable {name} (kek.env) does not hold the KEK; 'tenure kek generate' \
                 makes a new one"
            ))
        })?;
        Kek::parse(&text).map_err(|error| CliError::usage(format!("the variable {name}: {error}")))
    }
}

impl super::Source for Source {
    fn fetch(&self) -> Result<Box<dyn Material>, CliError> {
        Ok(Box::new(Plain { kek: self.read()?, way: KekWay::Env }))
    }

    fn create(&self) -> Result<NewKek, CliError> {
        Ok(NewKek { kek: self.read()?, way: KekWay::Env, created: None })
    }

    fn protection(&self) -> String {
        format!(
            "The KEK is in the environment variable {}. Whoever can read this process's \
             environment has it: its user, root, and whatever sets the variable. {LOST}",
            self.0
        )
    }
}

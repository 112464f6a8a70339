//! The commands of daily use, as a user types them: against a real server, on a
//! terminal where they behave differently there.

mod copy;
mod completions;
mod desk;
mod edit;
mod exists;
mod export;
mod get;
mod import;
mod interrupted;
mod list;
mod local;
mod put;
mod rm;
mod guide;
mod keyring;
mod login;
mod wire;

pub use desk::Desk;

//! The commands of daily use, as a user types them: against a real server, on a
//! terminal where they behave differently there.

mod completions;
mod copy;
mod desk;
mod edit;
mod exists;
mod export;
mod get;
mod guide;
mod import;
mod interrupted;
mod keyring;
mod list;
mod local;
mod login;
mod put;
mod render;
mod rm;
mod run;
mod wire;

pub use desk::Desk;

//! The commands of daily use, as a user types them: against a real server, on a
//! terminal where they behave differently there.

mod completions;
mod desk;
mod get;
mod guide;
mod keyring;
mod login;
mod wire;

pub use desk::Desk;

//! The commands of daily use, as a user types them: against a real server, on a
//! terminal where they behave differently there.

mod desk;
mod export;
mod get;
mod import;
mod local;

pub use desk::Desk;
